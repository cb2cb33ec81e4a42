"""The Caikit runtime over REST and gRPC, with an embedding model of its own and text generation by TGIS behind it.

Two servers of the same models: an open one, and one with TLS that wants to see a client certificate. Each passes
text generation on to the TGIS server of its kind, so the second is TLS all the way. Of the two text models one has
nobody behind it.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtimes.environments import Environment, cache_root, fingerprint, once
from runtimes.processes import Server, Servers, free_ports
from runtimes.tgis import servers as tgis

HERE = Path(__file__).parent
MODEL, UNREACHABLE, EMBEDDER = "tiny", "unreachable", "minilm"
ENVIRONMENT = Environment(name="caikit", requirements=HERE / "requirements.txt", overrides=HERE / "overrides.txt")
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "",
    "OMP_NUM_THREADS": "1",
}


def models(interpreter: Path) -> Path:
    """The folder of the models, made at the first call."""
    parts = [HERE / name for name in ("requirements.txt", "make_models.py")]

    def make(out: Path) -> None:
        command = [str(interpreter), str(HERE / "make_models.py"), str(out)]
        subprocess.run(command, check=True, env={**os.environ, **QUIET})

    return once(cache_root() / f"caikit-models-{fingerprint(*parts)}", make)


def prepare() -> None:
    """Installs Caikit and makes the models, where that has not been done; the same for TGIS."""
    tgis.prepare()
    models(ENVIRONMENT.python())


def settings(
    *, folder: Path, http: int, grpc: int, remotes: dict[str, dict[str, str]], tls: dict[str, Any]
) -> dict[str, Any]:
    """A server's configuration.

    Args:
        folder: Where the models are.
        http: Port for REST.
        grpc: Port for gRPC.
        remotes: The TGIS connection of each text model.
        tls: `runtime.tls`; empty for none.
    """
    backend = {"type": "TGIS", "config": {"remote_models": remotes}}
    return {
        "log": {"level": "info", "formatter": "pretty"},
        "runtime": {
            "library": "caikit_nlp",
            "local_models_dir": str(folder),
            "lazy_load_local_models": False,
            "wait_for_initial_model_loads": True,
            "server_thread_pool_size": 16,
            "http": {"enabled": True, "port": http, "server_shutdown_grace_period_seconds": 1},
            "grpc": {
                "enabled": True,
                "port": grpc,
                "unix_socket_path": "",
                "server_shutdown_grace_period_seconds": 1,
            },
            "metrics": {"enabled": False},
            "service_generation": {"enable_training": False, "enable_inference_jobs": False},
            "version_info": {"runtime_image": "caikit-for-tests"},
            **({"tls": tls} if tls else {}),
        },
        "model_management": {
            "initializers": {"default": {"type": "LOCAL", "config": {"backend_priority": [backend, {"type": "LOCAL"}]}}}
        },
    }


@contextmanager
def serving(work: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Runs the servers and yields their entries in the targets file, one for REST and one for gRPC.

    Args:
        work: A folder for logs, configurations and certificates.
    """
    interpreter = ENVIRONMENT.python()
    folder = models(interpreter)
    with tgis.backends(work) as backends:
        certificates = backends.certificates
        *ports, nobody = free_ports(5)
        client, client_key = certificates.client
        with_tls = {
            "ca_cert_file": str(certificates.ca),
            "client_cert_file": str(client),
            "client_key_file": str(client_key),
        }
        certificate, key = certificates.server
        tls = {
            "server": {"cert": str(certificate), "key": str(key)},
            "client": {"cert": str(certificates.ca)},
        }

        def server(name: str, listen: list[int], backend: dict[str, str], tls: dict[str, Any]) -> Server:
            http, grpc = listen
            remotes = {MODEL: backend, UNREACHABLE: {"hostname": f"127.0.0.1:{nobody}"}}
            file = work / f"caikit-{name}.yml"  # JSON is YAML
            file.write_text(
                json.dumps(settings(folder=folder, http=http, grpc=grpc, remotes=remotes, tls=tls), indent=1)
            )
            return Server(
                name=f"Caikit {name}",
                command=[str(interpreter), str(HERE / "launch.py")],
                ready_url=f"{'https' if tls else 'http'}://127.0.0.1:{http}/health",
                log=work / f"caikit-{name}.log",
                environment={**QUIET, "CONFIG_FILES": str(file)},
                ca_cert=certificates.ca if tls else None,
                client_cert=certificates.client if tls else None,
                ports=[grpc],
            )

        servers = {
            "plain": server("plain", ports[:2], {"hostname": backends.plain}, {}),
            "secure": server("secure", ports[2:], {"hostname": backends.secure, **with_tls}, tls),
        }
        with Servers(list(servers.values())):
            known = {
                "plain": {"rest": f"http://127.0.0.1:{ports[0]}", "grpc": f"grpc://127.0.0.1:{ports[1]}"},
                "secure": {"rest": f"https://127.0.0.1:{ports[2]}", "grpc": f"grpcs://127.0.0.1:{ports[3]}"},
                "backend": tgis.servers_entry(backends),
            }
            yield {
                "caikit": _entry("Caikit", known["plain"]["rest"], known),
                "caikit-grpc": _entry("Caikit over gRPC", known["plain"]["grpc"], known, protocol="grpc"),
            }


def _entry(name: str, base_url: str, servers: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = {"base_url": base_url, **more, "model": MODEL}
    retrieval = {"base_url": base_url, **more, "model": EMBEDDER}
    return {
        "name": name,
        "chat": {**text, **tgis.CHAT},
        "text": text,
        "embedding": retrieval,
        "rerank": dict(retrieval),
        "servers": servers,
    }
