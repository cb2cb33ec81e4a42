"""The steps below HTTP, taken."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kserve_core.deadline import Deadline
from kserve_core.doctor.authorities import Place, find_signer, other_places, signer_in, trusted_places
from kserve_core.doctor.certificates import Certificate, in_order, read_certificate
from kserve_core.doctor.findings import Finding
from kserve_core.doctor.judge_network import is_address, judge_alpn, judge_attempts, judge_lookup
from kserve_core.doctor.judge_tls import UNKNOWN_SIGNER, Seen, judge_plain, judge_tls, utc_now
from kserve_core.doctor.network import (
    Handshake,
    Lookup,
    look_up,
    proxy_of,
    shake_hands,
    try_addresses,
    unchecked_context,
)
from kserve_core.endpoint import Endpoint
from kserve_core.trust import Trust

if TYPE_CHECKING:
    import ssl

    from kserve_core.doctor.examination import Examination

_PLAIN_SECONDS = 1.5
"""How long a server that is to be spoken to without TLS may take to show that it speaks TLS."""
_OFFERS = ["h2", "http/1.1"]


class NetworkSteps:
    """Name, connection, TLS and HTTP/2 of one endpoint.

    Args:
        examination: What the findings go to.
        endpoint: The endpoint.
        grpc: Whether gRPC is going to be spoken.
    """

    def __init__(self, examination: Examination, endpoint: Endpoint, *, grpc: bool) -> None:
        self._examination = examination
        self._endpoint = endpoint
        self._grpc = grpc
        self._proxy = proxy_of(endpoint)
        self._addresses: tuple[str, ...] = ()
        self._address = ""
        self._shaken: Handshake | None = None
        if self._proxy is not None:
            examination.scrubber.add(self._proxy.authorization)

    def take(self) -> None:
        """Takes all of them."""
        step = self._examination.step
        step("dns", self._look_up)
        step("tcp", self._connect)
        if self._proxy is not None and self._proxy.scheme != "http":
            if self._examination.ready_for("tls"):
                title = f"not looked at through a proxy of this kind ({self._proxy.scheme})"
                for name in ("tls", "http2"):
                    self._examination.note(Finding(step=name, status="skipped", title=title))
            return
        step("tls", self._tls if self._endpoint.scheme == "https" else self._plain)
        step("http2", lambda: judge_alpn(self._endpoint, self._shaken, grpc=self._grpc))

    def _look_up(self) -> Finding:
        proxy, endpoint = self._proxy, self._endpoint
        host, port = (proxy.host, proxy.port) if proxy else (endpoint.host, endpoint.port)
        lookup = Lookup((host,)) if is_address(host) else look_up(host, port, self._examination.deadline)
        self._addresses = lookup.addresses
        return judge_lookup(endpoint, lookup, proxy=proxy)

    def _connect(self) -> Finding:
        port = self._proxy.port if self._proxy else self._endpoint.port
        left = self._examination.deadline.left()
        seconds = self._endpoint.connect_timeout if left is None else min(self._endpoint.connect_timeout, left)
        attempts = try_addresses(self._addresses, port, seconds, self._examination.deadline)
        if attempts and attempts[-1].outcome == "connected":
            self._address = attempts[-1].address
        return judge_attempts(self._endpoint, attempts, seconds=round(seconds, 1), proxy=self._proxy)

    def _plain(self) -> Finding:
        if self._proxy is not None:
            title = f"the URL says {self._endpoint.base_url.partition(':')[0]}://, so no TLS"
            return Finding(step="tls", status="skipped", title=title)
        context = unchecked_context(Trust(verify=False)._build(), in_clear=False)
        left = self._examination.deadline.left()
        patience = Deadline.after(_PLAIN_SECONDS if left is None else min(left, _PLAIN_SECONDS))
        return judge_plain(self._endpoint, shake_hands(self._endpoint, context, self._address, patience))

    def _tls(self) -> Finding:
        trust = self._endpoint.trust
        checked = trust if trust.verify else Trust(trust.ca_cert, trust.client_cert)
        shaken = self._shake(self._context(checked, ["h2"] if self._grpc else _OFFERS))
        if self._grpc and "application protocol" in shaken.reason:
            shaken = self._shake(self._context(checked, ["http/1.1"]))
        looked: Handshake | None = None
        chain: tuple[Certificate, ...] = ()
        if shaken.outcome in {"ok", "verify", "alert", "closed"}:
            looked = self._look(trust)
            chain = tuple(self._chain(shaken, looked))
        trusted, found, searched = None, None, 0
        if shaken.outcome == "ok":
            trusted = next((place for place in trusted_places(self._endpoint) if signer_in(chain, place)), None)
        elif shaken.outcome == "verify" and shaken.code in UNKNOWN_SIGNER:
            places = list(other_places())
            searched = len(places)
            found = find_signer(chain, places, self._believes)
        self._shaken = shaken if shaken.outcome == "ok" or looked is None else looked
        seen = Seen(
            shaken=shaken,
            looked=looked,
            chain=chain,
            trusted=trusted,
            found=found,
            searched=searched,
            now=utc_now(),
        )
        return judge_tls(self._endpoint, seen)

    def _look(self, trust: Trust) -> Handshake:
        """A handshake that takes any certificate; nothing is sent over it."""
        offers = ["h2"] if self._grpc else _OFFERS
        looked = self._shake(
            unchecked_context(self._context(Trust((), trust.client_cert, verify=False), offers), in_clear=True)
        )
        if looked.outcome != "ok" and not looked.chain:  # a server of TLS 1.3 only
            later = self._shake(
                unchecked_context(self._context(Trust((), trust.client_cert, verify=False), offers), in_clear=False)
            )
            return later if later.outcome == "ok" else looked
        return looked

    def _chain(self, shaken: Handshake, looked: Handshake) -> list[Certificate]:
        for shown in (looked.chain, shaken.chain):
            try:
                chain = in_order([read_certificate(der) for der in shown])
            except ValueError:
                continue
            if chain:
                return chain
        return []

    def _believes(self, place: Place) -> bool:
        """Whether the server would be believed with a place's certificates, its name aside."""
        trust = Trust((place.pem,), self._endpoint.trust.client_cert)
        try:
            context = self._context(trust, _OFFERS)
        except Exception:  # noqa: BLE001 - a bundle that cannot be used is of no help
            return False
        context.check_hostname = False
        shaken = self._shake(context)
        return shaken.outcome == "ok" or (shaken.outcome == "verify" and shaken.code not in UNKNOWN_SIGNER)

    def _context(self, trust: Trust, offers: list[str]) -> ssl.SSLContext:
        context = trust._build()
        context.set_alpn_protocols(offers)
        return context

    def _shake(self, context: ssl.SSLContext) -> Handshake:
        return shake_hands(self._endpoint, context, self._address, self._examination.deadline, proxy=self._proxy)
