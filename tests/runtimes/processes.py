"""Starts servers, waits until they answer, and stops them whatever happens."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

_SET_PARENT_DEATH_SIGNAL = 1


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)


@dataclass
class Server:
    """A server process in a group of its own.

    Attributes:
        name: For messages and the log's name.
        command: What to run.
        ready_url: Answers 200 once it is ready.
        log: Where its output goes.
        environment: Variables on top of this process's own.
        ca_cert: Certificate authority of an https `ready_url`.
        client_cert: Certificate and key to show there.
        ports: Other ports that must be open before it is ready.
    """

    name: str
    command: Sequence[str]
    ready_url: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    ca_cert: Path | None = None
    client_cert: tuple[Path, Path] | None = None
    ports: Sequence[int] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; does not wait."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.environment},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - no threads here
            )

    @property
    def ended(self) -> bool:
        """Whether it has stopped by itself."""
        return self.process is not None and self.process.poll() is not None

    def ready(self) -> bool:
        """Whether it answers."""
        context = ssl.create_default_context(cafile=str(self.ca_cert)) if self.ca_cert else None
        if context and self.client_cert:
            context.load_cert_chain(*self.client_cert)
        try:
            for port in self.ports:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
            with urllib.request.urlopen(self.ready_url, timeout=5, context=context) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def signal(self, number: int) -> None:
        """Signals the whole group."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def tail(self, lines: int = 40) -> str:
        """The end of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


class Servers:
    """Several servers as one context: started together, stopped together."""

    def __init__(self, servers: Sequence[Server], *, patience: float = 600) -> None:
        self.servers = list(servers)
        self.patience = patience

    def __enter__(self) -> Servers:
        try:
            for server in self.servers:
                server.start()
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait(self) -> None:
        began = time.monotonic()
        waiting = list(self.servers)
        while waiting:
            for server in list(waiting):
                if server.ended:
                    msg = f"{server.name} ended while starting:\n{server.tail()}"
                    raise RuntimeError(msg)
                if server.ready():
                    print(f"{server.name} is ready after {time.monotonic() - began:.0f} s", flush=True)
                    waiting.remove(server)
            if time.monotonic() - began > self.patience:
                tails = "\n".join(f"--- {server.name}\n{server.tail()}" for server in waiting)
                msg = f"not ready after {self.patience:.0f} s:\n{tails}"
                raise RuntimeError(msg)
            time.sleep(0.25)

    def stop(self) -> None:
        """Asks all to stop, and kills what has not within 15 seconds."""
        for server in self.servers:
            server.signal(signal.SIGTERM)
        end = time.monotonic() + 15
        for server in self.servers:
            if server.process is None:
                continue
            with suppress(subprocess.TimeoutExpired):
                server.process.wait(max(0.1, end - time.monotonic()))
            server.signal(signal.SIGKILL)  # children that outlived it
            server.process.wait()
