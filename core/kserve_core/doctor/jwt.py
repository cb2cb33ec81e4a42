"""What a token says about itself. It is decoded here, sent nowhere and never shown."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

API_SERVER = "https://kubernetes.default.svc"
"""The audience of tokens for the cluster's API server, which its auth proxies expect too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFacts:
    """What is to be known of a token without showing it.

    Attributes:
        kind: What it looks like: `JWT`, `OpenShift user token`, `MaaS key`, or `opaque token`.
        subject: Whose it is, if it says.
        issuer: Who issued it, if it says.
        audiences: Whom it is for, if it says.
        expires: When it stops being good, in seconds since the epoch, if it says.
        starts: When it starts being good, if it says.
    """

    kind: str
    subject: str = ""
    issuer: str = ""
    audiences: tuple[str, ...] = ()
    expires: float | None = None
    starts: float | None = None

    @property
    def service_account(self) -> tuple[str, str] | None:
        """Namespace and name of the service account it is of, or None."""
        parts = self.subject.split(":")
        is_one = len(parts) == 4 and parts[:2] == ["system", "serviceaccount"]
        return (parts[2], parts[3]) if is_one else None

    def is_for_api_server(self) -> bool | None:
        """Whether the API server is among its audiences; None if it names none."""
        if not self.audiences:
            return None
        return any(item.rstrip("/") == API_SERVER or "kubernetes" in item for item in self.audiences) or (
            bool(self.issuer) and self.issuer in self.audiences  # the issuer is the audience on hosted clusters
        )

    def to_dict(self) -> dict[str, Any]:
        """The facts as JSON values."""
        return {
            "kind": self.kind,
            "subject": self.subject or None,
            "issuer": self.issuer or None,
            "audiences": list(self.audiences),
            "expires": self.expires,
        }


def read_token(token: str) -> TokenFacts:
    """What a token says about itself; its signature is not checked.

    Args:
        token: The token.
    """
    if token.startswith("sha256~"):
        return TokenFacts(kind="OpenShift user token")
    if token.startswith("sk-oai-"):
        return TokenFacts(kind="MaaS key")
    parts = token.split(".")
    claims = _decoded(parts[1]) if len(parts) == 3 else None
    if claims is None or _decoded(parts[0]) is None:
        return TokenFacts(kind="opaque token")
    audiences = claims.get("aud")
    listed = [audiences] if isinstance(audiences, str) else audiences if isinstance(audiences, list) else []
    return TokenFacts(
        kind="JWT",
        subject=_text(claims.get("sub")),
        issuer=_text(claims.get("iss")),
        audiences=tuple(_text(item) for item in listed if isinstance(item, str))[:10],
        expires=_number(claims.get("exp")),
        starts=_number(claims.get("nbf")),
    )


def _decoded(part: str) -> Mapping[str, Any] | None:
    try:
        value = orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, binascii.Error):
        return None
    return value if isinstance(value, dict) else None


def _text(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return "".join(char for char in value if char.isprintable())[:200]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
