"""Which of a model's outputs has the vectors or the scores: told by the user, or else by its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kserve_core._json import unexpected
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.open_inference.layouts import declared, described
from kserve_core.runtimes.open_inference.options import Pooling
from kserve_core.runtimes.open_inference.values import InferResult, ModelMetadata, TensorSpec
from kserve_core.tensors import Tensor

_VECTORS = (
    *("sentence_embedding", "sentence_embeddings", "embedding", "embeddings", "text_embedding", "text_embeddings"),
    *("text_embeds", "dense_embedding", "dense_vecs", "vector", "vectors", "pooled_output"),
)
_STATES = ("last_hidden_state", "token_embeddings", "hidden_states", "last_hidden_states", "hidden_state")
_POOLERS = ("pooler_output", "pooler")
_GENERAL = ("output", "outputs", "output_0", "result")
_SCORES = (
    *("score", "scores", "logits", "logit", "relevance_score", "relevance_scores", "similarity", "ranking_score"),
    *_GENERAL,
)
_SCORE_TYPES = frozenset({"FP16", "BF16", "FP32", "FP64"})


def vectors_output(metadata: ModelMetadata, name: str | None, pooling: Pooling | None) -> TensorSpec | None:
    """The output that has the vectors; None where the metadata tells of no outputs.

    Vectors that the model has pooled come before token states, unless a pooling is asked for. BERT's `pooler_output`
    comes after both: it is trained to tell whether one sentence follows another, not to compare their meaning.

    Raises:
        ConfigurationError: If it is not clear, or the model has no output of that name, or none to pool.
    """
    outputs = metadata.outputs
    if not outputs:
        return None
    if name is None:
        pooling_names = (_STATES, _VECTORS, _POOLERS) if pooling in {"mean", "cls", "last"} else None
        groups = pooling_names or (
            (_VECTORS, _POOLERS, _STATES) if pooling == "none" else (_VECTORS, _STATES, _POOLERS)
        )
        fit = [spec for spec in outputs if spec.datatype != "BOOL"]
        chosen = _first(fit, [name for group in (*groups, _GENERAL) for name in group])
        if chosen is None and len(fit) == 1:
            chosen = fit[0]
        if chosen is None:
            raise _undecided(metadata, "vectors")
    else:
        chosen = _named(metadata, name)
    if pooling not in {None, "none"} and len(chosen.shape) == 2 and chosen.datatype != "BYTES":
        msg = (
            f"The output {described(chosen)} has one vector for each text, and no token states for pooling={pooling!r}."
        )
        hint = f'Leave pooling out or set it to "none". The model has the outputs {declared(outputs)}.'
        raise ConfigurationError(msg, hint=hint)
    return chosen


def scores_output(metadata: ModelMetadata, name: str | None) -> TensorSpec | None:
    """The output that has the scores; None where the metadata tells of no outputs.

    Raises:
        ConfigurationError: If it is not clear, the model has no output of that name, or makes vectors.
    """
    outputs = metadata.outputs
    if not outputs:
        return None
    if name is not None:
        return _named(metadata, name)
    fit = [spec for spec in outputs if spec.datatype in _SCORE_TYPES and _may_be_scores(spec.shape)]
    chosen = _first(fit, _SCORES) or (fit[0] if len(fit) == 1 else None)
    if chosen is not None:
        return chosen
    if not fit:
        msg = f"The model {metadata.name!r} puts out no scores: it is no reranker."
        hint = f"Its outputs are {declared(outputs)}. Use it for embeddings, if those are vectors."
        raise ConfigurationError(msg, hint=hint)
    raise _undecided(metadata, "scores")


def output_of(
    result: InferResult, chosen: TensorSpec | None, name: str | None, names: Sequence[str], what: str
) -> Tensor:
    """The tensor of an answer that was asked for.

    Metadata can be wrong or missing (that of MLServer's Hugging Face models is); then the answer itself decides.

    Args:
        result: The answer, which may hold more than was asked for.
        chosen: The output chosen by metadata.
        name: The one the user named.
        names: What it may be called otherwise.
        what: What is read, for errors.

    Raises:
        BadResponseError: If it is not there.
    """
    outputs: Mapping[str, Tensor] = result.outputs
    wanted = name or (chosen.name if chosen is not None else None)
    if wanted is not None and wanted in outputs:
        return outputs[wanted]
    if name is None and len(outputs) == 1:
        return next(iter(outputs.values()))
    if wanted is None:
        found = next((outputs[known] for known in names if known in outputs), None)
        if found is not None:
            return found
    listed = ", ".join(repr(known[:100]) for known in list(outputs)[:20]) or "none"
    problem = f"it has no output {wanted!r}" if wanted is not None else "it is not clear which output it is"
    raise unexpected(what, problem, hint=f"Set output_name. The outputs that came: {listed}.")


VECTOR_NAMES = (*_VECTORS, *_STATES, *_POOLERS, *_GENERAL)
SCORE_NAMES = _SCORES


def _may_be_scores(shape: tuple[int, ...]) -> bool:
    """Whether one or two numbers for each pair fit into it: `[N]`, `[N, 1]`, `[N, 2]`, `[1, N]`."""
    return len(shape) < 2 or all(dim in {-1, 1, 2} for dim in shape[1:]) or (len(shape) == 2 and shape[0] == 1)


def _named(metadata: ModelMetadata, name: str) -> TensorSpec:
    spec = metadata.output(name)
    if spec is None:
        msg = f"The model {metadata.name!r} has no output {name!r}."
        raise ConfigurationError(msg, hint=f"It has {declared(metadata.outputs)}.")
    return spec


def _first(specs: Sequence[TensorSpec], names: Sequence[str]) -> TensorSpec | None:
    by_name = {spec.name.lower(): spec for spec in reversed(specs)}
    return next((by_name[name] for name in names if name in by_name), None)


def _undecided(metadata: ModelMetadata, what: str) -> ConfigurationError:
    msg = f"It is not clear which output of the model {metadata.name!r} has the {what}."
    return ConfigurationError(msg, hint=f"Set output_name. The model has the outputs {declared(metadata.outputs)}.")
