"""Which servers to believe, and who we are to them.

The trust store only ever grows: the system's roots, certifi's, the cluster's service CA when running in a pod, the
bundles named by `SSL_CERT_FILE`, `REQUESTS_CA_BUNDLE` and `KSERVE_CA_CERT`, and the user's own. A certificate given
here never makes a public one unknown. One TLS context is built per equal configuration and process, at first use.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from kserve_core.errors import ConfigurationError

logger = logging.getLogger("kserve_core.trust")

SERVICE_CA = "/var/run/secrets/kubernetes.io/serviceaccount/service-ca.crt"
"""Where every OpenShift pod finds the CA that signs in-cluster services."""

SYSTEM_BUNDLES = (
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)
SHARED_BUNDLE_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
OWN_BUNDLE_VARIABLE = "KSERVE_CA_CERT"
PEM_MARK = "-----BEGIN"
_BEGIN = "-----BEGIN CERTIFICATE-----"
_END = "-----END CERTIFICATE-----"
_PEM_HINT = f"It must hold blocks that begin with {_BEGIN}."

CACert: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str]]"
ClientCert: TypeAlias = "str | os.PathLike[str] | Sequence[str | os.PathLike[str] | None]"

_contexts: dict[object, ssl.SSLContext] = {}
_lock = threading.Lock()
_warned: set[str] = set()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - a thread of the parent may have held it
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class InsecureConnectionWarning(UserWarning):
    """Certificates are not checked for a host, because `verify=False` was given."""


@dataclass(frozen=True)
class Trust:
    """Certificates to trust and to show; comparable, picklable, reads nothing until a context is asked for.

    Attributes:
        ca_cert: Paths of PEM files or directories of them, or PEM texts; added to what is trusted anyway.
        client_cert: Certificate file, key file (or None when in the same file) and the key's password (or None).
        verify: False turns every check of the server's certificate off.
    """

    ca_cert: tuple[str, ...] = ()
    client_cert: tuple[str, str | None, str | None] | None = field(default=None, repr=False)
    verify: bool = True

    @classmethod
    def create(
        cls, ca_cert: CACert | None = None, client_cert: ClientCert | None = None, *, verify: bool = True
    ) -> Trust:
        """Takes the forms a user may give.

        Raises:
            ConfigurationError: If an argument is of another form.
        """
        if not isinstance(verify, bool):
            msg = "verify must be True or False."
            raise ConfigurationError(msg, hint="Give a CA file with ca_cert=...")
        return cls(_texts(ca_cert), _certificate(client_cert), verify)

    def __repr__(self) -> str:
        cas = ["<PEM text>" if PEM_MARK in item else item for item in self.ca_cert]
        shown = self.client_cert[0] if self.client_cert else None
        return f"Trust(ca_cert={cas!r}, client_cert={shown!r}, verify={self.verify!r})"

    def ssl_context(self) -> ssl.SSLContext:
        """The TLS context for this trust, shared by everything in the process that trusts the same.

        Files that changed since are read again.

        Raises:
            ConfigurationError: If a file cannot be read or holds no certificate.
        """
        key = (self, tuple(_stamp(name) for name in self._files()))
        with _lock:
            context = _contexts.get(key)
            if context is None:
                for old in [known for known in _contexts if isinstance(known, tuple) and known[0] == self]:
                    del _contexts[old]
                context = _contexts[key] = self._build()
        return context

    def roots_pem(self) -> bytes:
        """Every trusted certificate as PEM, for libraries that take no TLS context.

        Raises:
            ConfigurationError: As in `ssl_context`.
        """
        blocks = self._common()
        for _, found in self._own():
            blocks |= found
        if _system_bundle() is None:
            context = ssl.create_default_context()
            for der in context.get_ca_certs(binary_form=True):
                blocks |= _blocks(ssl.DER_cert_to_PEM_cert(der))
        return "".join(blocks.values()).encode()

    def client_pem(self) -> tuple[bytes, bytes] | None:
        """The client certificate chain and its key as PEM, or None.

        Raises:
            ConfigurationError: If a file cannot be read.
        """
        if self.client_cert is None:
            return None
        cert, key, _ = self.client_cert
        chain = _read(cert, "client_cert").encode()
        return chain, chain if key is None else _read(key, "client_cert").encode()

    def warn_if_unverified(self, host: str) -> None:
        """Warns, once per host and process, that a host's certificate is not checked."""
        if self.verify or host in _warned:
            return
        _warned.add(host)
        message = f"The TLS certificate of {host} is not checked (verify=False): anyone in between can read the token."
        warnings.warn(message, InsecureConnectionWarning, stacklevel=2)
        logger.warning("the TLS certificate of %s is not checked (verify=False)", host)

    def _files(self) -> Iterator[str]:
        yield from (item for item in self.ca_cert if PEM_MARK not in item)
        yield from (name for name in (self.client_cert or ())[:2] if name)
        yield SERVICE_CA
        for variable in (*SHARED_BUNDLE_VARIABLES, OWN_BUNDLE_VARIABLE):
            if os.environ.get(variable):
                yield os.environ[variable]

    def _build(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if self.verify:
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            if _system_bundle() is None:
                context.load_default_certs()
            if os.environ.get("SSL_CERT_DIR"):
                context.load_verify_locations(capath=os.environ["SSL_CERT_DIR"])
            common = self._common()
            _load(context, "The trust bundle of the system", common)
            for name, blocks in self._own():
                _load(context, name, {key: text for key, text in blocks.items() if key not in common})
        else:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert is not None:
            cert, key, password = self.client_cert
            try:
                context.load_cert_chain(cert, key, password if password is not None else _no_password)
            except (OSError, ValueError) as exc:
                msg = f"The client certificate {cert} cannot be used: {exc.args[-1] if exc.args else exc}."
                hint = "Give client_cert=(certificate file, key file) or (certificate file, key file, password)."
                raise ConfigurationError(msg, hint=hint) from None
        return context

    def _common(self) -> dict[str, str]:
        """What everybody here trusts: certifi's roots, the system's, the pod's, the shared bundles'."""
        import certifi

        names = [certifi.where(), _system_bundle(), SERVICE_CA]
        for variable in SHARED_BUNDLE_VARIABLES:
            name = os.environ.get(variable)
            if name and not Path(name).exists():
                logger.warning("%s names %s, which does not exist", variable, name)
            names.append(name)
        blocks: dict[str, str] = {}
        for name in dict.fromkeys(name for name in names if name and Path(name).exists()):
            for path in _members(name):
                try:
                    blocks |= _blocks(Path(path).read_text("utf-8", "replace"))
                except OSError as exc:  # noqa: PERF203 - one bad bundle must not spoil the others
                    logger.warning("the CA bundle %s cannot be read: %s", path, exc.strerror)
        return blocks

    def _own(self) -> Iterator[tuple[str, dict[str, str]]]:
        """What the user added, by name."""
        own = os.environ.get(OWN_BUNDLE_VARIABLE)
        for item in (*((own,) if own else ()), *self.ca_cert):
            if PEM_MARK in item:
                yield "The PEM text in ca_cert", _some_blocks("The PEM text in ca_cert", item)
                continue
            for path in _members(item):
                yield path, _some_blocks(path, _read(path, "ca_cert"))


def _system_bundle() -> str | None:
    return next((name for name in SYSTEM_BUNDLES if Path(name).is_file()), None)


def _load(context: ssl.SSLContext, name: str, blocks: dict[str, str]) -> None:
    if not blocks:
        return
    try:
        context.load_verify_locations(cadata="".join(blocks.values()))
    except (ssl.SSLError, ValueError) as exc:
        msg = f"{name} holds a certificate that cannot be read ({getattr(exc, 'reason', None) or 'not base64'})."
        raise ConfigurationError(msg, hint=_PEM_HINT) from None


def _some_blocks(name: str, text: str) -> dict[str, str]:
    blocks = _blocks(text)
    if not blocks:
        msg = f"{name} holds no PEM certificate."
        raise ConfigurationError(msg, hint=_PEM_HINT)
    return blocks


def _blocks(text: str) -> dict[str, str]:
    """The certificates of a bundle, each once; what stands between them is dropped."""
    bodies = (part.partition(_END)[0] for part in text.split(_BEGIN)[1:])
    return {"".join(body.split()): f"{_BEGIN}{body}{_END}\n" for body in bodies}


def _texts(value: CACert | None) -> tuple[str, ...]:
    if value is None:
        return ()
    items = [value] if isinstance(value, (str, os.PathLike)) else list(value)
    texts = []
    for item in items:
        if not os.fspath(item):
            msg = "ca_cert must be the path of a PEM file, PEM text, or several of these."
            raise ConfigurationError(msg, hint="For example ca_cert='/etc/pki/tls/certs/ca-bundle.crt'.")
        texts.append(str(os.fspath(item)))
    return tuple(texts)


def _certificate(value: ClientCert | None) -> tuple[str, str | None, str | None] | None:
    if value is None:
        return None
    items = [value] if isinstance(value, (str, os.PathLike)) else list(value)
    parts = [None if item is None else str(os.fspath(item)) for item in items]
    if not 1 <= len(parts) <= 3 or not parts[0]:
        msg = "client_cert must be a certificate file, or (certificate file, key file[, password])."
        raise ConfigurationError(msg, hint="For example client_cert=('tls.crt', 'tls.key').")
    key = parts[1] if len(parts) > 1 else None
    return parts[0], key, parts[2] if len(parts) > 2 else None


def _no_password() -> str:
    msg = "its key is encrypted and no password was given"
    raise ValueError(msg)


def _stamp(name: str) -> tuple[str, int, int]:
    try:
        stat = Path(name).stat()
    except OSError:
        return name, 0, 0
    return name, stat.st_mtime_ns, stat.st_size


def _members(name: str) -> list[str]:
    path = Path(name)
    if not path.is_dir():
        return [name]
    return [str(item) for item in sorted(path.iterdir()) if item.suffix in {".crt", ".pem"} and item.is_file()]


def _read(name: str, argument: str) -> str:
    try:
        return Path(name).read_text("utf-8", "replace")
    except OSError as exc:
        msg = f"The file {name} ({argument}) cannot be read: {exc.strerror}."
        raise ConfigurationError(msg, hint=f"Give {argument} the path of a PEM file.") from None
