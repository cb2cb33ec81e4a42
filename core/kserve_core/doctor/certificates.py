"""What certificates say, read from their DER form with nothing but the standard library.

Only what a report shows is read: names, validity, and what tells who signed whom. Signatures are not checked here;
that is the TLS library's work.
"""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"
_SEQUENCE, _SET, _OID, _BOOLEAN, _OCTETS = 0x30, 0x31, 0x06, 0x01, 0x04
_UTC_TIME, _GENERALIZED_TIME = 0x17, 0x18
_ATTRIBUTES = {"2.5.4.3": "CN", "2.5.4.6": "C", "2.5.4.7": "L", "2.5.4.8": "ST", "2.5.4.10": "O", "2.5.4.11": "OU"}
_SUBJECT_ALT_NAME, _BASIC_CONSTRAINTS = "2.5.29.17", "2.5.29.19"
_SUBJECT_KEY, _AUTHORITY_KEY = "2.5.29.14", "2.5.29.35"
_MOST = 10_000
"""The most certificates read from one bundle."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate's readable parts.

    Attributes:
        subject: Whom it is for, as `CN=..., O=...`.
        issuer: Who signed it.
        not_before: When it starts being good.
        not_after: When it stops.
        names: The host names and addresses it is for.
        is_ca: Whether it may sign others.
        der: The whole certificate.
        subject_raw: The subject in DER, to compare with an issuer.
        issuer_raw: The issuer in DER.
        key_id: Its key's id, if it says.
        issuer_key_id: The id of the key that signed it, if it says.
    """

    subject: str
    issuer: str
    not_before: datetime
    not_after: datetime
    names: tuple[str, ...] = ()
    is_ca: bool = False
    der: bytes = field(default=b"", repr=False)
    subject_raw: bytes = field(default=b"", repr=False)
    issuer_raw: bytes = field(default=b"", repr=False)
    key_id: bytes = field(default=b"", repr=False)
    issuer_key_id: bytes = field(default=b"", repr=False)

    @property
    def is_self_issued(self) -> bool:
        """Whether it names itself as its issuer, as roots do."""
        return self.subject_raw == self.issuer_raw

    @property
    def fingerprint(self) -> str:
        """Its SHA-256, as people compare it (`AB:CD:...`)."""
        return hashlib.sha256(self.der).digest().hex(":").upper()

    @property
    def pem(self) -> str:
        """The certificate as PEM."""
        return ssl.DER_cert_to_PEM_cert(self.der)

    def may_be_signed_by(self, other: Certificate) -> bool:
        """Whether another certificate has the name, and the key as far as they say, that signed this one."""
        if self.issuer_raw != other.subject_raw:
            return False
        return not (self.issuer_key_id and other.key_id) or self.issuer_key_id == other.key_id

    def covers(self, host: str) -> bool:
        """Whether it is for a host name or address."""
        return any(name_covers(name, host) for name in self.names)

    def facts(self) -> dict[str, object]:
        """The parts as JSON values."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "names": list(self.names),
            "sha256": self.fingerprint,
        }


def read_certificate(der: bytes) -> Certificate:
    """Reads a certificate.

    Args:
        der: Its DER form.

    Raises:
        ValueError: If it is none.
    """
    try:
        return _read(der)
    except (IndexError, OverflowError) as exc:
        msg = "not a certificate"
        raise ValueError(msg) from exc


def read_bundle(pem: str) -> list[Certificate]:
    """The certificates of a PEM text that can be read, in its order; what cannot be read is left out."""
    found = []
    for part in pem.split(_BEGIN)[1 : _MOST + 1]:
        body = part.partition(_END)[0]
        try:
            found.append(read_certificate(ssl.PEM_cert_to_DER_cert(f"{_BEGIN}{body}{_END}")))
        except ValueError:
            continue
    return found


def in_order(chain: Sequence[Certificate]) -> list[Certificate]:
    """A chain with each certificate before the one that signed it, as far as that is to be seen."""
    if not chain:
        return []
    ordered, rest = [chain[0]], list(chain[1:])
    while not ordered[-1].is_self_issued:
        signer = next((item for item in rest if ordered[-1].may_be_signed_by(item)), None)
        if signer is None:
            break
        ordered.append(signer)
        rest.remove(signer)
    return [*ordered, *rest]


def name_covers(name: str, host: str) -> bool:
    """Whether a certificate's name is a host's: a star stands for exactly one label."""
    try:
        return ipaddress.ip_address(name) == ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        pass
    name, host = name.lower().rstrip("."), host.lower().rstrip(".")
    if name.startswith("*."):
        return host.partition(".")[2] == name[2:] and "." in host
    return name == host


def _read(der: bytes) -> Certificate:
    certificate = _inside(der, _SEQUENCE)
    tag, tbs, _ = _value(certificate, 0)
    _expect(tag, _SEQUENCE)
    parts = list(_values(tbs))
    if parts and parts[0][0] == 0xA0:  # the version, which the oldest certificates leave out
        parts = parts[1:]
    issuer, validity, subject = parts[2], parts[3], parts[4]
    for part in (issuer, validity, subject):
        _expect(part[0], _SEQUENCE)
    times = [_time(tag, value) for tag, value, _ in _values(validity[1])]
    extensions = dict(_extensions(parts[5:]))
    return Certificate(
        subject=_name(subject[1]),
        issuer=_name(issuer[1]),
        not_before=times[0],
        not_after=times[1],
        names=tuple(_alternative_names(extensions.get(_SUBJECT_ALT_NAME, b""))),
        is_ca=_is_ca(extensions.get(_BASIC_CONSTRAINTS, b"")),
        der=der,
        subject_raw=subject[1],
        issuer_raw=issuer[1],
        key_id=_inside(extensions[_SUBJECT_KEY], _OCTETS) if _SUBJECT_KEY in extensions else b"",
        issuer_key_id=_authority_key(extensions.get(_AUTHORITY_KEY, b"")),
    )


def _value(data: bytes, position: int) -> tuple[int, bytes, int]:
    """Tag and content of the value at a position, and where the next one starts."""
    tag, length = data[position], data[position + 1]
    start = position + 2
    if length & 0x80:
        count = length & 0x7F
        if not 1 <= count <= 4:
            msg = "a length that DER does not have"
            raise ValueError(msg)
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    end = start + length
    if end > len(data):
        msg = "a value that is longer than what holds it"
        raise ValueError(msg)
    return tag, data[start:end], end


def _values(data: bytes) -> Iterator[tuple[int, bytes, int]]:
    position = 0
    while position < len(data):
        tag, content, position = _value(data, position)
        yield tag, content, position


def _inside(data: bytes, tag: int) -> bytes:
    found, content, _ = _value(data, 0)
    _expect(found, tag)
    return content


def _expect(tag: int, wanted: int) -> None:
    if tag != wanted:
        msg = f"tag {tag:#x} where {wanted:#x} belongs"
        raise ValueError(msg)


def _oid(data: bytes) -> str:
    numbers, value = [], 0
    for byte in data:
        value = value << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(value)
            value = 0
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _name(data: bytes) -> str:
    """A distinguished name, its last part first, as people read it."""
    parts = []
    for _, relative, _ in _values(data):
        for _, pair, _ in _values(relative):
            fields = list(_values(pair))
            oid = _oid(fields[0][1])
            parts.append(f"{_ATTRIBUTES.get(oid, oid)}={_text(fields[1][0], fields[1][1])}")
    return ", ".join(reversed(parts))


def _text(tag: int, data: bytes) -> str:
    encoding = {0x1E: "utf-16-be", 0x14: "latin-1"}.get(tag, "utf-8")
    text = data.decode(encoding, "replace")[:200]
    return "".join(char if char.isprintable() else "?" for char in text)


def _time(tag: int, data: bytes) -> datetime:
    text = data.decode("ascii", "replace")
    if tag == _UTC_TIME:
        text = ("20" if int(text[:2]) < 50 else "19") + text
    elif tag != _GENERALIZED_TIME:
        _expect(tag, _GENERALIZED_TIME)
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=timezone.utc)


def _extensions(parts: Sequence[tuple[int, bytes, int]]) -> Iterator[tuple[str, bytes]]:
    held = next((content for tag, content, _ in parts if tag == 0xA3), None)
    if held is None:
        return
    for _, extension, _ in _values(_inside(held, _SEQUENCE)):
        fields = [item for item in _values(extension) if item[0] != _BOOLEAN]
        yield _oid(fields[0][1]), fields[1][1]


def _alternative_names(data: bytes) -> Iterator[str]:
    if not data:
        return
    for tag, content, _ in _values(_inside(data, _SEQUENCE)):
        if tag == 0x82:
            yield _text(0x0C, content)
        elif tag == 0x87 and len(content) in {4, 16}:
            yield str(ipaddress.ip_address(content))


def _is_ca(data: bytes) -> bool:
    if not data:
        return False
    return any(tag == _BOOLEAN and content != b"\0" for tag, content, _ in _values(_inside(data, _SEQUENCE)))


def _authority_key(data: bytes) -> bytes:
    if not data:
        return b""
    return next((content for tag, content, _ in _values(_inside(data, _SEQUENCE)) if tag == 0x80), b"")
