"""Triton's vLLM backend: sampling parameters as one JSON text; a decoupled model, whether it streams or not."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import Any

import orjson

from kserve_core.devserver.settings import Model, Settings
from kserve_core.devserver.wires.v2.generation import SAMPLING, complete, fail, prompt_of
from kserve_core.devserver.wires.v2.request import Answered, Asked, Served, Spec
from kserve_core.devserver.wires.v2.tensors import Tensor
from kserve_core.devserver.wires.vllm.logprobs import prompt_logprobs
from kserve_core.devserver.wires.vllm.output import Output, Piece

_FLAGS = (
    "return_finish_reason",
    "return_cumulative_logprob",
    "return_logprobs",
    "return_num_input_tokens",
    "return_num_output_tokens",
)


def vllm_backend(model: Model, settings: Settings) -> Served:
    """A model of the backend."""

    def run(asked: Asked) -> Iterator[Answered]:
        prompt, stream = prompt_of(asked), bool(asked.value("stream", default=False))
        exclude = asked.inputs.get("exclude_input_in_output")
        echo = not stream if exclude is None else not exclude.data[0]
        if echo and stream:
            fail("When streaming, `exclude_input_in_output` = False is not allowed.")
        given = _sampling_parameters(asked)
        output, count = complete(prompt, given, model, settings)
        outputs = _choices(output, int(given.get("n") or 1))
        answer = _Answer(asked, outputs, count, given.get("logprobs"))
        if not stream:
            yield answer.whole(prompt if echo else "")
            return
        yield from answer.steps()

    inputs = (
        Spec("text_input", "BYTES", (1,)),
        Spec("stream", "BOOL", (1,), optional=True),
        Spec("sampling_parameters", "BYTES", (1,), optional=True),
        Spec("exclude_input_in_output", "BOOL", (1,), optional=True),
        *(Spec(name, "BOOL", (1,), optional=True) for name in _FLAGS),
    )
    outputs = (
        Spec("text_output", "BYTES", (-1,)),
        Spec("finish_reason", "BYTES", (-1,)),
        Spec("cumulative_logprob", "FP32", (-1,)),
        Spec("logprobs", "BYTES", (-1,)),
        Spec("num_input_tokens", "UINT32", (1,)),
        Spec("num_output_tokens", "UINT32", (-1,)),
    )
    return Served(model.name, inputs, outputs, run, decoupled=True)


def _choices(output: Output, n: int) -> list[Output]:
    """The answers of `n`; later ones say so, so that they can be told apart."""
    made = [output]
    for at in range(2, n + 1):
        first = replace(output.pieces[0], text=f"({at}) {output.pieces[0].text}")
        made.append(replace(output, pieces=[first, *output.pieces[1:]]))
    return made


class _Answer:
    """What comes back for a prompt: its texts and, if they are asked for, further outputs.

    Args:
        asked: The request.
        outputs: The generated texts.
        prompt: How many tokens the prompt has.
        logprobs: How many alternatives the sampling parameters ask for; None for no log-probabilities.
    """

    def __init__(self, asked: Asked, outputs: Sequence[Output], prompt: int, logprobs: Any) -> None:
        self._wanted = {name for name in _FLAGS if asked.value(name)}
        self._outputs = outputs
        self._prompt = prompt
        self._logprobs = None if logprobs is None else int(logprobs)

    def whole(self, echoed: str) -> Answered:
        """Everything as one answer."""
        texts = [echoed + output.raw for output in self._outputs]
        reasons = [output.finish_reason for output in self._outputs]
        return self._made(texts, reasons, [output.ids for output in self._outputs])

    def steps(self) -> Iterator[Answered]:
        """One answer for every step, in which every text is continued until it ends."""
        rows: list[tuple[Piece | None, ...]] = list(zip_longest(*(output.pieces for output in self._outputs)))
        for at, row in enumerate(rows, 1):
            reasons = [output.finish_reason if at >= len(output.pieces) else "None" for output in self._outputs]
            texts = ["" if piece is None else piece.text for piece in row]
            yield self._made(texts, reasons, [[] if piece is None else piece.ids for piece in row])

    def _made(self, texts: list[str], reasons: list[str], ids: list[list[int]]) -> Answered:
        count = sum(map(len, ids))
        made = [Tensor.texts("text_output", texts)]
        if "return_finish_reason" in self._wanted:
            made.append(Tensor.texts("finish_reason", reasons))
        if "return_cumulative_logprob" in self._wanted:
            made.append(Tensor("cumulative_logprob", "FP32", [len(ids)], [-0.25 * len(row) for row in ids]))
        if "return_logprobs" in self._wanted:
            made.append(Tensor.texts("logprobs", [self._told(row) for row in ids]))
        if "return_num_input_tokens" in self._wanted:
            made.append(Tensor("num_input_tokens", "UINT32", [1], [self._prompt]))
        if "return_num_output_tokens" in self._wanted:
            made.append(Tensor("num_output_tokens", "UINT32", [1], [count]))
        return Answered(made, count)

    def _told(self, ids: list[int]) -> str:
        """Log-probabilities as JSON text: for every token a table of the likeliest ones by their ids."""
        if self._logprobs is None:
            return "null"
        return json.dumps(prompt_logprobs([0, *ids], self._logprobs)[1:])


def _sampling_parameters(asked: Asked) -> dict[str, Any]:
    """The parameters of the vLLM backend: from the input, else from the request's own.

    Raises:
        V2Error: They are not JSON, or one is not known.
    """
    tensor = asked.inputs.get("sampling_parameters")
    if tensor is None:
        given: Any = dict(asked.parameters)
        for name in ("triton_enable_empty_final_response", "stream", "exclude_input_in_output", *_FLAGS):
            given.pop(name, None)
    else:
        try:
            given = orjson.loads(tensor.data[0])
        except orjson.JSONDecodeError as error:
            fail(str(error))
    if not isinstance(given, dict):
        fail("'sampling_parameters' is not a JSON object")
    unknown = next((name for name in given if name not in SAMPLING), None)
    if unknown is not None:
        fail(f"Unexpected keyword argument '{unknown}'")
    return given
