"""The places where clusters, images and tools keep CA certificates, and which of them has the one that is missing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kserve_core.doctor.certificates import Certificate, read_bundle
from kserve_core.endpoint import Endpoint
from kserve_core.trust import (
    OWN_BUNDLE_VARIABLE,
    PEM_MARK,
    SERVICE_CA,
    SHARED_BUNDLE_VARIABLES,
    SYSTEM_BUNDLES,
)

VARIABLES = (
    "CURL_CA_BUNDLE",
    "PIP_CERT",
    "GIT_SSL_CAINFO",
    "NODE_EXTRA_CA_CERTS",
    "AWS_CA_BUNDLE",
    "PIPELINES_SSL_SA_CERTS",
    "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH",
)
"""Variables in which other tools find their CA bundle. This package does not read them, so they are only looked at."""

FOLDERS = (
    "/var/run/secrets/kubernetes.io/serviceaccount",
    "/var/run/secrets",
    "/etc/pki/tls/custom-certs",
    "/etc/pki/ca-trust/source/anchors",
    "/etc/pki/tls/certs",
    "/etc/pki/trust/anchors",
    "/usr/local/share/ca-certificates",
)
"""Folders in which pods, OpenShift AI's workbenches and administrators keep CA files."""

_SUFFIXES = frozenset({".crt", ".pem", ".cer", ".ca-bundle"})
_MOST_FILES = 200
_LARGEST = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """A bundle of CA certificates.

    Attributes:
        label: Where it is, for people.
        path: Its file; None if it is none.
        pem: What it holds.
    """

    label: str
    path: str | None
    pem: str = field(repr=False)


def trusted_places(endpoint: Endpoint, environment: Mapping[str, str] | None = None) -> Iterator[Place]:
    """The bundles that are trusted, what the user gave first."""
    environment = os.environ if environment is None else environment
    discovered = (
        {} if endpoint.discovered is None else {item.pem: item.source for item in endpoint.discovered.authorities}
    )
    for item in endpoint.trust.ca_cert:
        if PEM_MARK in item:
            yield Place(discovered.get(item, "the PEM text in ca_cert"), None, item)
        else:
            yield from _files(item, _members(Path(item)))
    for variable in (OWN_BUNDLE_VARIABLE, *SHARED_BUNDLE_VARIABLES):
        name = environment.get(variable)
        if name:
            yield from _files(f"{variable} ({name})", _members(Path(name)))
    yield from _files(SERVICE_CA, [Path(SERVICE_CA)])
    for name in SYSTEM_BUNDLES:
        yield from _files(name, [Path(name)])
    import certifi

    yield from _files("certifi", [Path(certifi.where())])


def other_places(environment: Mapping[str, str] | None = None, folders: Sequence[str] | None = None) -> Iterator[Place]:
    """The bundles that are not trusted, but are here.

    Args:
        environment: Where the variables are looked up.
        folders: The folders to look through, with what is below them; `FOLDERS` if not given.
    """
    environment = os.environ if environment is None else environment
    seen: set[Path] = set()
    for variable in VARIABLES:
        name = environment.get(variable)
        if name:
            yield from _new(f"{variable} ({name})", _members(Path(name)), seen)
    for folder in FOLDERS if folders is None else folders:
        files = sorted(path for path in _walk(Path(folder)) if path.suffix.lower() in _SUFFIXES)
        for path in files[:_MOST_FILES]:
            yield from _new(str(path), [path], seen)


def find_signer(
    chain: Sequence[Certificate], places: Iterable[Place], confirm: Callable[[Place], bool]
) -> tuple[Place, Certificate] | None:
    """The place that holds what a chain needs to be believed.

    Args:
        chain: The chain, in order.
        places: Where to look.
        confirm: Whether the server is believed with that place's certificates; asked only where the names fit.
    """
    if not chain:
        return None
    for place in places:
        signer = signer_in(chain, place)
        if signer is not None and confirm(place):
            return place, signer
    return None


def signer_in(chain: Sequence[Certificate], place: Place) -> Certificate | None:
    """A place's certificate that is in a chain, or that its name says signed the chain; the root's rather."""
    held = read_bundle(place.pem)
    known = {item.der: item for item in held}
    for certificate in reversed(chain):
        if certificate.der in known:
            return certificate
        for item in held:
            if certificate.may_be_signed_by(item):
                return item
    return None


def _members(path: Path) -> list[Path]:
    return sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]


def _walk(folder: Path, depth: int = 3) -> Iterator[Path]:
    """Files below a folder; the kubelet's hidden copies are left out."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries[:_MOST_FILES]:
        if entry.name.startswith(".."):
            continue
        if entry.is_dir():
            if depth > 1:
                yield from _walk(entry, depth - 1)
        else:
            yield entry


def _new(label: str, paths: Iterable[Path], seen: set[Path]) -> Iterator[Place]:
    for path in paths:
        try:
            real = path.resolve()
        except (OSError, RuntimeError):
            continue
        if real not in seen:
            seen.add(real)
            yield from _files(label, [path])


def _files(label: str, paths: Iterable[Path]) -> Iterator[Place]:
    for path in paths:
        try:
            if path.stat().st_size > _LARGEST:
                continue
            text = path.read_text("utf-8", "replace")
        except OSError:
            continue
        if PEM_MARK in text:
            yield Place(label, str(path), text)
