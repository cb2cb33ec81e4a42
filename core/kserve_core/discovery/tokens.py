"""Tokens that are asked for and expire: renewed in time, and asked for anew when one is refused."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
import weakref
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kserve_core.calls import Flow
from kserve_core.client import RuntimeClient
from kserve_core.credentials import TokenSource, clean_token
from kserve_core.discovery.cluster import ClusterAccess
from kserve_core.discovery.documents import Json, text
from kserve_core.discovery.kubeconfig import kubeconfig_files
from kserve_core.discovery.times import epoch
from kserve_core.discovery.wanted import check_name
from kserve_core.errors import BadResponseError, ConfigurationError, KServeError

logger = logging.getLogger("kserve_core.tokens")

RENEW_AT = 0.8
"""The part of a token's life after which it is renewed, as the kubelet does."""
AGAIN_AFTER = 15.0
"""Seconds for which the old token is used when the next one could not be had."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A token somebody issued.

    Attributes:
        token: The token.
        renew: When to ask for the next one, in seconds since the epoch.
        expires: When it stops being good.
    """

    token: str = field(repr=False)
    renew: float
    expires: float

    @classmethod
    def of(cls, token: str, expires: float, now: float) -> Issued:
        """A token and when it ends."""
        return cls(token, now + max(0.0, expires - now) * RENEW_AT, expires)


class Kept:
    """The token last issued, how often none could be had, and who may ask for the next one."""

    def __init__(self) -> None:
        self.issued: Issued | None = None
        self.failures = 0
        self.failure: KServeError | None = None
        self.lock = threading.Lock()
        self._loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()

    def loop_lock(self) -> asyncio.Lock:
        """The running event loop's lock."""
        for other in [other for other in self._loops if other.is_closed()]:
            del self._loops[other]
        return self._loops.setdefault(asyncio.get_running_loop(), asyncio.Lock())


class IssuedToken(TokenSource):
    """A token that a server issues for a while. One request for it is under way at a time, per event loop."""

    _kept: Kept

    @abstractmethod
    def _connect(self) -> tuple[RuntimeClient[None], Flow[Issued]]:
        """Whom to ask, and how; reads files, sends nothing."""

    def token(self, *, refresh: bool = False) -> str:
        """The token, asked for if there is none that is good.

        Args:
            refresh: The last token was refused.

        Raises:
            KServeError: If it cannot be had.
        """
        before, failures = self._kept.issued, self._kept.failures
        ready = self._ready(before, refresh=refresh)
        if ready is not None:
            return ready
        with self._kept.lock:
            meanwhile = self._meanwhile(before, failures, refresh=refresh)
            if meanwhile is not None:
                return meanwhile
            client, flow = self._connect()
            try:
                self._kept.issued = issued = client.run(flow)
            except KServeError as error:
                return self._failed(error, refresh=refresh)
            finally:
                client.close()
            return issued.token

    async def atoken(self, *, refresh: bool = False) -> str:
        """As `token`, from an event loop."""
        before, failures = self._kept.issued, self._kept.failures
        ready = self._ready(before, refresh=refresh)
        if ready is not None:
            return ready
        async with self._kept.loop_lock():
            meanwhile = self._meanwhile(before, failures, refresh=refresh)
            if meanwhile is not None:
                return meanwhile
            client, flow = await asyncio.to_thread(self._connect)
            try:
                self._kept.issued = issued = await client.arun(flow)
            except KServeError as error:
                return self._failed(error, refresh=refresh)
            finally:
                await client.aclose()
            return issued.token

    def _ready(self, issued: Issued | None, *, refresh: bool) -> str | None:
        if refresh or issued is None or time.time() >= issued.renew:
            return None
        return issued.token

    def _meanwhile(self, before: Issued | None, failures: int, *, refresh: bool) -> str | None:
        """What somebody else brought while this one waited: those who wait together ask once, also in vain."""
        kept = self._kept
        if kept.issued is not None and kept.issued is not before:
            return kept.issued.token
        if kept.failure is None or kept.failures == failures:
            return None
        return self._fallback(_again(kept.failure), refresh=refresh)

    def _failed(self, error: KServeError, *, refresh: bool) -> str:
        self._kept.failures += 1
        self._kept.failure = _again(error)
        return self._fallback(error, refresh=refresh)

    def _fallback(self, error: KServeError, *, refresh: bool) -> str:
        """The old token, if it is still good though the next one could not be had."""
        issued = self._kept.issued
        if refresh or issued is None or time.time() >= issued.expires:
            raise error
        logger.warning("a token could not be renewed (%s); the old one is good for a while", type(error).__name__)
        # Calls are not to wait for it each time.
        self._kept.issued = replace(issued, renew=min(issued.expires, time.time() + AGAIN_AFTER))
        return issued.token


def _again(error: KServeError) -> KServeError:
    """An error to raise for somebody else; what it was raised with stays with the first."""
    return type(error)(error.message, **error.details())


@dataclass(frozen=True)
class TokenRequestToken(IssuedToken):
    """A service account's token from the `TokenRequest` API, renewed before it expires and after a 401.

    It needs the verb `create` on `serviceaccounts/token`. Pickles carry the account's name and where the cluster's
    credentials are, never a token.

    Attributes:
        service_account: The service account's name.
        namespace: Its namespace; None for the pod's or the context's own.
        audiences: Whom the token is for; empty for the cluster's API server, which is what auth proxies expect.
        expiration_seconds: How long each token is to be good; the cluster may decide otherwise.
        access: The cluster, and as whom to ask.
    """

    service_account: str
    namespace: str | None = None
    audiences: tuple[str, ...] = ()
    expiration_seconds: int = 3600
    access: ClusterAccess = field(default_factory=ClusterAccess)
    _kept: Kept = field(default_factory=Kept, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name("service_account", self.service_account)
        if self.namespace is not None:
            check_name("namespace", self.namespace)
        if isinstance(self.audiences, str):
            msg = "audiences must be a sequence of texts, not one text."
            raise ConfigurationError(msg, hint="For example audiences=('https://kubernetes.default.svc',).")
        object.__setattr__(self, "audiences", tuple(self.audiences))
        if type(self.expiration_seconds) is not int or self.expiration_seconds < 600:
            msg = "expiration_seconds must be a whole number, 600 or more."
            raise ConfigurationError(msg, hint="Kubernetes issues no shorter-lived tokens.")

    def __reduce__(self) -> tuple[Any, ...]:
        fields = (self.service_account, self.namespace, self.audiences, self.expiration_seconds, self.access)
        return (type(self), fields)

    def _connect(self) -> tuple[RuntimeClient[None], Flow[Issued]]:
        server = self.access.server()
        namespace = self.namespace or server.namespace
        call = server.api.token_request(namespace, self.service_account, self.expiration_seconds, self.audiences)

        def flow() -> Flow[Issued]:
            answer: Json = yield call
            now = time.time()
            token = text(answer, "status", "token")
            if not token:
                msg = "The Kubernetes API answered a TokenRequest without a token."
                raise BadResponseError(msg, layer="cluster")
            expires = epoch(text(answer, "status", "expirationTimestamp"))
            if expires is None:
                expires = now + self.expiration_seconds
            return Issued.of(clean_token(token, "the issued token"), expires, now)

        return server.client(), flow()


class _Source:
    """The source last found in a kubeconfig, and the state of its files then."""

    def __init__(self) -> None:
        self.stamp: object = None
        self.source: TokenSource | None = None


@dataclass(frozen=True)
class ClusterToken(TokenSource):
    """The token with which the cluster itself is asked, read from where it is now. Pickles as a reference.

    It is a person's token, or the pod's: give it to an endpoint only if that may see it.

    Attributes:
        access: The cluster, and as whom to ask.
    """

    access: ClusterAccess
    _kept: _Source = field(default_factory=_Source, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.access,))

    def token(self, *, refresh: bool = False) -> str:
        """The token now.

        Raises:
            ConfigurationError: If the cluster is asked without a token.
        """
        return self._find().token(refresh=refresh)

    async def atoken(self, *, refresh: bool = False) -> str:
        """As `token`, from an event loop."""
        source = await asyncio.to_thread(self._find)
        return await source.atoken(refresh=refresh)

    def _find(self) -> TokenSource:
        stamp = [_stamp(name) for name in kubeconfig_files(self.access.kubeconfig)]
        if self._kept.source is None or self._kept.stamp != stamp:
            source = self.access.server().endpoint.token
            if source is None:
                msg = "The credentials for the cluster are a client certificate, which is no token."
                raise ConfigurationError(msg, hint="Give api_key=...; a token: oc create token <serviceaccount>.")
            self._kept.source, self._kept.stamp = source, stamp
        return self._kept.source


def _stamp(name: str) -> tuple[str, int, int]:
    try:
        stat = Path(name).stat()
    except OSError:
        return name, 0, 0
    return name, stat.st_mtime_ns, stat.st_size
