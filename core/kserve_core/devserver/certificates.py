"""A throw-away certificate authority for the TLS mode."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

_HINT = (
    "the development server's TLS mode needs the 'cryptography' package: pip install 'kserve-integrations[devserver]'"
)


@dataclass(frozen=True)
class Authority:
    """A certificate authority made for one server run."""

    certificate: Any
    key: Any

    @classmethod
    def create(cls, name: str = "kserve devserver CA") -> Authority:
        """A new authority with its own key.

        Raises:
            ImportError: `cryptography` is not installed.
        """
        try:
            from cryptography import x509
            from cryptography.hazmat.primitives.asymmetric import ec
        except ImportError as error:
            raise ImportError(_HINT) from error
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = (
            _dated(x509.CertificateBuilder())
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return cls(_signed(builder, key), key)

    def write_ca(self, path: Path) -> Path:
        """Write the authority's certificate as PEM and return the path."""
        from cryptography.hazmat.primitives.serialization import Encoding

        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))
        return path

    def issue(self, names: Iterable[str], folder: Path, *, stem: str = "server") -> tuple[Path, Path]:
        """Write a certificate for host names and addresses, and its key, as PEM files."""
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        key = ec.generate_private_key(ec.SECP256R1())
        hosts = list(dict.fromkeys(names))
        builder = (
            _dated(x509.CertificateBuilder())
            .subject_name(_name(hosts[0]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        certificate = _signed(builder, self.key)
        cert_file, key_file = folder / f"{stem}.pem", folder / f"{stem}.key"
        cert_file.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.touch(mode=0o600)
        key_file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return cert_file, key_file

    def server_context(self, names: Iterable[str], folder: Path, *, client_ca: Path | None = None) -> ssl.SSLContext:
        """A server's TLS context with a certificate for `names`; `client_ca` makes client certificates a must."""
        cert_file, key_file = self.issue(names, folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(cert_file, key_file)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        return context


def _name(text: str) -> Any:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _general(host: str) -> Any:
    from cryptography import x509

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _dated(builder: Any) -> Any:
    from cryptography import x509

    now = datetime.now(timezone.utc)
    return (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
    )


def _signed(builder: Any, key: Any) -> Any:
    from cryptography.hazmat.primitives import hashes

    return builder.sign(key, hashes.SHA256())
