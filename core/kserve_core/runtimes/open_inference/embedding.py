"""Embeddings: texts, or token ids made here, in; vectors, or token states pooled here, out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from kserve_core.calls import Exchange
from kserve_core.capabilities import EmbeddingRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.checks import check_texts
from kserve_core.runtimes.open_inference.extras import is_hugging_face, truncation
from kserve_core.runtimes.open_inference.inputs import HUGGING_FACE_INPUTS, TextInput, TokenInputs, text_input
from kserve_core.runtimes.open_inference.layouts import least, server_limit
from kserve_core.runtimes.open_inference.options import Pooling
from kserve_core.runtimes.open_inference.outputs import VECTOR_NAMES, output_of, vectors_output
from kserve_core.runtimes.open_inference.pooling import read_vectors
from kserve_core.runtimes.open_inference.tasks import TensorTasks
from kserve_core.runtimes.open_inference.values import InferResult, ModelMetadata, TensorSpec
from kserve_core.types import EmbeddingResult

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WHAT = "a list of embeddings"
_DIMENSIONS = "dimensions"


class TensorEmbeddings(TensorTasks):
    """Turns texts into vectors by any model whose metadata tells how, or whose user does."""

    def embed(self, request: EmbeddingRequest) -> Exchange[EmbeddingResult]:
        """One batch of vectors, by one request. The model must be known; see `resolve_model`.

        A plain call, but over REST a flow until a first answer has shown how the model takes raw tensors.

        `extra_body` goes into the request's parameters.

        Raises:
            ConfigurationError: If the model is not known yet, it is not clear which of its inputs and outputs are
                meant, there are more texts than `embedding_limit`, or something is not a text.
            ContextOverflowError: If a text has more tokens than the model takes and is not to be cut; only for models
                that take token ids, or with `max_length` and a tokenizer.
            UnsupportedParameterError: If another vector length is asked for, or cutting, and the model knows neither.
        """
        texts = list(request.texts)
        check_texts("text", texts)
        metadata = self._metadata_of(request.model)
        with self.choosing(metadata):
            inputs = text_input(metadata, self.options, self.dialect)
        output = self._output(metadata, inputs)
        limit = self._limit(metadata, inputs, output)
        if limit is not None and len(texts) > limit:
            msg = f"The model {metadata.name!r} takes {limit} texts in one request, not {len(texts)}."
            raise ConfigurationError(msg, hint="Send fewer at once; embed_all cuts longer lists.")
        parameters = dict(request.extra_body)
        extra_inputs = self._dimensions(request.dimensions, metadata)
        mask = None
        if isinstance(inputs, TokenInputs):
            tokens = self._tokens(inputs, texts, truncate=request.truncate, what="text")
            tensors, mask = inputs.tensors(tokens), tokens.mask
            rows = inputs.rows or len(texts)
        else:
            self._check_lengths(texts, what="text")
            wanted = truncation(request.truncate, metadata, {**self.options.parameters, **parameters})
            extra_inputs, parameters = {**extra_inputs, **wanted[0]}, {**parameters, **wanted[1]}
            tensors = [inputs.tensor(texts)]
            rows = inputs.layout.padded(len(texts))
        reading = Reading(
            count=len(texts),
            rows=rows,
            mask=mask,
            output=output,
            output_name=self.options.output_name,
            pooling=self.options.pooling,
            normalize=self.options.normalize,
            flat=isinstance(inputs, TokenInputs) and inputs.flat,
            dimensions=request.dimensions,
            model=metadata.name,
        )
        infer = self._request(
            tensors,
            metadata,
            rows=rows,
            output=output.name if output is not None else self.options.output_name,
            extra_inputs=extra_inputs,
            parameters=parameters,
            headers=request.headers,
        )
        return self.infer_exchange(infer, partial(read_embeddings, reading=reading))

    def embedding_limit(self, model: str | None = None) -> int | None:
        """Most texts of one request to a model that was resolved; None if there is no limit or it is not known.

        It comes from the model's configuration, a fixed batch dimension, the `batch_size` option, and from what the
        model puts out: token states of texts of different lengths, whose padding nobody tells, come one text at a time.

        Raises:
            ConfigurationError: As `embed`.
        """
        metadata = self._metadata_of(model)
        with self.choosing(metadata):
            inputs = text_input(metadata, self.options, self.dialect)
        output = self._output(metadata, inputs)
        return self._limit(metadata, inputs, output)

    def _limit(self, metadata: ModelMetadata, inputs: TextInput | TokenInputs, output: TensorSpec | None) -> int | None:
        limit = server_limit(metadata, self.options.batch_size)
        if isinstance(inputs, TokenInputs):
            return least(limit, inputs.limit(self._tokenizer_for(inputs)))
        one = _is_hugging_face(metadata, inputs)
        if output is not None and self.options.pooling != "cls":
            # [texts, tokens, length] of a server that makes the tokens: only alone is a text without padding.
            one = one or (len(output.shape) == 3 and output.shape[1] != 1)
        return least(limit, inputs.layout.limit, 1 if one else None)

    def _output(self, metadata: ModelMetadata, inputs: TextInput | TokenInputs) -> TensorSpec | None:
        """The output with the vectors; None for Hugging Face models, whose metadata about it is wrong."""
        if _is_hugging_face(metadata, inputs):
            return None
        return vectors_output(metadata, self.options.output_name, self.options.pooling)

    def _dimensions(self, dimensions: int | None, metadata: ModelMetadata) -> dict[str, Any]:
        """The input that has a model shorten its vectors."""
        if dimensions is None:
            return {}
        if dimensions < 1:
            msg = f"dimensions must be at least 1, not {dimensions}."
            raise ConfigurationError(msg)
        spec = metadata.input(_DIMENSIONS)
        if spec is None or not spec.datatype.startswith(("INT", "UINT")):
            msg = f"The model {metadata.name!r} has no input {_DIMENSIONS!r}, and cannot shorten its vectors."
            raise UnsupportedParameterError(msg, hint="Leave dimensions out.")
        return {_DIMENSIONS: dimensions}


def _is_hugging_face(metadata: ModelMetadata, inputs: TextInput | TokenInputs) -> bool:
    return (isinstance(inputs, TextInput) and inputs.name in HUGGING_FACE_INPUTS) or is_hugging_face(metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How an answer is to be read; `read_vectors` and `output_of` say what the members are."""

    count: int
    rows: int
    model: str
    mask: NDArray[np.int64] | None = None
    output: TensorSpec | None = None
    output_name: str | None = None
    pooling: Pooling | None = None
    normalize: bool | None = None
    flat: bool = False
    dimensions: int | None = None


def read_embeddings(result: InferResult, *, reading: Reading) -> EmbeddingResult:
    """Reads the vectors, in the order of the texts. The protocol counts no tokens, so that there is no usage.

    Raises:
        BadResponseError: If the output is not there, or vectors are missing, of different lengths, or hold values that
            are no numbers.
    """
    tensor = output_of(result, reading.output, reading.output_name, VECTOR_NAMES, _WHAT)
    vectors = read_vectors(
        tensor,
        count=reading.count,
        rows=reading.rows,
        mask=reading.mask,
        pooling=reading.pooling,
        normalize=reading.normalize,
        flat=reading.flat,
        dimensions=reading.dimensions,
    )
    return EmbeddingResult(vectors, model=result.model or reading.model)
