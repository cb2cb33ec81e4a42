"""What the models do, whatever server they run in: arrays in, arrays out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
from runtimes.v2.minilm import DIMENSIONS, END, LIMIT, POSITIONS, START, MiniLM
from runtimes.v2.sentences import GOES_ON
from runtimes.v2.speech import Speech, TooLongError, answer

Arrays = Mapping[str, np.ndarray]
Answer = dict[str, np.ndarray]
Parameters = Mapping[str, Any]
_SHARP = 12.0  # turns a cosine into a logit


class RefusedError(ValueError):
    """The request is at fault."""


@cache
def minilm() -> MiniLM:
    """The one of this process."""
    return MiniLM().warm()


def texts(inputs: Arrays, name: str) -> list[str]:
    """An input's texts, whatever its shape.

    Raises:
        RefusedError: If it is missing.
    """
    if name not in inputs:
        msg = f"input '{name}' is missing"
        raise RefusedError(msg)
    return [one.decode() if isinstance(one, bytes) else str(one) for one in inputs[name].reshape(-1)]


def strings(*found: str) -> np.ndarray:
    """An output of texts."""
    return np.array([one.encode() for one in found], dtype=np.object_)


def option(inputs: Arrays, parameters: Parameters, name: str, default: Any = None) -> Any:
    """A value that may be an input or a request parameter."""
    if name in inputs and inputs[name].size:
        value = inputs[name].reshape(-1)[0]
        return value.decode() if isinstance(value, bytes) else value.item() if hasattr(value, "item") else value
    return parameters.get(name, default)


class Behaviour:
    """A model. One that can say its answer in pieces overrides `stream`."""

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        """The whole answer."""
        raise NotImplementedError

    def stream(self, inputs: Arrays, parameters: Parameters) -> Iterator[Answer]:
        """The answer in pieces."""
        yield self.answer(inputs, parameters)

    def slow(self, inputs: Arrays) -> bool:
        """Whether pieces take their time."""
        return False


class Embed(Behaviour):
    """Texts to vectors."""

    def __init__(self, datatype: str = "FP32") -> None:
        self._datatype = datatype
        minilm()

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        vectors = embedded(texts(inputs, "text"), truncate=bool(option(inputs, parameters, "truncate", default=False)))
        if self._datatype == "FP16":
            vectors = vectors.astype(np.float16)
        elif self._datatype == "INT8":
            vectors = np.rint(vectors * 127 / max(np.abs(vectors).max(initial=0), 1e-9)).astype(np.int8)
        return {"embedding": vectors}


def embedded(given: Sequence[str], *, truncate: bool) -> np.ndarray:
    """Vectors of texts.

    Raises:
        RefusedError: A text is too long, and may not be cut.
    """
    rows = minilm().token_ids(given)
    if not truncate:
        longest = max(map(len, rows), default=0)
        if longest > LIMIT:
            msg = f"text of {longest} tokens is longer than the maximum sequence length {LIMIT}"
            raise RefusedError(msg)
    return minilm().embed_ids([[*row[: LIMIT - 1], END] if len(row) > LIMIT else row for row in rows])


class EmbedIds(Behaviour):
    """Token ids to token states, and to vectors where the model has a pooling of its own."""

    def __init__(self, *, pools: bool) -> None:
        self._pools = pools
        minilm()

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        ids, mask = inputs["input_ids"].astype(np.int64), inputs["attention_mask"].astype(np.int64)
        _fits(ids)
        states = minilm().states(ids, mask)
        found = {"last_hidden_state": states}
        return {**found, "sentence_embedding": minilm().pooled(states, mask)} if self._pools else found


def _fits(ids: np.ndarray) -> None:
    if ids.shape[1] > POSITIONS:
        msg = f"input of {ids.shape[1]} tokens is longer than the maximum sequence length {POSITIONS}"
        raise RefusedError(msg)


class NullEmbed(Behaviour):
    """Vectors that take no time, for counting and measuring."""

    def __init__(self) -> None:
        self._rows = np.random.default_rng(0).standard_normal((4096, DIMENSIONS)).astype(np.float32)

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        return {"embedding": self._rows[: inputs["text"].size]}


class Rerank(Behaviour):
    """The cosine of each pair; one query may stand for all passages."""

    def __init__(self) -> None:
        minilm()

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        queries, passages = texts(inputs, "query"), texts(inputs, "passage")
        if len(queries) not in {1, len(passages)}:
            msg = f"{len(queries)} queries for {len(passages)} passages"
            raise RefusedError(msg)
        truncate = bool(option(inputs, parameters, "truncate", default=False))
        different = list(dict.fromkeys(queries))
        vectors = dict(zip(different, embedded(different, truncate=truncate), strict=True))
        asked = np.stack([vectors[query] for query in queries])
        scores = (embedded(passages, truncate=truncate) * asked).sum(axis=-1, keepdims=True)
        return {"score": scores.astype(np.float32)}


class RerankIds(Behaviour):
    """A cross-encoder by its tensors: pairs as token ids, told apart by token types, to one logit or to two."""

    def __init__(self, columns: int) -> None:
        self._columns = columns
        minilm()

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        ids, mask = inputs["input_ids"], inputs["attention_mask"]
        _fits(ids)
        second = inputs["token_type_ids"].astype(bool) & mask.astype(bool)
        first = mask.astype(bool) & ~second
        queries = minilm().embed_ids([row[keep].tolist() for row, keep in zip(ids, first, strict=True)])
        rows = [[START, *row[keep].tolist()] for row, keep in zip(ids, second, strict=True)]
        logits = _SHARP * ((queries * minilm().embed_ids(rows)).sum(axis=-1, keepdims=True) - 0.5)
        return {"logits": (logits if self._columns == 1 else np.hstack([-logits / 2, logits / 2])).astype(np.float32)}


class Speaker(Behaviour):
    """Text to text, with parameters as inputs of their own or as request parameters."""

    finish = True
    stop_name = "stop"

    def said(self, inputs: Arrays, parameters: Parameters) -> Speech:
        """The answer, not yet spoken."""
        limit = option(inputs, parameters, "max_tokens")
        given = texts(inputs, self.stop_name) if self.stop_name in inputs else parameters.get(self.stop_name) or []
        stop = [given] if isinstance(given, str) else given
        return _answered(texts(inputs, "text_input")[0], int(limit) if limit is not None else None, stop)

    def pieces(self, inputs: Arrays, parameters: Parameters) -> bool:
        """Whether the answer is wanted in pieces."""
        return bool(option(inputs, parameters, "stream", default=False))

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        speech = self.said(inputs, parameters)
        return self.message(inputs, speech.text, speech, last=True)

    def stream(self, inputs: Arrays, parameters: Parameters) -> Iterator[Answer]:
        if not self.pieces(inputs, parameters):
            yield self.answer(inputs, parameters)
            return
        speech = self.said(inputs, parameters)
        for at, piece in enumerate(speech.spoken()):
            yield self.message(inputs, piece, speech, last=at == len(speech.pieces) - 1)

    def message(self, inputs: Arrays, text: str, speech: Speech, *, last: bool) -> Answer:
        """One answer of the model."""
        found = {"text_output": strings(text)}
        return {**found, "finish_reason": strings(speech.finish_reason if last else "")} if self.finish else found

    def slow(self, inputs: Arrays) -> bool:
        return any(GOES_ON in text for text in texts(inputs, "text_input"))


def _answered(prompt: str, limit: int | None, stop: Sequence[str], **words: str) -> Speech:
    try:
        return answer(prompt, max_tokens=limit, stop=stop, **words)
    except TooLongError as error:
        raise RefusedError(str(error)) from None


class PlainSpeaker(Speaker):
    """Without a reason why it stopped."""

    finish = False


class VLLM(Speaker):
    """The vLLM backend's ways."""

    def pieces(self, inputs: Arrays, parameters: Parameters) -> bool:
        wanted = super().pieces(inputs, parameters)
        if wanted and option(inputs, {}, "exclude_input_in_output") is False:
            msg = "Error generating stream: When streaming, `exclude_input_in_output` = False is not allowed."
            raise RuntimeError(msg)
        return wanted

    def said(self, inputs: Arrays, parameters: Parameters) -> Speech:
        given = option(inputs, {}, "sampling_parameters")
        sampling = json.loads(given) if given else dict(parameters)
        stop = sampling.get("stop") or []
        words = (
            "This model's maximum context length is {limit} tokens. However, your request has {tokens} input tokens."
        )
        limit = int(sampling.get("max_tokens", 16))
        stop = [stop] if isinstance(stop, str) else stop
        return _answered(texts(inputs, "text_input")[0], limit, stop, too_long=f"Error generating stream: {words}")

    def message(self, inputs: Arrays, text: str, speech: Speech, *, last: bool) -> Answer:
        excluded = option(inputs, {}, "exclude_input_in_output")
        whole = not option(inputs, {}, "stream")
        if whole and not excluded:
            text = texts(inputs, "text_input")[0] + text
        found = {"text_output": strings(text)}
        if option(inputs, {}, "return_finish_reason"):
            found["finish_reason"] = strings(speech.finish_reason if last else "None")
        if option(inputs, {}, "return_num_input_tokens"):
            found["num_input_tokens"] = np.array([speech.prompt_tokens], np.uint32)
        if option(inputs, {}, "return_num_output_tokens"):
            found["num_output_tokens"] = np.array([len(speech.pieces) if whole else 1], np.uint32)
        return found


class TensorRTLLM(Speaker):
    """The TensorRT-LLM ensemble's ways: a batch of one."""

    finish = False
    stop_name = "stop_words"

    def said(self, inputs: Arrays, parameters: Parameters) -> Speech:
        limit = int(inputs["max_tokens"].reshape(-1)[0])
        stop = texts(inputs, "stop_words") if "stop_words" in inputs else []
        words = "Prompt length ({tokens}) exceeds maximum input length ({limit})."
        return _answered(texts(inputs, "text_input")[0], limit, stop, too_long=words)

    def message(self, inputs: Arrays, text: str, speech: Speech, *, last: bool) -> Answer:
        whole = not option(inputs, {}, "stream")
        if whole and not option(inputs, {}, "exclude_input_in_output"):
            text = texts(inputs, "text_input")[0] + text
        return {"text_output": strings(text).reshape(1, 1), "cum_log_probs": np.zeros((1, 1), np.float32)}


class Versioned(Behaviour):
    """Says which version it is."""

    def __init__(self, version: str) -> None:
        self._version = version

    def answer(self, inputs: Arrays, parameters: Parameters) -> Answer:
        return {"text_output": strings(*(f"v{self._version}:{text}" for text in texts(inputs, "text")))}


def make(name: str, version: str = "1") -> Behaviour:
    """The behaviour of a model.

    Raises:
        LookupError: For those that each server has its own way for.
    """
    match name:
        case "embed" | "minilm" | "embed_wide":
            return Embed()
        case "embed_fp16" | "embed_int8":
            return Embed(name.removeprefix("embed_").upper())
        case "embed_ids" | "embed_states":
            return EmbedIds(pools=name == "embed_ids")
        case "null_embed":
            return NullEmbed()
        case "rerank":
            return Rerank()
        case "rerank_ids" | "rerank_ids_two":
            return RerankIds(1 if name == "rerank_ids" else 2)
        case "tiny" | "tiny-adapter":
            return Speaker()
        case "generate" | "generate_stream":
            return PlainSpeaker()
        case "vllm":
            return VLLM()
        case "tensorrt_llm":
            return TensorRTLLM()
        case "versioned":
            return Versioned(version)
    raise LookupError(name)
