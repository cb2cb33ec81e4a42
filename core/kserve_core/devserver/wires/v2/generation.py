"""Models that generate text: the TensorRT-LLM ensemble, plain ones, and what the vLLM backend shares with them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

import orjson

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.answers import answer
from kserve_core.devserver.brain.dialogue import unflattened
from kserve_core.devserver.settings import Model, Settings
from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.request import Answered, Asked, Served, Spec
from kserve_core.devserver.wires.v2.tensors import Tensor, coded
from kserve_core.devserver.wires.vllm.constraints import constrained
from kserve_core.devserver.wires.vllm.errors import ApiError
from kserve_core.devserver.wires.vllm.generation import generate
from kserve_core.devserver.wires.vllm.output import Output, Segment
from kserve_core.devserver.wires.vllm.sampling import read, room

DEFAULT_MAX_TOKENS = 16

SAMPLING = frozenset(
    {
        "n",
        "best_of",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "stop_token_ids",
        "bad_words",
        "include_stop_str_in_output",
        "ignore_eos",
        "max_tokens",
        "min_tokens",
        "logprobs",
        "prompt_logprobs",
        "detokenize",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "logit_bias",
        "allowed_token_ids",
        "truncate_prompt_tokens",
        "guided_decoding",
        "structured_outputs",
        "lora_name",
    }
)
_TRT = (
    ("max_tokens", "INT32", False),
    ("bad_words", "BYTES", True),
    ("stop_words", "BYTES", True),
    ("exclude_input_in_output", "BOOL", True),
    ("end_id", "INT32", True),
    ("pad_id", "INT32", True),
    ("top_k", "INT32", True),
    ("top_p", "FP32", True),
    ("temperature", "FP32", True),
    ("repetition_penalty", "FP32", True),
    ("min_tokens", "INT32", True),
    ("presence_penalty", "FP32", True),
    ("frequency_penalty", "FP32", True),
    ("seed", "UINT64", True),
    ("return_log_probs", "BOOL", True),
    ("beam_width", "INT32", True),
    ("stream", "BOOL", True),
)


def ensemble(model: Model, settings: Settings) -> Served:
    """The TensorRT-LLM ensemble: a tensor for every parameter, batched, and the prompt repeated unless refused."""

    def run(asked: Asked) -> Iterator[Answered]:
        prompt = prompt_of(asked)
        given = {name: asked.value(name) for name, datatype, _ in _TRT if datatype != "BOOL" and name in asked.inputs}
        stops = [word for word in asked.texts("stop_words") if word] if "stop_words" in asked.inputs else []
        given = {key: value for key, value in given.items() if key in SAMPLING and key != "bad_words"}
        output, _ = complete(prompt, {**given, "stop": stops}, model, settings)
        if asked.value("stream", default=False):
            for piece in output.pieces:
                yield Answered(_with_probability(piece.text), len(piece.ids))
            return
        echo = "" if asked.value("exclude_input_in_output", default=False) else prompt
        yield Answered(_with_probability(echo + output.raw), output.token_count)

    inputs = [Spec("text_input", "BYTES", (-1, 1))]
    for name, datatype, optional in _TRT:
        inputs.append(Spec(name, datatype, (-1, -1 if name in {"bad_words", "stop_words"} else 1), optional))
    outputs = (Spec("text_output", "BYTES", (-1, -1)), Spec("cum_log_probs", "FP32", (-1, 1)))
    decoupled = "plain" not in model.name.lower()
    return Served(model.name, tuple(inputs), outputs, run, max_batch_size=4, decoupled=decoupled)


def _with_probability(text: str) -> list[Tensor]:
    return [Tensor.texts("text_output", [text], [1, 1]), Tensor("cum_log_probs", "FP32", [1, 1], [0.0])]


def plain(model: Model, settings: Settings, *, column: bool, reasoned: bool) -> Served:
    """Texts in, texts out, with some parameters as inputs and all as request parameters.

    Args:
        model: The model.
        settings: The server.
        column: Whether texts come out in the shape `[N, 1]`, and in pieces where the client listens (MLServer).
        reasoned: Whether it tells why a text ended.
    """

    def tensors(texts: list[str], reasons: list[str]) -> list[Tensor]:
        shape = [len(texts), 1] if column else [len(texts)]
        made = [coded(Tensor.texts("text_output", texts, shape))]
        return [*made, coded(Tensor.texts("finish_reason", reasons, shape))] if reasoned else made

    def run(asked: Asked) -> Iterator[Answered]:
        prompts = asked.texts("text_input")
        given = {name: asked.value(name) for name in SAMPLING if asked.value(name) is not None}
        for name, tensor in asked.inputs.items():
            if name == "stop" and tensor.datatype == "BYTES":
                given["stop"] = tensor.strings()
        if asked.value("max_new_tokens") is not None:
            given.setdefault("max_tokens", asked.value("max_new_tokens"))
        if not (asked.listens and column):
            outputs = [complete(prompt, given, model, settings)[0] for prompt in prompts]
            texts, reasons = [output.raw for output in outputs], [output.finish_reason for output in outputs]
            count = max((output.token_count for output in outputs), default=0)
            yield Answered(tensors(texts, reasons), count)
            return
        output, _ = complete(prompt_of(asked), given, model, settings)
        for at, piece in enumerate(output.pieces, 1):
            reason = output.finish_reason if at == len(output.pieces) else ""
            yield Answered(tensors([piece.text], [reason]), len(piece.ids))

    inputs = (
        Spec("text_input", "BYTES", (-1,)),
        Spec("max_tokens", "INT32", (1,), optional=True),
        Spec("temperature", "FP32", (1,), optional=True),
        Spec("seed", "INT64", (1,), optional=True),
        Spec("stop", "BYTES", (-1,), optional=True),
    )
    names = ("text_output", "finish_reason") if reasoned else ("text_output",)
    return Served(model.name, inputs, tuple(Spec(name, "BYTES", (-1,)) for name in names), run)


def complete(prompt: str, given: Mapping[str, Any], model: Model, settings: Settings) -> tuple[Output, int]:
    """What a model says to a prompt, and how many tokens the prompt has.

    Raises:
        V2Error: A parameter is refused, or the prompt does not fit.
    """
    body, stops = {**given, "stop": None}, _stops(given.get("stop"))
    if "" in stops:
        fail("stop cannot contain an empty string.")
    body.pop("n", None)  # the caller's
    ids = tokens.encode(prompt)
    wanted = int(body.get("max_tokens") or DEFAULT_MAX_TOKENS) if body.get("max_tokens") != 0 else 0
    try:
        sampling = replace(read(_numbers(body), settings, max_tokens=wanted, logprobs=None), stop=tuple(stops))
        limit = room(len(ids), wanted, model.max_model_len, settings)
        text = constrained(_guided(body), prompt, settings)
    except ApiError as error:
        fail(error.message)
    if text is None:
        text = answer(unflattened(prompt), may_call=False).text
    return generate([Segment("text", text)], sampling, limit), len(ids)


def prompt_of(asked: Asked) -> str:
    """The one prompt of a request.

    Raises:
        V2Error: There are none or several.
    """
    texts = asked.texts("text_input")
    if len(texts) != 1:
        fail(f"one text is generated at a time, {len(texts)} were sent")
    return texts[0]


def _numbers(body: dict[str, Any]) -> dict[str, Any]:
    """Numbers that came as text, as numbers.

    Raises:
        V2Error: One is none.
    """
    made = dict(body)
    for name, value in body.items():
        if isinstance(value, str) and name not in {"stop", "lora_name", "guided_decoding", "structured_outputs"}:
            try:
                made[name] = orjson.loads(value)
            except orjson.JSONDecodeError:
                fail(f"could not convert {name} to a number")
    return made


def _stops(given: Any) -> list[str]:
    if given is None:
        return []
    if isinstance(given, str):
        if given.startswith("["):
            try:
                return [str(item) for item in orjson.loads(given)]
            except orjson.JSONDecodeError:
                return [given]
        return [given]
    return [str(item) for item in given]


def _guided(body: Mapping[str, Any]) -> dict[str, Any]:
    """The form that is asked for, as the brain's other callers write it."""
    found = body.get("structured_outputs") or body.get("guided_decoding")
    if not found:
        return {}
    return {"structured_outputs": orjson.loads(found) if isinstance(found, str) else found}


def fail(said: str) -> NoReturn:
    """Refuses as the vLLM backend does: every problem is an error of the server."""
    msg = f"Error generating stream: {said}"
    raise V2Error(msg, "INTERNAL")
