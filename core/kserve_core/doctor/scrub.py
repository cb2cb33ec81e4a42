"""The last line of defence: no text of a report holds a secret, whatever a server or a library wrote into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from kserve_core.doctor.findings import Finding

_SHORTEST = 4
"""Shorter secrets are not looked for: they would be found in ordinary words."""
_SECRET_HEADERS = ("authorization", "key", "token", "secret", "cookie", "password")


class Scrubber:
    """Takes secrets out of texts."""

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def add(self, secret: str | None) -> None:
        """Makes a text a secret, and so each of its words (`Bearer <token>`)."""
        for part in {secret or "", *(secret or "").split()}:
            if len(part) >= _SHORTEST and part.lower() not in {"bearer", "basic"}:
                self._secrets.add(part)

    def add_headers(self, headers: Mapping[str, str]) -> None:
        """Makes the values of headers that tell who one is secrets."""
        for name, value in headers.items():
            if any(word in name.lower() for word in _SECRET_HEADERS):
                self.add(value)

    def text(self, text: str) -> str:
        """A text without secrets."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def finding(self, finding: Finding) -> Finding:
        """A finding without secrets."""
        return replace(
            finding,
            title=self.text(finding.title),
            detail=self.text(finding.detail),
            fix=self.text(finding.fix),
            facts=self.value(dict(finding.facts)),
        )

    def value(self, value: Any) -> Any:
        """JSON values without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {key: self.value(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.value(item) for item in value]
        return value
