"""What embeddings and reranking share: the model is known before a request is made, and so is what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from kserve_core.calls import Exchange, Flow
from kserve_core.capabilities import ChatRequest
from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.base import OpenInferenceRuntime
from kserve_core.runtimes.open_inference.extras import check_truncate, extra_tensors
from kserve_core.runtimes.open_inference.inputs import TokenInputs
from kserve_core.runtimes.open_inference.layouts import least
from kserve_core.runtimes.open_inference.tokenizing import LocalTokenizer, Tokens, load_tokenizer
from kserve_core.runtimes.open_inference.values import InferRequest, ModelMetadata
from kserve_core.tensors import Tensor
from kserve_core.types import Tokenization

T = TypeVar("T")


class TensorTasks(OpenInferenceRuntime):
    """A runtime whose model's metadata says what to send; tokens are counted here if it has a tokenizer."""

    def resolve_model(self, model: str | None = None) -> Flow[str]:
        """The model to ask, its metadata read as well (once), since that decides what is sent."""
        name = yield from super().resolve_model(model)
        yield from self.describe_model(name)
        yield from self.heard_of(name)
        return name

    # --- tokens -------------------------------------------------------------------------------------------------

    def tokenize(
        self,
        text: str,
        *,
        model: str | None = None,  # noqa: ARG002
        add_special_tokens: bool = True,
    ) -> Exchange[Tokenization]:
        """A text's tokens by the local tokenizer; nothing is sent.

        Raises:
            UnsupportedParameterError: If the runtime was given no tokenizer: the protocol does not count tokens.
        """
        tokenizer = self._counting()
        ids = tokenizer.count(text, special=add_special_tokens)
        limit = least(self.options.max_length, None if self.options.max_length else tokenizer.max_length)
        return _nothing(Tokenization(len(ids), ids, tokens=tokenizer.tokens(ids), max_model_len=limit))

    def tokenize_messages(self, request: ChatRequest) -> Exchange[Tokenization]:  # noqa: ARG002
        """Not possible: a conversation has no tokens before a chat template has written it as a text."""
        msg = f"{self.name} has no conversations of its own, so that their tokens cannot be counted."
        raise UnsupportedParameterError(msg, hint="Turn the conversation into a prompt (chat_template=...) first.")

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Exchange[str]:  # noqa: ARG002
        """The text of tokens by the local tokenizer; raises as `tokenize`."""
        return _nothing(self._counting().decode(token_ids))

    def _counting(self) -> LocalTokenizer:
        if self.options.tokenizer is None:
            msg = f"{self.name} does not count tokens."
            raise UnsupportedParameterError(msg, hint="Give the path of the model's tokenizer.json as tokenizer=....")
        return load_tokenizer(self.options.tokenizer)

    # --- requests -----------------------------------------------------------------------------------------------

    def _metadata_of(self, model: str | None) -> ModelMetadata:
        """The metadata of a model that was resolved.

        Raises:
            ConfigurationError: If it was not.
        """
        metadata = self.known_model(model)
        if metadata is None:
            msg = f"What the model takes is not known yet ({self.name} is asked for it once)."
            raise ConfigurationError(msg, hint="Run resolve_model() first.")
        name = model or self.model or metadata.name
        # ModelMesh calls a model by an inner name, by which it cannot be asked.
        return metadata if metadata.name == name else replace(metadata, name=name)

    def _tokenizer_for(self, inputs: TokenInputs) -> LocalTokenizer:
        if self.options.tokenizer is None:
            msg = f"The model takes token ids ({inputs.ids.name!r}), which are made here by the model's tokenizer."
            raise ConfigurationError(msg, hint="Give the path of its tokenizer.json as tokenizer=....")
        return load_tokenizer(self.options.tokenizer)

    def _tokens(
        self,
        inputs: TokenInputs,
        texts: Sequence[str],
        *,
        pairs: Sequence[str] | None = None,
        truncate: int | None,
        what: str,
    ) -> Tokens:
        """The tokens of texts or pairs, none longer than the model takes.

        Raises:
            ConfigurationError: If they are to be cut to more than that.
            ContextOverflowError: If one is longer and not to be cut.
        """
        check_truncate(truncate)
        tokenizer = self._tokenizer_for(inputs)
        own = self.options.max_length
        limit = least(own if own is not None else tokenizer.max_length, inputs.length)
        if truncate is not None and limit is not None and truncate > limit:
            msg = f"truncate={truncate} is more than the {limit} tokens that a text may have."
            raise ConfigurationError(msg, hint="Set max_length too if the model takes more, or truncate=-1.")
        cut = limit if truncate == -1 else truncate
        return tokenizer.encode(texts, pairs=pairs, limit=limit, cut=cut, length=inputs.length, what=what)

    def _check_lengths(self, texts: Sequence[str], *, what: str) -> None:
        """Keeps `max_length` for models that take text, which only a tokenizer can.

        Raises:
            ConfigurationError: If there is none.
            ContextOverflowError: If a text is longer.
        """
        if self.options.max_length is None:
            return
        if self.options.tokenizer is None:
            msg = "max_length is counted in tokens, and there is no tokenizer to count them."
            raise ConfigurationError(msg, hint="Give the path of the model's tokenizer.json as tokenizer=... as well.")
        load_tokenizer(self.options.tokenizer).encode(texts, limit=self.options.max_length, what=what)

    def _request(
        self,
        tensors: list[Tensor],
        metadata: ModelMetadata,
        *,
        rows: int,
        output: str | None,
        extra_inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        headers: Mapping[str, str],
    ) -> InferRequest:
        """The request: the texts' tensors, and what the user set besides."""
        options = self.options
        if options.extra_inputs or extra_inputs:
            taken = {tensor.name for tensor in tensors}
            tensors += extra_tensors({**options.extra_inputs, **extra_inputs}, metadata, rows, taken)
        return InferRequest(
            inputs=tensors,
            outputs=() if output is None else (output,),
            model=metadata.name,
            version=self.model_version,
            parameters={**options.parameters, **parameters} if parameters else options.parameters,
            headers=headers,
        )


def _nothing(value: T) -> Flow[T]:
    """A flow that asks nothing."""
    return value
    yield
