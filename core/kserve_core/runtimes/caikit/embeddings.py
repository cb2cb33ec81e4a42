"""Embeddings."""

from __future__ import annotations

import math
from array import array
from typing import Any

from kserve_core._json import unexpected
from kserve_core.capabilities import EmbeddingRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.caikit.errors import wrong_task
from kserve_core.runtimes.caikit.params import merged, truncation
from kserve_core.runtimes.caikit.tasks import EMBEDDING, EMBEDDINGS, Task
from kserve_core.runtimes.caikit.usage import counted
from kserve_core.runtimes.checks import check_texts
from kserve_core.types import EmbeddingResult

_WHAT = "a list of embeddings"


def embedding_task(request: EmbeddingRequest) -> tuple[Task, dict[str, Any], dict[str, Any]]:
    """The task for a batch, its inputs and parameters.

    One text has a task of its own. An empty one goes as a list of one: alone it would count as a missing input over
    REST, and in a list it does not.

    Raises:
        ConfigurationError: If there is no text or something is not a text.
        UnsupportedParameterError: If another vector length is asked for.
    """
    texts = list(request.texts)
    check_texts("text", texts)
    if request.dimensions is not None:
        msg = "Caikit cannot shorten vectors: it has no parameter 'dimensions'."
        raise UnsupportedParameterError(msg, hint="Leave dimensions out; model_info() tells the model's length.")
    parameters = merged(dict(truncation(request.truncate)), request.extra_body)
    if len(texts) == 1 and texts[0]:
        return EMBEDDING, {"text": texts[0]}, parameters
    return EMBEDDINGS, {"texts": texts}, parameters


def check_input(what: str, text: Any) -> None:
    """Raises unless it is a string that is not empty; an empty one counts as missing over REST."""
    check_texts(what, [text])
    if not text:
        msg = f"The {what} cannot be empty."
        raise ConfigurationError(msg, hint="The server takes an empty text as a missing one.")


def read_embeddings(raw: dict[str, Any], *, task: Task, count: int, model: str) -> EmbeddingResult:
    """Reads the vectors, in the order of the texts.

    Raises:
        BadResponseError: If it is the answer to another task, vectors are missing, of different lengths, or hold
            values that are no numbers.
    """
    if task is EMBEDDING:
        found = [raw.get("result")]
    else:
        results = raw.get("results")
        listed = results.get("vectors") if isinstance(results, dict) else None
        if not isinstance(listed, list) or not listed:
            raise wrong_task(task, model, "it has no `results` with vectors")
        found = listed
    vectors = [_vector(entry, task, model) for entry in found]
    if len(vectors) != count:
        raise unexpected(_WHAT, f"{len(vectors)} vectors came for {count} texts")
    if len({len(vector) for vector in vectors}) > 1:
        lengths = ", ".join(map(str, sorted({len(vector) for vector in vectors})))
        raise unexpected(_WHAT, f"vectors differ in length ({lengths})")
    return EmbeddingResult(vectors, usage=counted(raw.get("input_token_count")), model=model)


def _vector(entry: Any, task: Task, model: str) -> list[float]:
    data = entry.get("data") if isinstance(entry, dict) else None
    values = data.get("values") if isinstance(data, dict) else None
    if not isinstance(values, list) or not values:
        raise wrong_task(task, model, "it has no vector")
    try:
        vector = array("d", values).tolist()
    except (TypeError, OverflowError):
        problem = "a vector holds something other than numbers"
        raise unexpected(_WHAT, problem) from None
    if not math.isfinite(sum(vector)):
        problem = "a vector holds values that are not numbers (NaN or infinite)"
        raise unexpected(_WHAT, problem)
    return vector
