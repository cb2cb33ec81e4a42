"""What spans and measurements say, by OpenTelemetry's semantic conventions for generative AI (1.41, in development).

Pure: requests and results in, attributes out. Names beginning with `kserve.` are this package's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kserve_core.capabilities import ChatRequest, EmbeddingRequest, RerankRequest, SimilarityRequest, TextRequest
from kserve_core.errors import KServeError
from kserve_core.observe import Named
from kserve_core.types import ChatResult, EmbeddingResult, Ranking, TextResult, Usage

SCHEMA_URL = "https://opentelemetry.io/schemas/1.41.0"
DURATION_BOUNDARIES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""Of the histograms of seconds, as the conventions have them."""
TOKEN_BOUNDARIES = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

_OPERATIONS = {
    ChatRequest: "chat",
    TextRequest: "text_completion",
    EmbeddingRequest: "embeddings",
    RerankRequest: "rerank",  # the conventions have no word for this one and the next
    SimilarityRequest: "similarity",
}
_PROVIDERS = {"Open Inference Protocol": "open_inference"}
_NUMBERS = {
    "temperature": ("gen_ai.request.temperature", float),
    "top_p": ("gen_ai.request.top_p", float),
    "top_k": ("gen_ai.request.top_k", float),
    "max_tokens": ("gen_ai.request.max_tokens", int),
    "max_completion_tokens": ("gen_ai.request.max_tokens", int),
    "frequency_penalty": ("gen_ai.request.frequency_penalty", float),
    "presence_penalty": ("gen_ai.request.presence_penalty", float),
    "seed": ("gen_ai.request.seed", int),
}


def operation_name(about: Any) -> str:
    """`gen_ai.operation.name` of what an exchange is about."""
    return about.operation if isinstance(about, Named) else _OPERATIONS.get(type(about), "request")


def provider_name(runtime: Any) -> str:
    """`gen_ai.provider.name`: the runtime's, in lower case and without what follows (`openvino`)."""
    name = getattr(runtime, "name", None)
    if not isinstance(name, str) or not name:
        return "kserve"
    return _PROVIDERS.get(name) or name.split()[0].lower()


def request_attributes(about: Any, *, streamed: bool) -> dict[str, Any]:
    """What the request asks for, without its content."""
    found: dict[str, Any] = {}
    if isinstance(about, (ChatRequest, TextRequest)):
        found.update(_parameters(about.params))
        if about.constraint is not None:
            found["gen_ai.output.type"] = "json" if about.constraint.kind.startswith("json") else "text"
        if streamed:
            found["gen_ai.request.stream"] = True
        if isinstance(about, TextRequest) and len(about.prompts) != 1:
            found["kserve.request.inputs"] = len(about.prompts)
    elif isinstance(about, EmbeddingRequest):
        found["kserve.request.inputs"] = len(about.texts)
        if about.dimensions is not None:
            found["gen_ai.embeddings.dimension.count"] = about.dimensions
    elif isinstance(about, RerankRequest):
        found["kserve.request.inputs"] = len(about.documents)
        if about.top_n is not None:
            found["kserve.request.top_n"] = about.top_n
    elif isinstance(about, SimilarityRequest):
        found["kserve.request.inputs"] = len(about.sources) * len(about.sentences)
    elif isinstance(about, Named) and about.inputs is not None:
        found["kserve.request.inputs"] = about.inputs
    return found


def result_attributes(result: Any) -> dict[str, Any]:
    """What a whole answer says about itself, without its content."""
    found: dict[str, Any] = {}
    reasons: list[str | None] = []
    if isinstance(result, ChatResult):
        reasons = [choice.finish_reason for choice in result.choices]
    elif isinstance(result, TextResult):
        reasons = [each.finish_reason for generations in result.generations for each in generations]
    elif isinstance(result, EmbeddingResult) and result.embeddings:
        found["gen_ai.embeddings.dimension.count"] = len(result.embeddings[0])
    model, identity = getattr(result, "model", None), getattr(result, "id", None)
    if isinstance(model, str):
        found["gen_ai.response.model"] = model
    if isinstance(identity, str):
        found["gen_ai.response.id"] = identity
    if reasons:
        found["gen_ai.response.finish_reasons"] = tuple(reason or "unknown" for reason in reasons)
    return found


def result_usage(result: Any) -> Usage | None:
    """The token counts of an answer, or None."""
    if isinstance(result, (ChatResult, TextResult, EmbeddingResult, Ranking)):
        return result.usage
    return None


def usage_attributes(usage: Usage, *, generates: bool) -> dict[str, int]:
    """Token counts; those of an answer only where the operation generates one."""
    found = {"gen_ai.usage.input_tokens": usage.prompt_tokens}
    if generates:
        found["gen_ai.usage.output_tokens"] = usage.completion_tokens
    if usage.cached_tokens is not None:
        found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    if usage.reasoning_tokens is not None:
        found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
    return found


def generates(about: Any) -> bool:
    """Whether an answer is generated, and so has tokens."""
    return isinstance(about, (ChatRequest, TextRequest))


def error_attributes(error: BaseException) -> dict[str, Any]:
    """The kind of an error: neither its message nor what the server said."""
    found: dict[str, Any] = {"error.type": type(error).__name__}
    if isinstance(error, KServeError):
        found["kserve.error.layer"] = error.layer
        if error.status:
            found["http.response.status_code"] = error.status
    return found


def _parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (attribute, kind) in _NUMBERS.items():
        value = params.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            found[attribute] = kind(value)
    stop = params.get("stop")
    if isinstance(stop, str):
        found["gen_ai.request.stop_sequences"] = (stop,)
    elif isinstance(stop, (list, tuple)) and stop:
        found["gen_ai.request.stop_sequences"] = tuple(str(text) for text in stop)
    count = params.get("n")
    if isinstance(count, int) and not isinstance(count, bool) and count != 1:
        found["gen_ai.request.choice.count"] = count
    return found
