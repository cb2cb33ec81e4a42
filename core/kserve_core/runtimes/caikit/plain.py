"""gRPC answers in the form REST gives them, so that both are read by the same code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kserve_core.protos import messages

_FINISH = (
    "NOT_FINISHED",
    "MAX_TOKENS",
    "EOS_TOKEN",
    "CANCELLED",
    "TIME_LIMIT",
    "STOP_SEQUENCE",
    "TOKEN_LIMIT",
    "ERROR",
)


def generated(message: messages.caikit_data_model_nlp.GeneratedTextResult) -> dict[str, Any]:
    """A generated text."""
    return {
        "generated_text": message.generated_text,
        "generated_tokens": message.generated_tokens,
        "finish_reason": _finish(message.finish_reason),
        "producer_id": _producer(message),
        "input_token_count": message.input_token_count,
        "seed": message.seed or None,
        "tokens": _tokens(message.tokens),
        "input_tokens": _tokens(message.input_tokens),
    }


def generated_piece(message: messages.caikit_data_model_nlp.GeneratedTextStreamResult) -> dict[str, Any]:
    """A piece of a streamed text."""
    details = message.details
    return {
        "generated_text": message.generated_text,
        "tokens": _tokens(message.tokens),
        "details": {
            "finish_reason": _finish(details.finish_reason),
            "generated_tokens": details.generated_tokens,
            "seed": details.seed,
            "input_token_count": details.input_token_count,
        },
        "producer_id": _producer(message),
        "input_tokens": _tokens(message.input_tokens),
    }


def embedding(message: messages.caikit_data_model_caikit_nlp.EmbeddingResult) -> dict[str, Any]:
    """One vector."""
    return {**_about(message), "result": _vector(message.result)}


def embeddings(message: messages.caikit_data_model_caikit_nlp.EmbeddingResults) -> dict[str, Any]:
    """Vectors."""
    return {**_about(message), "results": {"vectors": [_vector(vector) for vector in message.results.vectors]}}


def similarity(message: messages.caikit_data_model_caikit_nlp.SentenceSimilarityResult) -> dict[str, Any]:
    """Scores of one sentence."""
    return {**_about(message), "result": {"scores": list(message.result.scores)}}


def similarities(message: messages.caikit_data_model_caikit_nlp.SentenceSimilarityResults) -> dict[str, Any]:
    """Scores of several sentences."""
    return {**_about(message), "results": [{"scores": list(result.scores)} for result in message.results]}


def ranking(message: messages.caikit_data_model_caikit_nlp.RerankResult) -> dict[str, Any]:
    """A ranking for one query."""
    return {**_about(message), "result": _ranked(message.result)}


def rankings(message: messages.caikit_data_model_caikit_nlp.RerankResults) -> dict[str, Any]:
    """Rankings for several queries."""
    return {**_about(message), "results": [_ranked(result) for result in message.results]}


def tokens(message: messages.caikit_data_model_nlp.TokenizationResults) -> dict[str, Any]:
    """A text's tokens; a model that only counts sends none."""
    return {
        "results": [{"start": token.start, "end": token.end, "text": token.text} for token in message.results] or None,
        "token_count": message.token_count,
    }


def models(message: messages.caikit_data_model_common_runtime.ModelInfoResponse) -> dict[str, Any]:
    """What a server tells about its models."""
    return {
        "models": [
            {
                "model_path": model.model_path,
                "name": model.name,
                "size": model.size,
                "metadata": _struct(model.metadata),
                "loaded": model.loaded,
                "module_id": model.module_id,
                "module_metadata": dict(model.module_metadata),
            }
            for model in message.models
        ]
    }


def runtime(message: messages.caikit_data_model_common_runtime.RuntimeInfoResponse) -> dict[str, Any]:
    """What a server tells about itself."""
    return {"runtime_version": message.runtime_version, "python_packages": dict(message.python_packages)}


def _about(message: Any) -> dict[str, Any]:
    return {"producer_id": _producer(message), "input_token_count": message.input_token_count}


def _producer(message: Any) -> dict[str, str] | None:
    if not message.HasField("producer_id"):
        return None
    return {"name": message.producer_id.name, "version": message.producer_id.version}


def _finish(number: int) -> str:
    return _FINISH[number] if 0 <= number < len(_FINISH) else str(number)


def _tokens(found: Iterable[messages.caikit_data_model_nlp.GeneratedToken]) -> list[dict[str, Any]]:
    return [{"text": token.text, "logprob": token.logprob, "rank": token.rank} for token in found]


def _vector(vector: messages.caikit_data_model_common.Vector1D) -> dict[str, Any]:
    """The vector's values; the server chooses the member by how it holds them."""
    member = vector.WhichOneof("data")
    return {"data": {"values": [] if member is None else list(getattr(vector, member).values)}}


def _ranked(result: messages.caikit_data_model_caikit_nlp.RerankScores) -> dict[str, Any]:
    return {
        "query": result.query or None,
        "scores": [
            {"document": None, "index": score.index, "score": score.score, "text": score.text or None}
            for score in result.scores
        ],
    }


def _struct(struct: messages.google_protobuf.Struct) -> dict[str, Any]:
    return {key: _value(value) for key, value in struct.fields.items()}


def _value(value: messages.google_protobuf.Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return _struct(value.struct_value)
    if kind == "list_value":
        return [_value(item) for item in value.list_value.values]
    if kind == "number_value":
        number = value.number_value  # JSON's integers arrive as doubles
        return int(number) if number.is_integer() else number
    return None if kind in {None, "null_value"} else getattr(value, kind)
