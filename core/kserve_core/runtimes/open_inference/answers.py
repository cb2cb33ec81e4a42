"""Generated text out of a model's answers, whole or in pieces.

A whole answer is a stream of one piece (or of the pieces that came), put together: both are read by the same code, so
both are the same text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kserve_core._json import unexpected
from kserve_core.errors import BadResponseError, KServeError
from kserve_core.runtimes.open_inference.huggingface import generated_text
from kserve_core.runtimes.open_inference.presets import Kind
from kserve_core.runtimes.open_inference.stops import Deltas, EchoStripper, StopCutter
from kserve_core.runtimes.open_inference.values import InferResult
from kserve_core.types import Generation, GenerationChunk, TextResult, Usage

_WHAT = "a generated text"
_ABOUT = frozenset({"model_name", "model_version", "id", "parameters", "sequence_id", "sequence_start", "sequence_end"})
"""Members of Triton's flat answer that are no outputs."""
_NO_TEXT = frozenset({"finish_reason", "logprobs"})
_COUNTS = ("num_input_tokens", "num_output_tokens")


@dataclass(frozen=True, slots=True)
class Reading:
    """What has to be known of a request to read its answer.

    Attributes:
        kind: How the model takes its parameters, which also says how it answers.
        model: The model that was asked.
        prompt: The prompt, to find it in the answer.
        output: The output that has the text; None for the only one that is text.
        stops: Stop texts to cut the answer at.
        keep_stop: Whether the one that matched belongs to the answer.
        echo: Whether the answer shall begin with the prompt.
        cumulative: Whether each piece of a stream repeats all text before it.
        logprobs: Whether log-probabilities were asked for.
        usage: Whether token counts are wanted.
    """

    kind: Kind
    model: str
    prompt: str = field(repr=False)
    output: str | None = None
    stops: tuple[str, ...] = field(default=(), repr=False)
    keep_stop: bool = False
    echo: bool = False
    cumulative: bool = False
    logprobs: bool = False
    usage: bool = True


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the model, as far as text generation looks at it: flat lists of values by the outputs' names."""

    values: Mapping[str, Sequence[Any]] = field(repr=False)
    model: str | None = None
    id: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


def of_object(value: Mapping[str, Any]) -> Answer:
    """Triton's flat JSON object: an output of one element is a bare value."""
    values = {
        name: each if isinstance(each, list) else [each]
        for name, each in value.items()
        if name not in _ABOUT and each is not None
    }
    name, request = value.get("model_name"), value.get("id")
    return Answer(
        values, name if isinstance(name, str) else None, request if isinstance(request, str) and request else None
    )


class TextPieces:
    """Makes pieces of the answers to one prompt; see `streams.Pieces`. Takes `Answer` and `InferResult`."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._choices: list[_Choice] = []
        self._about: Answer | None = None
        self._told = False  # the model's name and the id, which go on the first piece only
        self._prompt_tokens: int | None = None
        self._tokens: int | None = None
        self._ended = False

    @property
    def finished(self) -> bool:
        """True when a stop text has ended every choice: what else the model generates is not wanted."""
        return self._ended

    @property
    def begun(self) -> bool:
        """Whether an answer came."""
        return bool(self._choices)

    @property
    def partial_text(self) -> str:
        """The text so far, of the first choice."""
        return "".join(self._choices[0].delivered) if self._choices else ""

    def take(self, result: Answer | InferResult) -> Sequence[GenerationChunk]:
        """Takes the next answer.

        Raises:
            BadResponseError: If it has no text where it should.
        """
        answer = result if isinstance(result, Answer) else self._answer(result)
        if self._ended or not answer.values:
            return ()  # one without outputs is a server's way to say that it was the last
        try:
            return self._take(answer)
        except KServeError as error:
            error.partial_text = error.partial_text or self.partial_text
            raise

    def _take(self, answer: Answer) -> Sequence[GenerationChunk]:
        texts = self._texts(answer)
        self._about = answer
        if not self._choices:
            self._choices = [_Choice(index, self._reading) for index in range(len(texts))]
        if len(texts) != len(self._choices):
            problem = f"{len(texts)} texts came where {len(self._choices)} came before"
            raise unexpected(_WHAT, problem)
        self._count(answer)
        out = []
        for index, (choice, text) in enumerate(zip(self._choices, texts, strict=True)):
            if choice.stopped:
                continue
            piece = choice.take(text, _reason(answer, index))
            self._detail(piece, answer, index)
            if piece.text or piece.finish_reason or piece.logprobs is not None or piece.extra:
                out.append(self._first(piece))
        if all(choice.stopped for choice in self._choices):
            self._ended = True
            self._usage(out)
        return out

    def end(self) -> Sequence[GenerationChunk]:
        """What was held back, and the token counts."""
        self._ended = True
        out = [piece for choice in self._choices if (piece := choice.end()) is not None]
        self._usage(out)
        return [self._first(piece) for piece in out]

    def _answer(self, result: InferResult) -> Answer:
        """The values of the outputs that matter: others may be large."""
        output = self._reading.output
        wanted = {"finish_reason", "logprobs", "cum_log_probs", "output_log_probs", *_COUNTS, output}
        values = {
            name: tensor.texts() if tensor.datatype == "BYTES" else tensor.flat()
            for name, tensor in result.outputs.items()
            if name in wanted or output is None or output not in result.outputs
        }
        return Answer(values, result.model, result.id, result.parameters)

    def _texts(self, answer: Answer) -> list[str]:
        name, values = self._reading.output, answer.values
        if name is None:
            texts = [each for each, found in values.items() if each not in _NO_TEXT and _is_text(found)]
            if len(texts) != 1:
                problem = f"{len(texts)} of its outputs are texts"
                raise unexpected(_WHAT, problem, hint="Name the one that is the answer: output_name=....")
            name = texts[0]
        found = values.get(name)
        if found is None or not _is_text(found):
            problem = f"it has no text in {name!r}"
            raise unexpected(_WHAT, problem, hint=f"It has {', '.join(values) or 'no outputs'}. See output_name=....")
        if self._reading.kind == "huggingface":
            return [generated_text(each) for each in found]
        return list(found)

    def _count(self, answer: Answer) -> None:
        """Counts of the prompt come with every answer; of what is new, the vLLM backend tells the new ones."""
        prompt, new = (_sum(answer.values.get(name)) for name in _COUNTS)
        if prompt is not None:
            self._prompt_tokens = max(self._prompt_tokens or 0, prompt)
        if new is not None:
            before = self._tokens or 0
            self._tokens = before + new if self._reading.kind == "vllm" else max(before, new)

    def _usage(self, out: list[GenerationChunk]) -> None:
        """Puts the counts on the last piece."""
        if not self._reading.usage or (self._prompt_tokens is None and self._tokens is None):
            return
        prompt, tokens = self._prompt_tokens or 0, self._tokens or 0
        usage = Usage(prompt, tokens, prompt + tokens)
        if out:
            out[-1].usage = usage
        else:
            out.append(GenerationChunk(usage=usage))

    def _detail(self, piece: GenerationChunk, answer: Answer, index: int) -> None:
        if not self._reading.logprobs:
            return
        told = answer.values.get("logprobs")
        if told is not None and index < len(told):
            piece.logprobs = _logprobs(told[index])
        values = answer.values.get("output_log_probs")
        if values:
            piece.logprobs = {"token_logprobs": list(values)}
        total = answer.values.get("cum_log_probs")
        if total and index < len(total):
            piece.extra = {**(piece.extra or {}), "cumulative_logprob": total[index]}

    def _first(self, piece: GenerationChunk) -> GenerationChunk:
        about = self._about
        if about is not None:
            if piece.text or piece.finish_reason:  # and not the counts alone
                piece.raw = dict(about.values)
            if not self._told:
                self._told = True
                piece.model, piece.id = about.model or self._reading.model, about.id
        return piece


class _Choice:
    """One completion of a prompt."""

    __slots__ = ("_cutter", "_deltas", "_echo", "_index", "_lead", "delivered", "reason", "stopped")

    def __init__(self, index: int, reading: Reading) -> None:
        self._index = index
        self._deltas = Deltas() if reading.cumulative else None
        self._echo = EchoStripper(reading.prompt)
        self._cutter = StopCutter(reading.stops, keep=reading.keep_stop)
        self._lead = reading.prompt if reading.echo else ""
        self.delivered: list[str] = []
        self.reason: str | None = None
        self.stopped = False

    def take(self, text: str, reason: str | None) -> GenerationChunk:
        """The piece for the next text; `reason` if the server says that it is the last one."""
        if self._deltas is not None:
            try:
                text = self._deltas.feed(text)
            except ValueError as error:
                hint = "The model sends new text only: leave cumulative out."
                raise unexpected(_WHAT, str(error), hint=hint) from None
        text = self._cutter.feed(self._echo.feed(text))
        if reason is not None and self._cutter.matched is None:
            text += self._rest()
        return self._piece(text, reason)

    def end(self) -> GenerationChunk | None:
        """The piece that was held back when the stream ended; None if there is none."""
        if self.stopped or self.reason is not None:
            return None
        piece = self._piece(self._rest(), None)
        return piece if piece.text or piece.finish_reason else None

    def _rest(self) -> str:
        text = self._cutter.feed(self._echo.end())
        return text if self._cutter.matched is not None else text + self._cutter.end()

    def _piece(self, text: str, reason: str | None) -> GenerationChunk:
        piece = GenerationChunk(text, index=self._index)
        if self._cutter.matched is not None:
            self.stopped = True
            self.reason = "stop"
            piece.finish_reason, piece.stop_reason = "stop", self._cutter.matched
        elif reason is not None:
            self.reason = piece.finish_reason = reason
        if self._lead:
            piece.text = self._lead + piece.text
            self._lead = ""
        if piece.text:
            self.delivered.append(piece.text)
        return piece


def whole(reading: Reading, result: Answer | InferResult) -> list[GenerationChunk]:
    """The pieces that one whole answer makes.

    Raises:
        BadResponseError: If there is no text in it.
    """
    pieces = TextPieces(reading)
    found = [*pieces.take(result), *pieces.end()]
    if not pieces.begun:
        problem = "it has no outputs"
        raise unexpected(_WHAT, problem)
    return found


def together(pieces: Sequence[GenerationChunk]) -> TextResult:
    """The completions of one prompt that pieces make; one that is empty if there are none."""
    found: dict[int, Generation] = {0: Generation("")}
    usage, model, request = None, None, None
    for piece in pieces:
        one = found.setdefault(piece.index, Generation(""))
        one.text += piece.text
        one.finish_reason = piece.finish_reason or one.finish_reason
        one.stop_reason = piece.stop_reason if piece.stop_reason is not None else one.stop_reason
        one.extra.update(piece.extra or {})
        if piece.logprobs is not None:
            one.logprobs = _joined(one.logprobs, piece.logprobs)
        usage, model, request = piece.usage or usage, piece.model or model, piece.id or request
    if len(found) == 1:
        found[0].usage = usage
    raws = [piece.raw for piece in pieces if piece.raw is not None]
    raw = raws[0] if len(raws) == 1 else {"responses": raws}
    generations = [found[index] for index in sorted(found)]
    return TextResult([generations], usage=usage, model=model, id=request, raw=raw)


def _joined(before: Any, new: Any) -> Any:
    if before is None:
        return new
    return {name: [*before.get(name, ()), *values] for name, values in new.items()}


def _is_text(values: Sequence[Any]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)


def _reason(answer: Answer, index: int) -> str | None:
    """Why a choice ended; the vLLM backend says `None` in words while it goes on."""
    told = answer.values.get("finish_reason")
    word = told[index] if told is not None and index < len(told) else None
    return word if isinstance(word, str) and word not in {"", "None"} else None


def _sum(values: Sequence[Any] | None) -> int | None:
    if values is None or not all(type(value) is int for value in values):
        return None
    return int(sum(values))


def _logprobs(told: Any) -> dict[str, Any] | None:
    """The vLLM backend's JSON text (per token a dict of token ids, the chosen one first) as parallel lists.

    Raises:
        BadResponseError: If it is something else.
    """
    try:
        listed = json.loads(told)  # may have -Infinity
        if listed is None:
            return None
        tokens: list[Any] = []
        values: list[Any] = []
        tops: list[Any] = []
        for each in listed:
            candidates = list(each.values())
            tokens.append(candidates[0].get("decoded_token"))
            values.append(candidates[0].get("logprob"))
            tops.append({one.get("decoded_token"): one.get("logprob") for one in candidates})
    except (ValueError, TypeError, AttributeError, LookupError):
        msg = "The answer's log-probabilities are not in the form of the vLLM backend."
        raise BadResponseError(msg) from None
    return {"tokens": tokens, "token_logprobs": values, "top_logprobs": tops}
