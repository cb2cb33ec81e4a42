"""What certificates say is read as the TLS library and `cryptography` read it."""

from __future__ import annotations

import contextlib
import ssl
from datetime import datetime, timezone
from pathlib import Path

import certifi
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from kserve_core.doctor.certificates import _time, in_order, name_covers, read_bundle, read_certificate
from kserve_core.doctor.tls_records import read_shown


def _der(pem: bytes) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pem.decode())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="Tëst Org", organization_unit_name="Unit")


@pytest.fixture(scope="module")
def der(authority: trustme.CA) -> bytes:
    cert = authority.issue_cert("a.example", "*.apps.example", "10.1.2.3", "::1", common_name="a.example")
    return _der(cert.cert_chain_pems[0].bytes())


def test_the_parts_are_those_that_cryptography_reads(der: bytes, authority: trustme.CA) -> None:
    ours, theirs = read_certificate(der), x509.load_der_x509_certificate(der)
    assert ours.not_before == theirs.not_valid_before_utc
    assert ours.not_after == theirs.not_valid_after_utc
    assert ours.names == ("a.example", "*.apps.example", "10.1.2.3", "::1")
    assert "CN=a.example" in ours.subject
    assert "O=Tëst Org" in ours.issuer
    assert ours.subject_raw != ours.issuer_raw
    assert not ours.is_ca
    root = read_certificate(_der(authority.cert_pem.bytes()))
    assert root.is_ca
    assert root.is_self_issued
    assert ours.may_be_signed_by(root)
    assert not root.may_be_signed_by(ours)


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_every_root_of_certifi_is_read() -> None:

    text = Path(certifi.where()).read_text("utf-8")
    ours = {item.der: item for item in read_bundle(text)}
    theirs = x509.load_pem_x509_certificates(text.encode())
    assert len(ours) == len(theirs)
    for one in theirs:
        read = ours[one.public_bytes(Encoding.DER)]
        assert read.not_after == one.not_valid_after_utc
        assert read.fingerprint.replace(":", "").lower() == one.fingerprint(SHA256()).hex()


@given(data=st.binary(max_size=80))
def test_what_is_no_certificate_is_refused_and_nothing_else_happens(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_certificate(data)


@given(position=st.integers(0, 300), value=st.integers(0, 255))
def test_a_damaged_certificate_is_read_or_refused(der: bytes, position: int, value: int) -> None:
    damaged = bytearray(der)
    damaged[position] = value
    with contextlib.suppress(ValueError):
        read_certificate(bytes(damaged))


@pytest.mark.parametrize(
    ("name", "host", "covered"),
    [
        ("a.example", "A.example.", True),
        ("*.apps.example", "m.apps.example", True),
        ("*.apps.example", "m.ns.apps.example", False),
        ("*.apps.example", "apps.example", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("::1", "0:0:0:0:0:0:0:1", True),
        ("10.1.2.3", "10.1.2.4", False),
    ],
)
def test_a_star_stands_for_one_label(name: str, host: str, covered: bool) -> None:
    assert name_covers(name, host) is covered


def test_a_chain_is_put_in_order() -> None:
    root = trustme.CA()
    middle = root.create_child_ca()
    leaf = middle.issue_cert("a.example")
    ders = [_der(blob.bytes()) for blob in leaf.cert_chain_pems]
    certificates = [read_certificate(der) for der in [*ders, _der(root.cert_pem.bytes())]]
    shuffled = [certificates[0], *reversed(certificates[1:])]
    assert in_order(shuffled) == certificates


def test_records_with_a_chain_and_a_request_for_a_certificate() -> None:
    # RFC 5246, 7.4.2 and 7.4.4: message 11 with a list of three-byte-counted certificates, message 13 after it.
    one, two = b"first", b"second!"
    listed = b"".join(len(item).to_bytes(3, "big") + item for item in (one, two))
    message = b"\x0b" + (len(listed) + 3).to_bytes(3, "big") + len(listed).to_bytes(3, "big") + listed
    request = b"\x0d\x00\x00\x02\x01\x01"
    body = message + request
    records = b"".join(
        b"\x16\x03\x03" + len(part).to_bytes(2, "big") + part for part in (body[:7], body[7:20], body[20:])
    )
    shown = read_shown(records + b"\x14\x03\x03\x00\x01\x01" + b"\x16\x03\x03\x00\x04junk")
    assert shown.chain == (one, two)
    assert shown.wants_certificate
    assert read_shown(records[:15]).chain == ()
    assert read_shown(b"HTTP/1.1 400 Bad Request").chain == ()


def test_times_of_both_forms() -> None:
    assert _time(0x17, b"500101000000Z") == datetime(1950, 1, 1, tzinfo=timezone.utc)
    assert _time(0x17, b"491231235959Z") == datetime(2049, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert _time(0x18, b"20500101000000Z") == datetime(2050, 1, 1, tzinfo=timezone.utc)
