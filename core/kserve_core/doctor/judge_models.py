"""What a server says about itself and its models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kserve_core.discovery.detect import Detected
from kserve_core.doctor.findings import Finding
from kserve_core.doctor.judge_access import names
from kserve_core.errors import KServeError
from kserve_core.names import nearest
from kserve_core.runtimes.registry import RUNTIMES
from kserve_core.types import ModelInfo

_OTHER_NAMES = "The name may differ from the InferenceService's and from the display name in the dashboard."


def judge_runtime(
    detected: Detected | None, *, wanted: str | None, version: str = "", error: KServeError | None = None
) -> Finding:
    """Which runtime it is.

    Args:
        detected: What the server turned out to be; None if that is not known.
        wanted: The runtime's key, if the user gave one.
        version: Its version, if it was asked for it.
        error: Why it is not known.
    """
    key = detected.runtime if detected is not None else None
    facts = {
        "runtime": wanted or key,
        "detected": key,
        "variant": detected.variant if detected else "",
        "version": version,
        "protocol": detected.protocol if detected else None,
        "base_url": detected.base_url if detected else None,
    }
    detail = detected.evidence if detected is not None else ""
    if wanted is not None and key != wanted:
        title = f"taken for {_title(wanted)} as you said"
        said = _title(key) if key else (detected.variant if detected and detected.variant else "unknown")
        if detected is None and error is not None:
            return Finding(step="runtime", status="warning", title=title, detail=error.message, facts=facts)
        fix = f"The server answers like {said}; leave --runtime out, or check the URL."
        return Finding(step="runtime", status="warning", title=title, detail=detail, fix=fix, facts=facts)
    if detected is None:
        title = error.message if error is not None else "the server is of no known kind"
        return Finding(step="runtime", status="failed", title=title, fix=error.hint if error else "", facts=facts)
    if key is None:
        title = f"a server this package has no classes for: {detected.variant or 'unknown'}"
        fix = "If it speaks a runtime's API all the same, name that: --runtime vllm (caikit, triton, ...)."
        return Finding(step="runtime", status="failed", title=title, detail=detail, fix=fix, facts=facts)
    title = " ".join(part for part in (_title(key), version) if part)
    if detected.variant and detected.variant != key:
        title += f" ({detected.variant})"
    protocol = "gRPC" if detected.protocol == "grpc" else "REST"
    return Finding(step="runtime", status="ok", title=f"{title} over {protocol}", detail=detail, facts=facts)


def judge_models(
    models: Sequence[ModelInfo], *, wanted: str | None, listed: bool = True, error: KServeError | None = None
) -> Finding:
    """Which models there are.

    Args:
        models: The models, as far as they are known.
        wanted: The model's name, if the user gave one.
        listed: Whether the server lists its models by name.
        error: Why the server did not list them.
    """
    known = [model.id for model in models if model.id]
    facts = {"models": [_facts(model) for model in models], "wanted": wanted}
    detail = "\n".join(line for line in map(_line, models[:20]) if line)
    if wanted is not None and listed and known and wanted not in known:
        near = nearest(wanted, known)
        fix = f"Did you mean --model {near}? " if near else ""
        fix += f"It serves {names(known, 20)}. {_OTHER_NAMES}"
        title = f"there is no model {wanted!r}"
        return Finding(step="models", status="failed", title=title, detail=detail, fix=fix, facts=facts)
    if error is not None and not known:
        title = "the server does not list its models"
        fix = "" if wanted else "Name the model to try: --model NAME (in code model='...')."
        return Finding(step="models", status="warning", title=title, detail=error.message, fix=fix, facts=facts)
    if not known:
        if any(model.max_model_len for model in models):
            return Finding(step="models", status="ok", title=_nameless(models[0]), facts=facts)
        title = "the server serves no model yet"
        fix = "It may still be loading; otherwise see the server's log for why it is not loaded."
        return Finding(step="models", status="failed", title=title, fix=fix, facts=facts)
    if len(known) == 1 or wanted is not None:
        model = next((item for item in models if item.id == wanted), models[0])
        title = _line(model)
        rest = detail if len(known) > 1 else ""
        return Finding(step="models", status="ok", title=title, detail=rest, facts=facts)
    return Finding(step="models", status="ok", title=f"{len(known)} models", detail=detail, facts=facts)


def tell(model: ModelInfo, more: Mapping[str, object] | None = None) -> dict[str, object]:
    """A model as JSON values."""
    return {**_facts(model), **(more or {})}


def _title(key: str) -> str:
    return RUNTIMES[key].title if key in RUNTIMES else key


def _nameless(model: ModelInfo) -> str:
    return f"one model, whose name the server does not tell, {_window(model)}"


def _window(model: ModelInfo) -> str:
    return f"context window {model.max_model_len} tokens" if model.max_model_len else ""


def _line(model: ModelInfo) -> str:
    parts = [model.id, _window(model)]
    if model.kind:
        parts.append({"generate": "generates text", "embed": "embeds", "rerank": "ranks"}.get(model.kind, model.kind))
    if model.parent:
        parts.append(f"adapter of {model.parent}")
    state = model.extra.get("ready") if "ready" in model.extra else None
    if state is False:
        parts.append("not ready")
    return ", ".join(part for part in parts if part)


def _facts(model: ModelInfo) -> dict[str, object]:
    return {"id": model.id, "context_window": model.max_model_len, "kind": model.kind, "parent": model.parent}
