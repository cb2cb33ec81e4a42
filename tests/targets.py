"""Where the conformance suites find a server.

By default that is the package's own development server, started once per test process and wire. With
`KSERVE_TEST_TARGETS` naming a JSON file, it is the real servers described there, and nothing else::

    {"vllm": {"name": "vLLM 0.32 on CPU",
              "chat": {"base_url": "http://127.0.0.1:18200/v1", "api_key": "...", "model": "tiny"},
              "text": {...}, "embedding": {...}, "rerank": {...}, "reasoning": {...},
              "other_model": "tiny-adapter", "features": ["tools", "usage"], "servers": {...}}}
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matrix

if TYPE_CHECKING:
    from kserve_core.devserver import DevServer

TARGETS_VARIABLE = "KSERVE_TEST_TARGETS"
API_KEY = "test-key"
MODEL = "tiny"
OTHER_MODEL = "tiny-adapter"


@dataclass(frozen=True)
class Target:
    """A server (or several) that stand for one runtime.

    Attributes:
        name: For messages.
        runtime: The matrix entry's key.
        chat: Constructor arguments (`base_url`, `api_key`, `model`) of a chat class, or None if it has no chat.
        text: The same for text completion.
        embedding: The same for embeddings.
        rerank: The same for reranking.
        reasoning: The same for a chat class whose server parts reasoning from the answer.
        other_model: A second model of the chat server (an adapter of the first).
        features: What can be expected of it; the capabilities it has are among them, and `devserver` if it is one.
        devserver: The development server behind it, or None for a real one.
        servers: What a real runtime's own tests need to know about its servers.
    """

    name: str
    runtime: str
    chat: dict[str, Any] | None = None
    text: dict[str, Any] | None = None
    embedding: dict[str, Any] | None = None
    rerank: dict[str, Any] | None = None
    reasoning: dict[str, Any] | None = None
    other_model: str | None = None
    features: frozenset[str] = frozenset()
    devserver: DevServer | None = None
    servers: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Target({self.name!r})"


def real_targets() -> dict[str, dict[str, Any]] | None:
    """The targets file's content by runtime key, or None where the development server is used."""
    path = os.environ.get(TARGETS_VARIABLE)
    return _read(path) if path else None


@cache
def _read(path: str) -> dict[str, dict[str, Any]]:
    content: dict[str, dict[str, Any]] = json.loads(Path(path).read_text(encoding="utf-8"))
    return content


def active_entries() -> list[matrix.Entry]:
    """The matrix entries this run has a server for."""
    real = real_targets()
    return [entry for entry in matrix.RUNTIMES if real is None or entry.key in real]


def features(runtime_key: str) -> frozenset[str]:
    """What can be expected of a runtime's target; starts nothing, so it may be asked while tests are collected."""
    real = real_targets()
    entry = matrix.entry(runtime_key)
    if real is None:
        return entry.features | {"devserver", "other_model", *_capabilities(entry)}
    spec = real.get(runtime_key)
    if spec is None:
        return frozenset()
    present = {name for name in (*matrix.CAPABILITIES, "reasoning", "other_model") if spec.get(name)}
    return frozenset(spec.get("features", entry.features)) | present


def _capabilities(entry: matrix.Entry) -> set[str]:
    names = {"llm": "text", "embeddings": "embedding"}
    return {names.get(name, name) for name in entry.langchain}


def get_target(runtime_key: str) -> Target:
    """The server that stands for a runtime.

    Raises:
        LookupError: If this run has none.
    """
    real = real_targets()
    if real is None:
        return _development_target(runtime_key)
    if runtime_key not in real:
        msg = f"{os.environ[TARGETS_VARIABLE]} names no target for {runtime_key!r}"
        raise LookupError(msg)
    spec = {name: value for name, value in real[runtime_key].items() if name != "features"}
    for name in {"embedding", "rerank"} & spec.keys():
        spec[name] = {**spec[name], **matrix.entry(runtime_key).vectors}
    return Target(runtime=runtime_key, features=features(runtime_key), **spec)


def capability_params(runtime_key: str, capability: str) -> dict[str, Any]:
    """Constructor arguments for a class of one capability (`chat`, `text`, `embedding`, `rerank`, `reasoning`).

    Raises:
        LookupError: If the target lacks it.
    """
    target = get_target(runtime_key)
    params: dict[str, Any] | None = getattr(target, capability)
    if params is None:
        msg = f"{target.name} has no {capability}"
        raise LookupError(msg)
    return dict(params)


_started: dict[str, DevServer] = {}


def development_server(wire: str = "vllm") -> DevServer:
    """This process's development server for a runtime's wire, started at the first call."""
    if wire not in _started:
        from kserve_core.devserver import DevServer, Model

        models = [Model(name=MODEL), Model(name=OTHER_MODEL, parent=MODEL)]
        grpc = {"vllm": "tgis", "caikit": "caikit_grpc"}.get(wire, "v2_grpc")
        if grpc == "v2_grpc":
            # The first has an input that cuts long texts; a name says what a model of this server does.
            models += [Model(name="tiny-embedding-truncating", aliases=("tiny-embedding",)), Model(name="tiny-rerank")]
        server = DevServer(
            runtime=wire,
            api_key=API_KEY,
            protect_all=grpc == "v2_grpc",  # by a proxy, as in a cluster: these servers guard little themselves
            models=models,
            request_id_headers=True,
            **{grpc: True},
        )
        _started[wire] = server.start()
    return _started[wire]


def reset_development_servers() -> None:
    """Has them forget faults and requests."""
    for server in _started.values():
        server.reset()


def stop_development_servers() -> None:
    """Stops those that were started."""
    while _started:
        _started.popitem()[1].stop()


def _development_target(runtime_key: str) -> Target:
    entry = matrix.entry(runtime_key)
    server = development_server(entry.wire)
    known = features(runtime_key)
    url = getattr(server, entry.grpc) if entry.grpc else f"{server.url}{entry.path}"
    params = {"base_url": url, "api_key": API_KEY, "model": MODEL}
    capabilities = {
        name: {**params, "model": entry.models.get(name, MODEL)}
        for name in (*matrix.CAPABILITIES, "reasoning")
        if name in known
    }
    for name in {"chat", "reasoning"} & capabilities.keys():
        capabilities[name].update(entry.chat)
    for name in {"embedding", "rerank"} & capabilities.keys():
        capabilities[name].update(entry.vectors)
    return Target(
        name="development server",
        runtime=runtime_key,
        other_model=OTHER_MODEL,
        features=known,
        devserver=server,
        **capabilities,
    )
