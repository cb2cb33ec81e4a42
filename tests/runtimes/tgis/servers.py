"""TGIS over gRPC: vllm-tgis-adapter in vLLM's environment, with vLLM's tiny chat model.

Two servers: an open one, and one with TLS that wants to see a client certificate. Tests may kill the second one.
Caikit's servers use them as well; see `backends`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtimes.processes import Server, Servers, free_ports
from runtimes.vllm.servers import CONTEXT, MODEL, SERVING, models, python

HERE = Path(__file__).parent
MAX_NEW_TOKENS = 3900
CHAT = {"chat_template": "chatml", "max_tokens": 256}
OPTIONS = (
    *("--served-model-name", MODEL),
    *("--max-model-len", str(CONTEXT)),
    *("--max-new-tokens", str(MAX_NEW_TOKENS)),
    *("--dtype", "float32"),
    *("--kv-cache-memory-bytes", str(256 << 20)),
    *("--max-num-seqs", "16"),
    "--enforce-eager",
)


@dataclass(frozen=True)
class Certificates:
    """Files for TLS in both directions.

    Attributes:
        ca: Of the authority that signed the other two.
        server: A server's certificate and its key.
        client: A client's certificate and its key.
        stranger: Another client's, from an authority that nobody knows.
    """

    ca: Path
    server: tuple[Path, Path]
    client: tuple[Path, Path]
    stranger: tuple[Path, Path]

    @classmethod
    def create(cls, folder: Path) -> Certificates:
        """Makes them in a folder."""
        from kserve_core.devserver.certificates import Authority

        folder.mkdir(exist_ok=True)
        authority = Authority.create("kserve-integrations tests")
        return cls(
            ca=authority.write_ca(folder / "ca.pem"),
            server=authority.issue(["localhost", "127.0.0.1"], folder),
            client=authority.issue(["client.test"], folder, stem="client"),
            stranger=Authority.create("somebody else").issue(["client.test"], folder, stem="stranger"),
        )


@dataclass(frozen=True)
class Backends:
    """The running servers.

    Attributes:
        plain: Where the open one listens, as `host:port`.
        secure: Where the one with TLS listens.
        certificates: Its certificates, and those of its clients.
        processes: The servers, by the same names.
    """

    plain: str
    secure: str
    certificates: Certificates
    processes: dict[str, Server]


_running: list[Backends] = []


def prepare() -> None:
    """Installs vLLM with the adapter and makes the models, where that has not been done."""
    models(python())


@contextmanager
def backends(work: Path) -> Iterator[Backends]:
    """The servers: those that are running, or else some for as long as this context lasts.

    Args:
        work: A folder for logs and certificates.
    """
    if _running:
        yield _running[-1]
        return
    interpreter = python()
    chat, _ = models(interpreter)
    certificates = Certificates.create(work / "tgis-certificates")
    certificate, key = certificates.server
    tls = ("--tls-cert-path", str(certificate), "--tls-key-path", str(key))
    ports = free_ports(4)

    def server(name: str, listen: list[int], *options: str, ca: Path | None = None) -> Server:
        http, grpc = listen
        command = [str(interpreter), str(HERE / "launch.py"), "--model", str(chat / "model"), "--host", "127.0.0.1"]
        command += ["--port", str(http), "--grpc-port", str(grpc), *OPTIONS, *options]
        return Server(
            name=f"TGIS {name}",
            command=command,
            ready_url=f"{'https' if ca else 'http'}://127.0.0.1:{http}/health",
            log=work / f"tgis-{name}.log",
            environment=SERVING,
            ca_cert=ca,
            ports=[grpc],
        )

    servers = {
        "plain": server("plain", ports[:2]),
        "secure": server(
            "secure", ports[2:], *tls, "--tls-client-ca-cert-path", str(certificates.ca), ca=certificates.ca
        ),
    }
    with Servers(list(servers.values())):
        _running.append(
            Backends(
                plain=f"127.0.0.1:{ports[1]}",
                secure=f"127.0.0.1:{ports[3]}",
                certificates=certificates,
                processes=servers,
            )
        )
        try:
            yield _running[-1]
        finally:
            _running.pop()


@contextmanager
def serving(work: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Runs the servers and yields their entry in the targets file."""
    with backends(work) as running:
        text = {"base_url": f"grpc://{running.plain}", "model": MODEL}
        yield {
            "tgis": {
                "name": "TGIS",
                "chat": {**text, **CHAT},
                "text": text,
                "servers": servers_entry(running),
            }
        }


def servers_entry(running: Backends) -> dict[str, Any]:
    """What tests need to know about the servers, as it stands in the targets file."""
    certificates = running.certificates

    def entry(name: str, base_url: str) -> dict[str, Any]:
        server = running.processes[name]
        return {
            "base_url": base_url,
            "http": server.ready_url.removesuffix("/health"),
            "pid": server.process.pid if server.process else None,
            "log": str(server.log),
        }

    return {
        "plain": entry("plain", f"grpc://{running.plain}"),
        "secure": entry("secure", f"grpcs://{running.secure}"),
        "ca_cert": str(certificates.ca),
        "client_cert": [str(path) for path in certificates.client],
        "stranger_cert": [str(path) for path in certificates.stranger],
    }
