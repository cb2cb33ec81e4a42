"""Starts a server of KServe's SDK with the models, on loopback only; left alone it listens on every address.

python launch.py --http_port N --grpc_port N [--ssl_certfile FILE --ssl_keyfile FILE]
"""

from __future__ import annotations

from typing import Any

import grpc.aio
import uvicorn

ADDRESS = "127.0.0.1"
_configured = uvicorn.Config.__init__


def _configure(self: uvicorn.Config, app: Any, **settings: Any) -> None:
    _configured(self, app, **{**settings, "host": ADDRESS})


class LoopbackServer:
    """A gRPC server whose ports are opened on another address."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def add_insecure_port(self, address: str) -> int:
        """Opens a port without TLS."""
        return self._server.add_insecure_port(f"{ADDRESS}:{address.rpartition(':')[2]}")


def main() -> None:
    """Serves until told to stop."""
    make = grpc.aio.server
    uvicorn.Config.__init__ = _configure
    grpc.aio.server = lambda *args, **options: LoopbackServer(make(*args, **options))
    from kserve import ModelServer, model_server
    from runtimes.kserve.models import all_models

    given, _ = model_server.parser.parse_known_args()
    models = all_models()
    for model in models:
        model.load()
    ModelServer(
        http_port=given.http_port,
        grpc_port=given.grpc_port,
        workers=1,
        grace_period=1,
        ssl_certfile=given.ssl_certfile,
        ssl_keyfile=given.ssl_keyfile,
    ).start(models)


if __name__ == "__main__":
    main()
