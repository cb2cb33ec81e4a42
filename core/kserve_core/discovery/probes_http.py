"""Questions over HTTP that tell which runtime answers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from kserve_core._json import encode
from kserve_core.calls import Call, Response
from kserve_core.discovery.documents import dig, mapping, objects, text
from kserve_core.discovery.probes import Found, Probe, Probes, by_server_name
from kserve_core.discovery.runtime_choice import OPENAI

_VERSION = re.compile(r"(?:/openai|/api)?/v\d+$")


def http_probes(base_path: str) -> Probes:
    """The questions for a server, whatever part of its path was given.

    Args:
        base_path: The path of its URL.
    """
    versioned = _VERSION.search(base_path)
    api = base_path if versioned else f"{base_path}/v1"
    server = _VERSION.sub("", base_path)

    # vLLM lists itself as the owner of its models; one list tells runtime, path and names.
    listed = yield _get(f"{api}/models", _models)
    owners, names = listed if listed is not None else (set(), ())
    if "vllm" in owners:
        openai = api.endswith("/openai/v1")
        return Found(
            runtime="vllm",
            variant=OPENAI if openai else "vllm",
            path=base_path if not openai else api,
            models=names,
            evidence=f"GET {api}/models: owned by vllm",
        )
    if "ovms" in owners:
        return Found(runtime="openvino", path=server, models=names, evidence=f"GET {api}/models: owned by OVMS")

    about = yield _get(f"{server}/v2", _server)
    if about is not None:
        return (yield from _open_inference(server, *about))
    if listed is not None:
        openai = api.endswith("/openai/v1")
        variant = OPENAI if openai else "openai-compatible"
        return Found(
            runtime="vllm", variant=variant, path=base_path, models=names, evidence=f"GET {api}/models: OpenAI's list"
        )

    about = yield _get(f"{server}/v1/config", _ovms_config)
    if about is not None:
        evidence = f"GET {server}/v1/config: models and their versions' states"
        return Found(runtime="openvino", path=server, models=about, evidence=evidence)
    listed = yield _get(f"{server}/v3/models", _models)
    if listed is not None:
        return Found(runtime="openvino", path=server, models=listed[1], evidence=f"GET {server}/v3/models: a list")

    version = yield _get(f"{server}/info/version", _caikit_version)
    names = yield _get(f"{server}/info/models", _caikit_models)
    if version is not None or names is not None:
        return Found(
            runtime="caikit",
            path=server,
            models=names or (),
            version=version or "",
            evidence=f"GET {server}/info/{'version' if version is not None else 'models'}",
        )
    pages = yield _get(f"{server}/openapi.json", _openapi)
    if pages is not None:
        return Found(runtime=pages, path=server, evidence=f"GET {server}/openapi.json: the operations it lists")

    listed = yield _get(f"{server}/openai/v1/models", _models)
    return None if listed is None else _kserve_openai(server, listed[1])


def _open_inference(server: str, name: str, version: str) -> Probes:
    """A server of the Open Inference Protocol, by the name it gives itself."""
    evidence = f"GET {server}/v2: it calls itself {name[:80]!r}"
    runtime, variant = by_server_name(name)
    if runtime in {None, "kserve"}:  # KServe's own server has this name, whatever else it serves
        listed = yield _get(f"{server}/openai/v1/models", _models)
        if listed is not None:
            return _kserve_openai(server, listed[1])
        names = yield _get(f"{server}/v2/models", _v2_models)
        return Found(
            runtime=runtime, variant=variant, path=server, models=names or (), version=version, evidence=evidence
        )
    models: tuple[str, ...] | None
    if runtime == "openvino":
        models = yield _get(f"{server}/v1/config", _ovms_config)
    else:
        index = f"{server}/v2/repository/index"
        call = Call(method="POST", path=index, body=encode({}), read=_reader(_index))
        models = yield Probe(f"POST {index}", call)
    return Found(runtime=runtime, path=server, models=models or (), version=version, evidence=evidence)


def _kserve_openai(server: str, names: tuple[str, ...]) -> Found:
    path = f"{server}/openai/v1"
    return Found(runtime="vllm", variant=OPENAI, path=path, models=names, evidence=f"GET {path}/models")


def _get(path: str, read: Callable[[Any], Any]) -> Probe:
    return Probe(f"GET {path}", Call(method="GET", path=path, read=_reader(read)))


def _reader(read: Callable[[Any], Any]) -> Callable[[Response], Any]:
    def parse(response: Response) -> Any:
        try:
            value = orjson.loads(response.body)
        except orjson.JSONDecodeError:
            return None
        return read(value)

    return parse


def _models(value: Any) -> tuple[set[str], tuple[str, ...]] | None:
    """The owners and the names in an OpenAI list of models."""
    if not isinstance(dig(value, "data"), list):
        return None
    entries = objects(value, "data")
    owners = {text(entry, "owned_by").lower() for entry in entries}
    return owners, tuple(name for entry in entries if (name := text(entry, "id")))


def _server(value: Any) -> tuple[str, str] | None:
    """Name and version in V2 server metadata."""
    name = text(value, "name")
    return (name, text(value, "version")) if name else None


def _v2_models(value: Any) -> tuple[str, ...]:
    listed = dig(value, "models")
    return tuple(name for name in listed if isinstance(name, str)) if isinstance(listed, list) else ()


def _index(value: Any) -> tuple[str, ...]:
    names = [text(item, "name") for item in value] if isinstance(value, list) else []
    return tuple(dict.fromkeys(name for name in names if name))


def _ovms_config(value: Any) -> tuple[str, ...] | None:
    """The models in an answer of OpenVINO Model Server's `/v1/config`."""
    entries = mapping(value)
    if not entries or not all(isinstance(dig(entry, "model_version_status"), list) for entry in entries.values()):
        return None
    return tuple(str(name) for name in entries)


def _caikit_version(value: Any) -> str | None:
    packages = dig(value, "python_packages")
    if not isinstance(packages, dict) and not isinstance(dig(value, "runtime_version"), str):
        return None
    return text(packages, "caikit") or text(value, "runtime_version")


def _caikit_models(value: Any) -> tuple[str, ...] | None:
    if not isinstance(dig(value, "models"), list):
        return None
    return tuple(name for entry in objects(value, "models") if (name := text(entry, "name")))


def _openapi(value: Any) -> str | None:
    """The runtime whose operations an OpenAPI description lists."""
    paths = list(mapping(value, "paths"))
    for mark, runtime in (("/task/", "caikit"), ("/v1/chat/completions", "vllm")):
        if any(mark in path for path in paths):
            return runtime
    return None
