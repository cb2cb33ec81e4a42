"""The values adapters see: what a model answered, free of any wire and any framework.

Everything here is a plain slots dataclass: a streamed answer makes one of these per token, so none of them
validates anything. Codecs build them, adapters turn them into the framework's own objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "abort", "error"]
"""Why a model stopped, in OpenAI's words. A server's own word is passed on where it is none of these."""


@dataclass(slots=True)
class Usage:
    """Tokens one request cost, as the server counted them.

    Attributes:
        prompt_tokens: Tokens of the prompt.
        completion_tokens: Tokens generated, summed over all choices.
        total_tokens: Their sum, or what the server said it is.
        cached_tokens: Prompt tokens served from the prefix cache, where the server tells.
        reasoning_tokens: Generated tokens that were reasoning, where the server tells.
        audio_tokens: Prompt tokens that were audio, where the server tells.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


@dataclass(slots=True)
class ToolCall:
    """A tool the model wants called.

    Attributes:
        id: The call's id; made up here when the server sent none.
        name: The tool's name.
        arguments: The arguments as the JSON text the model wrote; it may not parse.
        complete: False when the answer was cut (`finish_reason` is `length`) while this call was being written.
    """

    id: str
    name: str
    arguments: str
    complete: bool = True


@dataclass(slots=True)
class ToolCallDelta:
    """A piece of a tool call in a stream; `index` says which call it belongs to.

    The codec has already repaired what servers vary in: `index` is always right, `id` and `name` are set on the
    first piece of a call only (an id is made up when the server never sends one), None afterwards.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(slots=True)
class ChatChoice:
    """One answer of a chat request.

    Attributes:
        content: The text, `""` when there is none.
        reasoning: The reasoning text, `""` when there is none.
        refusal: The refusal text, where the server has such a thing.
        tool_calls: The tools to call, in order.
        finish_reason: Why it stopped; None when the server did not say.
        stop_reason: The stop string or stop token id that matched (vLLM), else None.
        logprobs: The server's own log-probability object, untouched.
        index: Which of the `n` choices this is.
        extra: Fields of the choice or message that have no name here (audio, annotations, token ids, ...).
    """

    content: str = ""
    reasoning: str = ""
    refusal: str | None = None
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: Any = None
    index: int = 0
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ChatResult:
    """The whole answer to a chat request.

    Attributes:
        choices: One per requested `n`, ordered by index.
        usage: Token counts, or None when the server sent none.
        model: The model's name as the server wrote it.
        id: The answer's id (the server's request id).
        created: Seconds since the epoch, where the server tells.
        system_fingerprint: Names the server build, where the server tells.
        raw: The decoded answer, untouched.
    """

    choices: list[ChatChoice]
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    created: int | None = None
    system_fingerprint: str | None = None
    raw: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class ChatDelta:
    """One piece of a streamed chat answer.

    `model` and `id` are set on the first piece of each choice only, and `usage` on exactly one piece of the stream (the
    last), so that an adapter may copy whatever is set without thinking about repeats.

    Attributes:
        content: New text, `""` when this piece has none.
        reasoning: New reasoning text.
        tool_calls: Pieces of tool calls.
        finish_reason: Set on the last piece of a choice.
        stop_reason: As in `ChatChoice`.
        usage: Final token counts; on the last piece of the stream only. That piece may have nothing else.
        index: Which choice this belongs to.
        logprobs: The server's log-probability object for this piece, untouched.
        role: Set on the first piece of a choice when the server sends it.
        refusal: New refusal text.
        model: The model's name; on the first piece only.
        id: The answer's id; on the first piece only.
        system_fingerprint: On one piece at most.
        raw: The decoded event, untouched.
        extra: Other fields of the choice; on the last piece of a choice, as a rule.
    """

    content: str = ""
    reasoning: str = ""
    tool_calls: Sequence[ToolCallDelta] = ()
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    usage: Usage | None = None
    index: int = 0
    logprobs: Any = None
    role: str | None = None
    refusal: str | None = None
    model: str | None = None
    id: str | None = None
    system_fingerprint: str | None = None
    raw: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None


@dataclass(slots=True)
class Generation:
    """One completion of one prompt.

    Attributes:
        text: The text.
        finish_reason: Why it stopped.
        stop_reason: The stop string or token id that matched, where the server tells.
        logprobs: The server's own log-probability object, untouched.
        reasoning: Reasoning text, on runtimes that part it from the text.
        usage: This completion's own counts, where the server counts each apart.
        extra: Other fields of the choice.
    """

    text: str
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: Any = None
    reasoning: str = ""
    usage: Usage | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class TextResult:
    """The answer to a text-completion request of one or more prompts.

    Attributes:
        generations: For each prompt, in the order given, its `n` completions.
        usage: Counts over all prompts together.
        model: The model's name as the server wrote it.
        id: The answer's id.
        system_fingerprint: Names the server build, where the server tells.
        raw: The decoded answer, untouched.
    """

    generations: list[list[Generation]]
    usage: Usage | None = None
    model: str | None = None
    id: str | None = None
    system_fingerprint: str | None = None
    raw: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class GenerationChunk:
    """One piece of a streamed completion; the same rules as `ChatDelta`, and `extra` as in `Generation`."""

    text: str = ""
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    usage: Usage | None = None
    index: int = 0
    logprobs: Any = None
    reasoning: str = ""
    model: str | None = None
    id: str | None = None
    raw: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None


@dataclass(slots=True)
class EmbeddingResult:
    """Vectors for texts.

    Attributes:
        embeddings: One list of floats per text, in the order the texts were given.
        usage: Token counts, or None.
        model: The model's name as the server wrote it.
    """

    embeddings: list[list[float]]
    usage: Usage | None = None
    model: str | None = None


@dataclass(slots=True)
class RankedDocument:
    """A document's place in a ranking.

    Attributes:
        index: Its position in the list that was sent.
        score: How relevant it is; larger is better. The range is the model's own (0..1 for a cross-encoder
            with a sigmoid, -1..1 for cosine, any number for raw logits).
    """

    index: int
    score: float


@dataclass(slots=True)
class Ranking:
    """Documents ordered by relevance to a query, best first."""

    results: list[RankedDocument]
    usage: Usage | None = None
    model: str | None = None


@dataclass(slots=True)
class Tokenization:
    """A text's or a conversation's tokens.

    Attributes:
        count: How many tokens.
        token_ids: Their ids; empty where the runtime only counts.
        tokens: Their text, where the runtime tells.
        max_model_len: The model's context window in tokens, where the runtime tells.
    """

    count: int
    token_ids: list[int] = field(default_factory=list)
    tokens: list[str] | None = None
    max_model_len: int | None = None


@dataclass(slots=True)
class ModelInfo:
    """A model an endpoint serves.

    Attributes:
        id: The name to send as `model`.
        max_model_len: Context window in tokens (prompt and answer together), where the runtime tells.
        root: What the name stands for (a path or a base model).
        parent: For a LoRA adapter, the base model's name.
        owned_by: What the server says serves it.
        kind: What it can do (`generate`, `embed`, `rerank`), where the runtime tells.
        extra: Everything else the server said about it.
    """

    id: str
    max_model_len: int | None = None
    root: str | None = None
    parent: str | None = None
    owned_by: str | None = None
    kind: str | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
