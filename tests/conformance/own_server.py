"""A development server of a test's own, speaking the wire of the runtime under test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import matrix

if TYPE_CHECKING:
    from targets import Target

    from kserve_core.devserver import DevServer


@contextmanager
def own_server(target: Target, **options: Any) -> Iterator[tuple[DevServer, str]]:
    """A running server and the `base_url` of the runtime's classes."""
    from kserve_core.devserver import DevServer

    entry = matrix.entry(target.runtime)
    grpc = {entry.grpc.removesuffix("_url"): True} if entry.grpc else {}
    with DevServer(runtime=entry.wire, **grpc, **options) as server:
        yield server, getattr(server, entry.grpc) if entry.grpc else server.url + entry.path


def over_grpc(target: Target) -> bool:
    """Whether the runtime under test is reached over gRPC."""
    return matrix.entry(target.runtime).grpc is not None
