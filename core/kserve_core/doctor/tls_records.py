"""The part of a TLS handshake that travels in the clear, read from a server's bytes.

Up to TLS 1.2 a server shows its whole chain unencrypted (RFC 5246, 7.4.2), so a recording of what it sent has the
certificates no matter what the TLS library of a Python version gives out, and also if the handshake failed later.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_ALERT, _HANDSHAKE = 21, 22
_CERTIFICATE, _CERTIFICATE_REQUEST = 11, 13


@dataclass(frozen=True, slots=True)
class Shown:
    """What a server showed of itself.

    Attributes:
        chain: Its certificates in DER, in the order they were sent.
        wants_certificate: Whether it asked the client for a certificate.
    """

    chain: tuple[bytes, ...] = ()
    wants_certificate: bool = False


def read_shown(data: bytes) -> Shown:
    """Reads what a server sent; what is cut or strange ends the reading.

    Args:
        data: Its bytes from the start of the connection.
    """
    chain: tuple[bytes, ...] = ()
    wants = False
    for kind, body in _messages(_handshake_bytes(data)):
        if kind == _CERTIFICATE:
            chain = tuple(_certificates(body))
        elif kind == _CERTIFICATE_REQUEST:
            wants = True
    return Shown(chain, wants)


def _handshake_bytes(data: bytes) -> bytes:
    """The handshake's messages, taken out of the records up to the first that is encrypted."""
    parts = []
    position = 0
    while position + 5 <= len(data):
        kind = data[position]
        length = int.from_bytes(data[position + 3 : position + 5], "big")
        if kind not in {_HANDSHAKE, _ALERT} or data[position + 1] != 3:
            break
        if kind == _HANDSHAKE:
            parts.append(data[position + 5 : position + 5 + length])
        position += 5 + length
    return b"".join(parts)


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + 4 <= len(data):
        length = int.from_bytes(data[position + 1 : position + 4], "big")
        body = data[position + 4 : position + 4 + length]
        if len(body) < length:
            return
        yield data[position], body
        position += 4 + length


def _certificates(body: bytes) -> Iterator[bytes]:
    position, end = 3, 3 + int.from_bytes(body[:3], "big")
    while position + 3 <= min(end, len(body)):
        length = int.from_bytes(body[position : position + 3], "big")
        der = body[position + 3 : position + 3 + length]
        if len(der) < length:
            return
        yield der
        position += 3 + length
