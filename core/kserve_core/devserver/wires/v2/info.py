"""What servers and models tell about themselves."""

from __future__ import annotations

from typing import Any

import orjson

from kserve_core.devserver.messages import Reply, json_reply
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.v2.repository import Repository
from kserve_core.devserver.wires.v2.request import Served, Spec
from kserve_core.devserver.wires.v2.ways import Ways

_OPTIMIZATION = {
    "priority": "PRIORITY_DEFAULT",
    "input_pinned_memory": {"enable": True},
    "output_pinned_memory": {"enable": True},
    "gather_kernel_buffer_threshold": 0,
    "eager_batching": False,
}
PLATFORMS = {"triton": "python", "mlserver": "devserver", "kserve": "", "openvino": "OpenVINO"}


def server(settings: Settings, ways: Ways) -> Reply:
    """GET /v2."""
    body: dict[str, Any] = {"name": ways.name, "version": settings.version}
    if ways.extensions is not None:
        body["extensions"] = list(ways.extensions)
    return json_reply(body)


def model(model: Served, version: str | None, ways: Ways) -> Reply:
    """GET /v2/models/m."""
    body: dict[str, Any] = {"name": model.name, "versions": versions(model, version, ways)}
    body["platform"] = PLATFORMS[ways.key]
    for key, specs in (("inputs", model.inputs), ("outputs", model.outputs)):
        body[key] = [{"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)} for spec in specs]
    if ways.key == "openvino":
        body["rt_info"] = {}
    if ways.key == "mlserver":
        body["parameters"] = {}
    return json_reply(body)


def versions(model: Served, version: str | None, ways: Ways) -> list[str] | None:
    """The versions a model's metadata names: of a versioned request only that one; MLServer names none."""
    if ways.versions == "none":
        return None
    if ways.versions == "names":
        return []
    return [version] if version else list(model.versions)


def config(model: Served) -> Reply:
    """GET /v2/models/m/config."""
    return json_reply(configuration(model))


def configuration(model: Served) -> dict[str, Any]:
    """The members of a Triton configuration that matter here."""
    made: dict[str, Any] = {
        "name": model.name,
        "platform": "",
        "backend": "python",
        "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": model.max_batch_size,
        "input": [
            {
                "name": spec.name,
                "data_type": kind(spec),
                "format": "FORMAT_NONE",
                "dims": _dims(spec, model),
                "is_shape_tensor": False,
                "allow_ragged_batch": False,
                "optional": spec.optional,
                "is_non_linear_format_io": False,
            }
            for spec in model.inputs
        ],
        "output": [
            {
                "name": spec.name,
                "data_type": kind(spec),
                "dims": _dims(spec, model),
                "label_filename": "",
                "is_shape_tensor": False,
                "is_non_linear_format_io": False,
            }
            for spec in model.outputs
        ],
    }
    made.update(batch_input=[], batch_output=[], optimization=_OPTIMIZATION)
    if model.max_batch_size:
        made["dynamic_batching"] = {
            "preferred_batch_size": [model.max_batch_size],
            "max_queue_delay_microseconds": 500,
            "preserve_ordering": False,
            "priority_levels": 0,
            "default_priority_level": 0,
            "priority_queue_policy": {},
        }
    group = {"name": f"{model.name}_0", "kind": "KIND_CPU", "count": 1, "gpus": [], "secondary_devices": []}
    made["instance_group"] = [{**group, "profile": [], "passive": False, "host_policy": ""}]
    made.update(default_model_filename="model.py", cc_model_filenames={}, metric_tags={}, parameters={})
    made["model_warmup"] = []
    if model.decoupled:
        made["model_transaction_policy"] = {"decoupled": True}
    return made


def kind(spec: Spec) -> str:
    """A datatype as a configuration names it."""
    return "TYPE_STRING" if spec.datatype == "BYTES" else f"TYPE_{spec.datatype}"


def stats(model: Served) -> Reply:
    """GET /v2/models/m/stats, without any counts."""
    entry = {"name": model.name, "version": model.versions[-1], "last_inference": 0, "inference_count": 0}
    return json_reply({"model_stats": [{**entry, "execution_count": 0, "inference_stats": {}, "batch_stats": []}]})


def index(repository: Repository, ways: Ways, body: bytes) -> list[dict[str, str]]:
    """POST /v2/repository/index."""
    try:
        ready_only = bool(orjson.loads(body or b"{}").get("ready"))
    except (orjson.JSONDecodeError, AttributeError):
        ready_only = False
    return entries(repository, ways, ready_only=ready_only)


def entries(repository: Repository, ways: Ways, *, ready_only: bool) -> list[dict[str, str]]:
    """Every version of every model, with its state."""
    made = []
    for served in sorted(repository.models.values(), key=lambda served: served.name):
        if ready_only and not served.ready:
            continue
        for version in served.versions:
            if ways.key == "mlserver":
                entry = {"name": served.name} if served.newest is None else {"name": served.name, "version": version}
                made.append({**entry, "state": "READY" if served.ready else "UNKNOWN", "reason": ""})
                continue
            entry = {"name": served.name, "version": version}
            if not served.ready:
                reason = "unloaded" if served.loadable else "Internal: cannot be loaded"
                made.append({**entry, "state": "UNAVAILABLE", "reason": reason})
            else:
                made.append({**entry, "state": "READY"})
    return made


def _dims(spec: Spec, model: Served) -> list[int]:
    return list(spec.shape[1:] if model.max_batch_size else spec.shape)
