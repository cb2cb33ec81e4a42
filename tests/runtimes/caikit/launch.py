"""Starts the Caikit runtime on loopback only; left alone it listens on every address, and has no setting for that.

Settings come from variables and from the files named by `CONFIG_FILES`, as always with Caikit.
"""

from __future__ import annotations

from typing import Any

import grpc
import uvicorn

ADDRESS = "127.0.0.1"


class LoopbackConfig(uvicorn.Config):
    """The web server's settings with another address."""

    def __init__(self, app: Any, **settings: Any) -> None:
        super().__init__(app, **{**settings, "host": ADDRESS})


class LoopbackServer:
    """A gRPC server whose ports are opened on another address."""

    def __init__(self, server: grpc.Server) -> None:
        self._server = server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def add_insecure_port(self, address: str) -> int:
        """Opens a port without TLS."""
        return self._server.add_insecure_port(self._here(address))

    def add_secure_port(self, address: str, credentials: grpc.ServerCredentials) -> int:
        """Opens a port with TLS."""
        return self._server.add_secure_port(self._here(address), credentials)

    def _here(self, address: str) -> str:
        return f"{ADDRESS}:{address.rpartition(':')[2]}"


def main() -> None:
    """Serves until told to stop."""
    make = grpc.server
    uvicorn.Config = LoopbackConfig
    grpc.server = lambda *args, **options: LoopbackServer(make(*args, **options))
    from caikit.runtime.__main__ import main as serve

    serve()


if __name__ == "__main__":
    main()
