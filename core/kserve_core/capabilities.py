"""What a runtime can do, as protocols: codecs satisfy them, the frameworks' base classes drive them.

Requests are runtime-neutral. Messages, tools and tool choices are in OpenAI's shape, which every adapter and most
servers share; sampling parameters are a mapping from the canonical names below to values, holding only what the
user set. A codec maps them to its own wire names and raises `UnsupportedParameterError` for one it cannot honour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from kserve_core.calls import AnyCall, Exchange, Flow, StreamExchange
from kserve_core.types import (
    ChatDelta,
    ChatResult,
    EmbeddingResult,
    GenerationChunk,
    ModelInfo,
    Ranking,
    TextResult,
    Tokenization,
)

Params: TypeAlias = Mapping[str, Any]
"""Canonical sampling parameters; each runtime's codec documents which it takes.

`temperature`, `max_tokens`, `min_tokens`, `top_p`, `top_k`, `min_p`, `typical_p`, `stop` (list of str),
`stop_token_ids`, `include_stop_str_in_output`, `seed`, `n`, `frequency_penalty`, `presence_penalty`,
`repetition_penalty`, `length_penalty`, `logprobs` (bool), `top_logprobs` (int), `prompt_logprobs`, `logit_bias`,
`ignore_eos`, `skip_special_tokens`, `truncate_prompt_tokens`, ... and whatever else a runtime documents.
"""


@dataclass(frozen=True, slots=True)
class OutputConstraint:
    """A form the answer must take.

    Attributes:
        kind: `json_schema`, `json_object`, `regex`, `choice` or `grammar`.
        value: The JSON Schema (dict), the pattern, the list of choices, the grammar; None for `json_object`.
        name: A name for the schema, where the runtime wants one.
        strict: Passed on for a JSON Schema when set.
    """

    kind: Literal["json_schema", "json_object", "regex", "choice", "grammar"]
    value: Any = None
    name: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """A conversation to be answered.

    Attributes:
        messages: Messages in OpenAI's chat shape. Assistant messages may carry `reasoning` (text to send back).
        model: The model's name; None for the one the runtime was made with, or the one that is served.
        params: Canonical sampling parameters that the user set.
        tools: Tools in OpenAI's shape; empty means none.
        tool_choice: `"auto"`, `"none"`, `"required"`, or `{"type": "function", "function": {"name": ...}}`.
        parallel_tool_calls: Whether several calls in one answer are allowed; None leaves it to the server.
        constraint: A form the answer must take.
        include_usage: Ask for token counts in a stream.
        extra_body: Sent as given, over everything else; for what has no name here.
        headers: Extra HTTP headers of this request (for example `x-request-id`).
    """

    messages: Sequence[Mapping[str, Any]]
    model: str | None = None
    params: Params = field(default_factory=dict)
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    constraint: OutputConstraint | None = None
    include_usage: bool = True
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRequest:
    """One or more prompts to be completed; a stream takes exactly one. Fields as in `ChatRequest`."""

    prompts: Sequence[str]
    model: str | None = None
    params: Params = field(default_factory=dict)
    constraint: OutputConstraint | None = None
    include_usage: bool = True
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingRequest:
    """Texts to be turned into vectors, small enough for one request.

    Attributes:
        texts: The texts, already with any query or document prefix.
        model: As in `ChatRequest`.
        dimensions: Length of the vectors, for models that can shorten them; sent only when set.
        truncate: Cut an over-long text to this many tokens; -1 for the model's own limit; None lets it fail.
        extra_body: Sent as given.
        headers: Extra HTTP headers of this request.
    """

    texts: Sequence[str]
    model: str | None = None
    dimensions: int | None = None
    truncate: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RerankRequest:
    """Documents to be ordered by relevance to a query, small enough for one request.

    `top_n` None means all; `truncate` as in `EmbeddingRequest`.
    """

    query: str
    documents: Sequence[str]
    model: str | None = None
    top_n: int | None = None
    truncate: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarityRequest:
    """Sentences to be compared with each of some source sentences.

    Attributes:
        sources: The sentences to compare with.
        sentences: The sentences to compare.
        model: As in `ChatRequest`.
        truncate: As in `EmbeddingRequest`.
        extra_body: Sent as given.
        headers: Extra HTTP headers of this request.
    """

    sources: Sequence[str]
    sentences: Sequence[str]
    model: str | None = None
    truncate: int | None = None
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


class Runtime(Protocol):
    """What every runtime codec has."""

    name: str
    """The runtime's name as people write it (`vLLM`)."""

    model: str | None
    """The model requests go to when they name none; None until it is given or found."""


@runtime_checkable
class ChatRuntime(Protocol):
    """Answers conversations."""

    def chat(self, request: ChatRequest) -> Exchange[ChatResult]:
        """One whole answer."""

    def stream_chat(self, request: ChatRequest) -> StreamExchange[ChatDelta]:
        """An answer in pieces."""


@runtime_checkable
class TextRuntime(Protocol):
    """Completes prompts."""

    def generate(self, request: TextRequest) -> Exchange[TextResult]:
        """All prompts of the request, in one answer."""

    def stream_generate(self, request: TextRequest) -> StreamExchange[GenerationChunk]:
        """One prompt's completion in pieces."""


@runtime_checkable
class EmbeddingRuntime(Protocol):
    """Turns texts into vectors; `kserve_core.batching.embed_all` cuts a long list into such requests."""

    def embed(self, request: EmbeddingRequest) -> Exchange[EmbeddingResult]:
        """One batch; plain calls can be sent side by side. The model must be known; see `resolve_model`."""

    def resolve_model(self, model: str | None = None) -> Flow[str | None]:
        """Finds the name to send as `model`, asking the endpoint at most once."""


@runtime_checkable
class RerankRuntime(Protocol):
    """Orders documents; `kserve_core.batching.rerank_all` cuts a long list into such requests."""

    def rerank(self, request: RerankRequest) -> Exchange[Ranking]:
        """One batch."""


@runtime_checkable
class LimitedEmbeddings(EmbeddingRuntime, Protocol):
    """Knows how many texts a model takes at once; `embed_all` sends no more."""

    def embedding_limit(self, model: str | None = None) -> int | None:
        """Most texts of one request to a model that was resolved; None for no limit, or an unknown one."""


@runtime_checkable
class LimitedReranking(RerankRuntime, Protocol):
    """Knows how many documents a model takes at once; `rerank_all` sends no more."""

    def rerank_limit(self, model: str | None = None) -> int | None:
        """Most documents of one request to a model that was resolved; None for no limit, or an unknown one."""

    def resolve_model(self, model: str | None = None) -> Flow[str | None]:
        """Finds the name to send as `model`, asking the endpoint at most once."""


@runtime_checkable
class SimilarityRuntime(Protocol):
    """Compares sentences without handing out their vectors."""

    def similarity(
        self, source: str, sentences: Sequence[str], *, model: str | None = None, truncate: int | None = None
    ) -> Exchange[list[float]]:
        """How similar each sentence is to the source, in their order; 1 is the same meaning."""

    def similarities(self, request: SimilarityRequest) -> Exchange[list[list[float]]]:
        """The same for several sources: one list of scores for each."""


@runtime_checkable
class TokenizerRuntime(Protocol):
    """Counts tokens exactly as the served model does."""

    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True
    ) -> Exchange[Tokenization]:
        """The tokens of a text."""

    def tokenize_messages(self, request: ChatRequest) -> Exchange[Tokenization]:
        """The tokens of a conversation as the model would see it, tools included."""

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Exchange[str]:
        """The text of tokens."""


@runtime_checkable
class InfoRuntime(Protocol):
    """Tells about itself."""

    def models(self) -> Exchange[list[ModelInfo]]:
        """The models served."""

    def model_info(self, model: str | None = None) -> Exchange[ModelInfo]:
        """One model: the named one, or the one served."""

    def version(self) -> Exchange[str]:
        """The server's version."""

    def health(self) -> Exchange[bool]:
        """Whether it can answer requests."""


@runtime_checkable
class ReadinessRuntime(Protocol):
    """Can be asked cheaply whether its model is ready, while one is being started."""

    def probe(self) -> AnyCall[bool] | None:
        """The call that asks, over the protocol of the runtime's other calls; None if there is none.

        It answers True or False. What it raises is taken for "not yet" where a model being started causes it (503, a
        refused connection, ...), else for no answer.
        """


ProgressCallback: TypeAlias = Callable[[int], None]
"""Called with the number of texts (or documents) a finished request held."""
