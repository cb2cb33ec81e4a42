"""From a model's output tensors to one vector for each text.

What a model puts out is read by its shape: `[texts, length]` are vectors already, `[texts, tokens, length]` are the
states of the tokens, which are pooled here. numpy is loaded only where there is something to compute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kserve_core._json import decode, unexpected
from kserve_core.runtimes.open_inference.options import Pooling
from kserve_core.tensors import Tensor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WHAT = "a list of embeddings"
_POOLED_HINT = 'The model has pooled already: leave pooling out or set it to "none".'
_NOT_FINITE = "a vector holds values that are not numbers (NaN or infinite)"


def pool(states: NDArray[Any], mask: NDArray[Any] | None, how: Pooling) -> NDArray[Any]:
    """One vector a text out of the states of its tokens.

    Args:
        states: Floats, `[texts, tokens, length]`.
        mask: 1 for a token and 0 for padding, `[texts, tokens]`; None where nothing is padding.
        how: `mean` of the tokens, the first of them (`cls`) or the `last` one, whichever side is padded.

    Returns:
        `[texts, length]`; zeros for a text without tokens.
    """
    import numpy as np

    if mask is None:
        if how == "mean":
            return states.mean(axis=1)  # type: ignore[no-any-return]
        return states[:, 0 if how == "cls" else -1]
    if how == "mean":
        weights = mask.astype(states.dtype)
        sums = np.matmul(weights[:, None, :], np.where(mask[:, :, None] != 0, states, 0))[:, 0]
        return sums / weights.sum(axis=1, keepdims=True).clip(min=1)  # type: ignore[no-any-return]
    real = mask != 0
    place = real.argmax(axis=1) if how == "cls" else real.shape[1] - 1 - real[:, ::-1].argmax(axis=1)
    picked: NDArray[Any] = np.where(real.any(axis=1)[:, None], states[np.arange(len(states)), place], 0)
    return picked


def normalized(vectors: NDArray[Any]) -> NDArray[Any]:
    """The vectors scaled to length 1; one of zeros stays as it is."""
    import numpy as np

    scale = np.abs(vectors).max(axis=1, keepdims=True)  # first, so that no square leaves the range
    vectors = vectors / np.where(scale == 0, 1, scale)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths == 0, 1, lengths)


def read_vectors(
    tensor: Tensor,
    *,
    count: int,
    rows: int | None = None,
    mask: NDArray[np.int64] | None = None,
    pooling: Pooling | None = None,
    normalize: bool | None = None,
    flat: bool = False,
    dimensions: int | None = None,
) -> list[list[float]]:
    """The vectors of some texts.

    Args:
        tensor: Numbers, or BYTES that hold each text's result as JSON (MLServer's Hugging Face runtime).
        count: How many texts there are.
        rows: How many were sent, with copies that only filled a fixed batch; their vectors are left out.
        mask: Which of the tokens are no padding, if they were made here.
        pooling: How token states become a vector; `mean` when None. None also lets vectors that are pooled already be.
        normalize: Whether to scale the vectors to length 1.
        flat: Whether the model has no dimension for texts.
        dimensions: The length the vectors must have, if one was asked for.

    Raises:
        BadResponseError: If vectors are missing, empty, no numbers, or of a shape that is no list of vectors; or if it
            cannot be told which of the token states are padding.
    """
    vectors = _vectors(tensor, count, rows or count, mask, pooling, normalize=normalize, flat=flat)
    lengths = {len(vector) for vector in vectors}
    if lengths == {0}:
        problem = "a vector is empty"
        raise unexpected(_WHAT, problem)
    if len(lengths) > 1 or (dimensions is not None and lengths != {dimensions}):
        listed = ", ".join(map(str, sorted(lengths)))
        wanted = "vectors differ in length" if dimensions is None else f"vectors of length {dimensions} were expected"
        raise unexpected(_WHAT, f"{wanted} ({listed})")
    if not _finite(vectors, tensor):
        raise unexpected(_WHAT, _NOT_FINITE)
    return vectors


def _vectors(
    tensor: Tensor,
    count: int,
    rows: int,
    mask: NDArray[np.int64] | None,
    pooling: Pooling | None,
    *,
    normalize: bool | None,
    flat: bool,
) -> list[list[float]]:
    if tensor.datatype == "BYTES":
        return _json_vectors(tensor, count, rows, pooling, normalize=normalize)
    shape = tensor.shape
    if tensor.datatype == "BOOL" or not shape:
        raise unexpected(_WHAT, f"the output {tensor.name!r} is {tensor.datatype} {list(shape)}")
    if (len(shape) == 1 and rows == 1) or (flat and len(shape) == 2):
        shape = (1, *shape)
    if len(shape) > 1 and shape[0] != rows:
        raise unexpected(_WHAT, f"{shape[0]} vectors came for {rows} texts")
    if len(shape) == 2 and pooling in {None, "none"} and not normalize:
        # What nearly all models need, without another copy.
        return tensor.rows()[:count] if tensor.shape == shape else [[row[0] for row in tensor.rows()]]
    array = _floats(tensor).reshape(shape)[:count]
    return _pooled(array, tensor.name, mask, pooling, normalize=normalize)


def _pooled(
    array: NDArray[Any],
    name: str,
    mask: NDArray[np.int64] | None,
    pooling: Pooling | None,
    *,
    normalize: bool | None,
) -> list[list[float]]:
    if array.ndim == 3 and array.shape[1] == 1 and (mask is None or mask.shape[1] != 1):
        array = array[:, 0]  # one vector each, whatever the pooling
    elif array.ndim == 3:
        array = _states(array, name, mask, pooling or "mean")
    elif array.ndim == 2:
        if pooling not in {None, "none"}:
            problem = f"the output {name!r} has one vector for each text, and no token states to pool"
            raise unexpected(_WHAT, problem, hint=_POOLED_HINT)
    else:
        hint = "Name another output as output_name."
        raise unexpected(_WHAT, f"the output {name!r} has the shape {list(array.shape)}", hint=hint)
    vectors: list[list[float]] = (normalized(array) if normalize else array).tolist()
    return vectors


def _states(states: NDArray[Any], name: str, mask: NDArray[np.int64] | None, how: Pooling) -> NDArray[Any]:
    """Pools token states, if it is clear which of them count."""
    texts, tokens = states.shape[:2]
    if how == "none":
        problem = f"the output {name!r} has {tokens} token states for each text, and not one vector"
        raise unexpected(_WHAT, problem, hint='Set pooling to "mean", "cls" or "last", as the model was trained.')
    if tokens == 0:
        problem = f"the output {name!r} has no token states"
        raise unexpected(_WHAT, problem)
    if mask is None:
        if texts > 1 and how != "cls":
            problem = f"the output {name!r} has token states of several texts, and nothing tells which are padding"
            hint = "Set batch_size=1, or name an output with one vector for each text as output_name."
            raise unexpected(_WHAT, problem, hint=hint)
    elif mask.shape[1] != tokens:
        problem = f"the output {name!r} has {tokens} token states where {mask.shape[1]} tokens were sent"
        raise unexpected(_WHAT, problem)
    return pool(states, None if mask is None else mask[:texts], how)


def _floats(tensor: Tensor) -> NDArray[Any]:
    """The numbers in a width that can be computed with."""
    array = tensor.numpy()
    if array.dtype.kind == "f" and array.dtype.itemsize >= 4:
        return array
    return array.astype("f4" if array.dtype.itemsize < 4 else "f8")


def _json_vectors(
    tensor: Tensor, count: int, rows: int, pooling: Pooling | None, *, normalize: bool | None
) -> list[list[float]]:
    """Vectors out of JSON texts, one for each text: `[length]`, `[tokens][length]` or `[1][tokens][length]`."""
    import numpy as np

    texts = tensor.texts()
    if len(texts) != rows:
        problem = f"{len(texts)} results came for {rows} texts"
        hint = "This model answers one text at a time: set batch_size=1." if rows > 1 else ""
        raise unexpected(_WHAT, problem, hint=hint)
    vectors = []
    for text in texts[:count]:
        if not text.lstrip().startswith("["):
            problem = f"the output {tensor.name!r} holds text, and not numbers as JSON"
            raise unexpected(_WHAT, problem, hint="Is this a model for embeddings? Else name another output_name.")
        value = decode(text, _WHAT)
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.empty(())
        if array.ndim == 3 and array.shape[0] == 1:
            array = array[0]
        if array.ndim not in {1, 2} or not array.size:
            kind = "a list of numbers, or one for each token"
            raise unexpected(_WHAT, f"the output {tensor.name!r} does not hold {kind}")
        vectors += _pooled(array[None], tensor.name, None, pooling, normalize=normalize)
    return vectors


def _finite(vectors: Sequence[Sequence[float]], tensor: Tensor) -> bool:
    """Whether all are finite; for much raw data by one sum of it, which costs next to nothing."""
    if tensor.raw is not None and tensor.datatype in {"FP32", "FP64"} and tensor.size > 4096:
        import numpy as np

        with np.errstate(all="ignore"):
            if math.isfinite(tensor.numpy().sum(dtype=np.float32 if tensor.datatype == "FP32" else None)):
                return True
    return all(math.isfinite(sum(vector)) or all(map(math.isfinite, vector)) for vector in vectors)
