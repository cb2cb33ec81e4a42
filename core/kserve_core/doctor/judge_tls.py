"""What a TLS handshake means: what certificates were shown, why they are not accepted, which CA would change that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from kserve_core import hints
from kserve_core.doctor.authorities import Place
from kserve_core.doctor.certificates import Certificate, name_covers
from kserve_core.doctor.findings import Finding
from kserve_core.doctor.network import Handshake
from kserve_core.endpoint import Endpoint

SOON = timedelta(days=14)
"""Certificates that end within this time are worth a warning."""

UNKNOWN_SIGNER = frozenset({2, 18, 19, 20, 21, 27})
"""OpenSSL's verification codes for a chain that leads to nothing that is trusted."""

_EXPIRED, _EARLY, _SELF_SIGNED = 10, 9, 18
_WRONG_NAME = frozenset({62, 63, 64})
_WEAK = frozenset({66, 67, 68})


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Everything that was seen of a server's TLS.

    Attributes:
        shaken: The handshake as clients make it.
        looked: A handshake that takes any certificate, made to see them; None if that was of no use.
        chain: The certificates, each before its signer.
        trusted: The trusted place whose certificate the chain leads to, if it is known.
        found: An untrusted place with which the server is believed, and its certificate; None if there is none.
        searched: How many places were looked through for it.
        now: When this was.
    """

    shaken: Handshake
    looked: Handshake | None = None
    chain: tuple[Certificate, ...] = ()
    trusted: Place | None = None
    found: tuple[Place, Certificate] | None = None
    searched: int = 0
    now: datetime


def judge_tls(endpoint: Endpoint, seen: Seen) -> Finding:
    """What was seen of a server's TLS.

    With `verify=False` a certificate that would not be accepted is a warning, as clients connect all the same.
    """
    shaken = seen.shaken
    facts = _facts(seen)
    detail = describe_chain(seen.chain, seen.now)
    if shaken.outcome == "ok":
        return _good(endpoint, seen, detail, facts)
    if shaken.outcome == "verify":
        title, fix = _unaccepted(endpoint, seen)
        status = "failed" if endpoint.trust.verify else "warning"
        if not endpoint.trust.verify:
            title = f"Certificates are not checked (verify=False); otherwise: {title[:1].lower()}{title[1:]}"
        return Finding(step="tls", status=status, title=title, detail=detail, fix=fix, facts=facts)  # type: ignore[arg-type]
    title, fix = _broken(endpoint, seen)
    return Finding(step="tls", status="failed", title=title, detail=detail, fix=fix, facts=facts)


def judge_plain(endpoint: Endpoint, shaken: Handshake) -> Finding:
    """What a try at TLS says about a port that is to be used without.

    Args:
        endpoint: The endpoint, with an http URL.
        shaken: The try.
    """
    where = f"{endpoint.host}:{endpoint.port}"
    facts = {"tls": shaken.outcome == "ok", "url_scheme": endpoint.scheme}
    if shaken.outcome in {"ok", "alert"}:
        scheme = "grpcs" if endpoint.is_grpc else "https"
        port = "" if endpoint.is_default_port else f":{endpoint.port}"
        return Finding(
            step="tls",
            status="failed",
            title=f"{where} speaks TLS, but the URL says {endpoint.base_url.partition(':')[0]}://",
            fix=f"Start the URL with {scheme}://: {scheme}://{endpoint.host}{port}{endpoint.base_path}",
            facts=facts,
        )
    if endpoint.sends_credentials and not (endpoint.is_local or endpoint.is_in_cluster):
        return Finding(
            step="tls",
            status="warning",
            title="no TLS, so the token travels unencrypted (allow_insecure_token=True)",
            fix="Use the endpoint's https:// URL, if it has one.",
            facts=facts,
        )
    title = f"the URL says {endpoint.base_url.partition(':')[0]}://, so no TLS"
    return Finding(step="tls", status="skipped", title=title, facts=facts)


def describe_chain(chain: Sequence[Certificate], now: datetime) -> str:
    """A chain as text, a certificate a line.

    Args:
        chain: The certificates.
        now: The time to compare their validity with.
    """
    lines = []
    for number, item in enumerate(chain, 1):
        state = ""
        if item.not_after < now:
            state = f" (expired {ago(now - item.not_after)} ago)"
        elif item.not_before > now:
            state = " (not valid yet)"
        by = "itself" if item.is_self_issued else item.issuer
        lines.append(f"{number}. {item.subject or 'no subject'}, signed by {by}")
        lines.append(f"   valid {item.not_before:%Y-%m-%d} to {item.not_after:%Y-%m-%d}{state}")
        if number == 1:
            names = ", ".join(item.names[:8]) + (", ..." if len(item.names) > 8 else "")
            lines.append(f"   for {names or 'no host name at all'}")
    return "\n".join(lines)


def ago(time: timedelta) -> str:
    """A length of time in words."""
    seconds = int(time.total_seconds())
    for size, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds} second{'' if seconds == 1 else 's'}"


def closest(host: str, names: Sequence[str]) -> str | None:
    """The name of a certificate that somebody who typed a host most likely meant; None if none is near."""
    plain = [name for name in names if "*" not in name]
    first = host.partition(".")[0]
    near = [name for name in plain if name.partition(".")[0] == first]
    return near[0] if near else (plain[0] if len(plain) == 1 else None)


def _facts(seen: Seen) -> dict[str, object]:
    looked = seen.looked
    return {
        "version": seen.shaken.version,
        "outcome": seen.shaken.outcome,
        "reason": seen.shaken.reason,
        "verify_code": seen.shaken.code or None,
        "chain": [item.facts() for item in seen.chain],
        "trusted_by": seen.trusted.label if seen.trusted else None,
        "ca_found_in": None if seen.found is None else seen.found[0].path or seen.found[0].label,
        "asks_for_client_certificate": bool(looked is not None and looked.wants_certificate),
    }


def _good(endpoint: Endpoint, seen: Seen, detail: str, facts: dict[str, object]) -> Finding:
    looked = seen.looked
    refused = looked is not None and looked.wants_certificate and looked.outcome != "ok"
    if refused and looked is not None:  # TLS 1.3 tells only after the handshake
        title, fix = _client_refused(endpoint, looked.reason)
        return Finding(step="tls", status="failed", title=title, detail=detail, fix=fix, facts=facts)
    title = f"{seen.shaken.version}, certificate accepted"
    if seen.trusted is not None:
        title += f" (CA from {seen.trusted.label})"
    if not endpoint.trust.verify:
        fix = "Leave --insecure (verify=False) out."
        title = "Certificates are not checked (verify=False), though this one would be accepted"
        return Finding(step="tls", status="warning", title=title, detail=detail, fix=fix, facts=facts)
    if looked is not None and looked.wants_certificate and endpoint.trust.client_cert is None:
        detail = f"{detail}\nThe server asks for a client certificate, but does without."
    ending = next((item for item in seen.chain if item.not_after - seen.now < SOON), None)
    if ending is not None:
        title = f"The certificate of {ending.subject} ends in {ago(ending.not_after - seen.now)}"
        fix = "Have it renewed before then."
        return Finding(step="tls", status="warning", title=title, detail=detail, fix=fix, facts=facts)
    return Finding(step="tls", status="ok", title=title, detail=detail, facts=facts)


CLIENT_FIX = "Give --client-cert FILE and --client-key FILE; in code client_cert=(certificate file, key file)."
"""What to do if a server wants a client certificate."""


def _client_refused(endpoint: Endpoint, reason: str) -> tuple[str, str]:
    if endpoint.trust.client_cert is None:
        return "The server wants a client certificate, and none was given", CLIENT_FIX
    fix = "It must be signed by a CA that the server trusts, be valid now, and be for clients."
    return f"The server does not accept the client certificate ({reason})", fix


def _unaccepted(endpoint: Endpoint, seen: Seen) -> tuple[str, str]:
    code, chain = seen.shaken.code, seen.chain
    leaf = chain[0] if chain else None
    if code in {_EXPIRED, _EARLY}:
        bad = next((item for item in chain if item.not_after < seen.now or item.not_before > seen.now), leaf)
        if bad is None:
            return f"A certificate is not valid now: {seen.shaken.reason}", _RENEW
        if code == _EARLY:
            return f"The certificate of {bad.subject} is not valid before {bad.not_before:%Y-%m-%d %H:%M} UTC", _CLOCK
        when = f"{bad.not_after:%Y-%m-%d %H:%M} UTC, {ago(seen.now - bad.not_after)} ago"
        return f"The certificate of {bad.subject} expired on {when}", _RENEW
    if code in _WRONG_NAME:
        return f"The certificate is for another name than {endpoint.host}", _name_fix(endpoint, leaf)
    if code in UNKNOWN_SIGNER:
        return _unknown_signer(endpoint, seen)
    if code in _WEAK:
        return f"The certificate is too weak: {seen.shaken.reason}", "Have it made anew with a larger key or hash."
    return f"The certificate is not accepted: {seen.shaken.reason}", hints.certificate(endpoint.host)


_RENEW = (
    "Have it renewed. Service certificates are made anew when their Secret is deleted "
    "(oc delete secret <service>-serving-cert); route certificates are the administrator's. If the date is not "
    "right: check this machine's clock."
)
_CLOCK = "Check this machine's clock, or wait."


def _unknown_signer(endpoint: Endpoint, seen: Seen) -> tuple[str, str]:
    last = seen.chain[-1] if seen.chain else None
    if seen.shaken.code == _SELF_SIGNED or (len(seen.chain) == 1 and last is not None and last.is_self_issued):
        title = "The certificate is signed by itself, and not trusted here"
    elif last is None:
        title = "The CA that signed the certificate is not trusted here"
    else:
        title = f"The CA {last.subject if last.is_self_issued else last.issuer} is not trusted here"
    if seen.found is not None:
        place, _ = seen.found
        given = place.path or place.label
        fix = f"{place.label} has it. Give\n  --ca-cert {given}\nor KSERVE_CA_CERT, or in code ca_cert=..."
        return title, fix
    fix = f"Give the file of that CA: --ca-cert FILE. {_KEPT.get(_kind(endpoint), '')}".strip()
    if last is not None and last.is_self_issued:
        fix += f"\nThe server shows it; before trusting it compare its SHA-256 with its owner:\n  {last.fingerprint}"
    if seen.searched:
        fix += f"\nThe {seen.searched} other CA bundles found on this machine do not have it."
    notes = [] if endpoint.discovered is None else [note for note in endpoint.discovered.notes if "CA" in note]
    return title, "\n".join([fix, *notes])


def _kind(endpoint: Endpoint) -> str:
    if endpoint.is_in_cluster:
        return "service"
    return "route" if ".apps." in endpoint.host else ""


_KEPT = {"service": hints.CERTIFICATE_SERVICE, "route": hints.CERTIFICATE_ROUTE}


def _name_fix(endpoint: Endpoint, leaf: Certificate | None) -> str:
    if leaf is None:
        return hints.HOSTNAME
    host = endpoint.host
    if not leaf.names:
        return "It names no host at all, so no client can check it; have it made anew with a subjectAltName."
    for name in leaf.names:
        if name.startswith("*.") and host.endswith(name[1:]) and not name_covers(name, host):
            return f"{name} stands for one label only, and {host} has more before {name[1:]}. Use a host it covers."
    meant = closest(host, leaf.names)
    if meant is not None:
        return f"Use a name it was made for: {endpoint.scheme}://{meant}"
    return f"{hints.HOSTNAME} Or the router shows its default certificate because it has no route of this name."


def _broken(endpoint: Endpoint, seen: Seen) -> tuple[str, str]:
    shaken, looked = seen.shaken, seen.looked
    where = f"{endpoint.host}:{endpoint.port}"
    given = endpoint.trust.client_cert is not None
    if shaken.outcome == "not tls":
        scheme = "grpc" if endpoint.is_grpc else "http"
        fix = f"Try {scheme}://{where}{endpoint.base_path}, or another port (behind the auth proxy it is 8443)."
        return f"{where} does not speak TLS, but the URL says {endpoint.base_url.partition(':')[0]}://", fix
    if shaken.outcome == "timeout":
        return f"{where} takes connections, but does not answer the TLS handshake", (
            f"A server that does not speak TLS may do so: try http://{where}{endpoint.base_path}. Else it hangs."
        )
    if shaken.outcome == "proxy":
        return f"The proxy did not connect to {where}: {shaken.reason}", (
            f"To go around the proxy: export NO_PROXY={endpoint.host}. Else ask its administrator to allow the host."
        )
    asked = shaken.wants_certificate or bool(looked is not None and looked.wants_certificate)
    if asked or "certificate required" in shaken.reason or (given and "certificate" in shaken.reason):
        return _client_refused(endpoint, shaken.reason)
    if "unrecognized name" in shaken.reason:
        return f"The server knows no host {endpoint.host}", "Check the host name: nothing is served under it there."
    if "protocol version" in shaken.reason or "unsupported protocol" in shaken.reason:
        return "The server speaks no TLS version from 1.2 on", "Have TLS 1.2 or newer turned on at the server."
    if shaken.outcome == "closed":
        return f"{where} hung up during the TLS handshake ({shaken.reason})", (
            f"A router hangs up if it has no route of this name; a server without TLS may as well (http://{where}). "
            f"{hints.CLIENT_CERTIFICATE}"
        )
    return f"The TLS handshake failed: {shaken.reason}", hints.CLIENT_CERTIFICATE


def utc_now() -> datetime:
    """The time now."""
    return datetime.now(timezone.utc)
