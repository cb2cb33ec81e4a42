"""Models-as-a-Service gateways: the models a user may call there, and keys for them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kserve_core._json import decode_object, encode, unexpected
from kserve_core.calls import Call, Flow, Response
from kserve_core.client import RuntimeClient
from kserve_core.credentials import ApiKey, clean_token
from kserve_core.discovery.documents import Json, dig, text
from kserve_core.discovery.times import epoch
from kserve_core.discovery.tokens import Issued, IssuedToken, Kept
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError

_MODELS = "a list of models"
_KEY = "a new API key"
_DURATION = re.compile(r"(\d+h)?(\d+m)?(\d+s)?|\d+d")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class MaaSModel:
    """A model of a gateway.

    Attributes:
        id: The name requests give it.
        url: Where it is, as `base_url` takes it; None if the gateway names no address. It may name another host than
            the gateway's: look before sending it a key.
        ready: Whether it can answer; None if the gateway does not say.
        owned_by: Whose it is, or `""`.
        extra: What else the gateway says about it.
    """

    id: str
    url: str | None = None
    ready: bool | None = None
    owned_by: str = ""
    extra: Json = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class MaaSToken(IssuedToken):
    """A gateway's API key, made with the token of a user or a service account and renewed before it expires.

    Keys of a gateway are made by `POST /maas-api/v1/api-keys`; each is bound to one subscription. A key that is
    there already (`sk-oai-...`) needs none of this: give it as `api_key`.

    Attributes:
        endpoint: The gateway, with the token that makes keys. `MaaSToken.create` makes both.
        name: The name the key gets.
        expires_in: How long a key is good (`1h`, `30d`).
        subscription: The subscription it is for; None for the gateway's choice.
    """

    endpoint: Endpoint
    name: str = "kserve-integrations"
    expires_in: str = "1h"
    subscription: str | None = None
    _kept: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)

    @classmethod
    def create(
        cls,
        base_url: str,
        *,
        api_key: ApiKey,
        name: str = "kserve-integrations",
        expires_in: str = "1h",
        subscription: str | None = None,
        **options: Any,
    ) -> MaaSToken:
        """Makes a source from what people type.

        Args:
            base_url: The gateway (`https://maas.apps.example.com`).
            api_key: The token to make keys with: that of `oc whoami -t`, or a service account's.
            name: See `MaaSToken`.
            expires_in: See `MaaSToken`.
            subscription: See `MaaSToken`.
            **options: Those of `Endpoint.create`.

        Raises:
            ConfigurationError: If something cannot be used as given.
        """
        return cls(Endpoint.create(base_url, api_key=api_key, **options), name, expires_in, subscription)

    def __post_init__(self) -> None:
        if not self.expires_in or not _DURATION.fullmatch(self.expires_in):
            msg = "expires_in must be a duration."
            raise ConfigurationError(msg, hint="For example expires_in='8h' or '30d'.")
        if not self.name:
            msg = "The key needs a name."
            raise ConfigurationError(msg, hint="Give the key a name that tells what it is for.")

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.endpoint, self.name, self.expires_in, self.subscription))

    def _connect(self) -> tuple[RuntimeClient[None], Flow[Issued]]:
        body = {"name": self.name, "expiresIn": self.expires_in}
        if self.subscription is not None:
            body["subscription"] = self.subscription
        call = Call(method="POST", path=_path(self.endpoint, "api-keys"), body=encode(body), read=_key, retry=False)

        def flow() -> Flow[Issued]:
            answer: Json = yield call
            now = time.time()
            return Issued.of(clean_token(text(answer, "key"), "the issued key"), self._expiry(answer, now), now)

        return RuntimeClient(self.endpoint, None), flow()

    def _expiry(self, answer: Json, now: float) -> float:
        moment = dig(answer, "expiresAt")
        if isinstance(moment, str) and (found := epoch(moment)) is not None:
            return found
        if type(moment) is int:
            return float(moment)
        seconds = sum(int(part[:-1]) * _UNITS[part[-1]] for part in re.findall(r"\d+[smhd]", self.expires_in))
        return now + seconds


def list_maas_models(base_url: str | Endpoint, *, api_key: ApiKey | None = None, **options: Any) -> list[MaaSModel]:
    """The models that a token or key may call at a Models-as-a-Service gateway.

    Args:
        base_url: The gateway (`https://maas.apps.example.com`), or an endpoint that is one.
        api_key: A key of the gateway, or the token of a user or service account.
        **options: Those of `Endpoint.create`.

    Raises:
        KServeError: If the gateway cannot be asked.
    """
    client: RuntimeClient[None] = RuntimeClient(_endpoint(base_url, api_key, options), None)
    try:
        return client.run(_list(client.endpoint))
    finally:
        client.close()


async def alist_maas_models(
    base_url: str | Endpoint, *, api_key: ApiKey | None = None, **options: Any
) -> list[MaaSModel]:
    """As `list_maas_models`, from an event loop."""
    client: RuntimeClient[None] = RuntimeClient(_endpoint(base_url, api_key, options), None)
    try:
        return await client.arun(_list(client.endpoint))
    finally:
        await client.aclose()


def _endpoint(base_url: str | Endpoint, api_key: ApiKey | None, options: dict[str, Any]) -> Endpoint:
    if not isinstance(base_url, Endpoint):
        return Endpoint.create(base_url, api_key=api_key, **options)
    if api_key is not None or options:
        msg = "An endpoint has its own settings; give them when it is made."
        raise ConfigurationError(msg)
    return base_url


def _list(endpoint: Endpoint) -> Call[list[MaaSModel]]:
    return Call(method="GET", path=_path(endpoint, "models"), read=_models)


def _path(endpoint: Endpoint, what: str) -> str:
    base = re.sub(r"(/maas-api)?(/v1)?$", "", endpoint.base_path)
    return f"{base}/maas-api/v1/{what}"


def _models(response: Response) -> list[MaaSModel]:
    data = decode_object(response, _MODELS).get("data")
    if data is None:
        return []  # a user without subscriptions
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise unexpected(_MODELS, "its `data` is no list", status=response.status)
    return [_model(entry) for entry in data if isinstance(entry, dict) and isinstance(entry.get("id"), str)]


def _model(entry: dict[str, Any]) -> MaaSModel:
    ready = entry.get("ready")
    known = {"id", "url", "ready", "owned_by"}
    return MaaSModel(
        id=entry["id"],
        url=text(entry, "url") or None,
        ready=ready if isinstance(ready, bool) else None,
        owned_by=text(entry, "owned_by"),
        extra={key: value for key, value in entry.items() if key not in known},
    )


def _key(response: Response) -> Json:
    answer = decode_object(response, _KEY)
    if not text(answer, "key"):
        raise unexpected(_KEY, "it has no `key`", status=response.status)
    return answer
