"""The shapes of REST requests, checked the way the runtime's schema does: no null, no unknown key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from kserve_core.devserver.messages import Request
from kserve_core.devserver.wires.caikit.errors import CaikitError, InvalidError, problem

_GENERATION = {
    "max_new_tokens": "int",
    "min_new_tokens": "int",
    "truncate_input_tokens": "int",
    "decoding_method": "str",
    "top_k": "int",
    "top_p": "float",
    "typical_p": "float",
    "temperature": "float",
    "repetition_penalty": "float",
    "max_time": "float",
    "exponential_decay_length_penalty": "decay",
    "stop_sequences": "texts",
    "seed": "int",
    "preserve_input_text": "bool",
    "input_tokens": "bool",
    "generated_tokens": "bool",
    "token_logprobs": "bool",
    "token_ranks": "bool",
    "include_stop_sequence": "bool",
}
_TRUNCATE = {"truncate_input_tokens": "int"}
_RERANK = {**_TRUNCATE, "top_n": "int", "return_documents": "bool", "return_text": "bool"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a task takes.

    Attributes:
        inputs: Its inputs and their types; a single one is sent bare.
        parameters: Its parameters and their types.
    """

    inputs: Mapping[str, str]
    parameters: Mapping[str, str] = field(default_factory=dict)


SHAPES: Mapping[str, Shape] = {
    "text-generation": Shape({"text": "str"}, _GENERATION),
    "server-streaming-text-generation": Shape({"text": "str"}, _GENERATION),
    "embedding": Shape({"text": "str"}, _TRUNCATE),
    "embedding-tasks": Shape({"texts": "texts"}, _TRUNCATE),
    "sentence-similarity": Shape({"source_sentence": "str", "sentences": "texts"}, _TRUNCATE),
    "sentence-similarity-tasks": Shape({"source_sentences": "texts", "sentences": "texts"}, _TRUNCATE),
    "rerank": Shape({"query": "str", "documents": "documents"}, {**_RERANK, "return_query": "bool"}),
    "rerank-tasks": Shape({"queries": "texts", "documents": "documents"}, {**_RERANK, "return_queries": "bool"}),
    "tokenization": Shape({"text": "str"}),
}


@dataclass(slots=True)
class Task:
    """A request that fits its schema.

    Attributes:
        name: The task's name in REST paths.
        inputs: What was given of its inputs.
        parameters: What was given of its parameters.
        model: The model's name, None if there was no such key.
    """

    name: str
    inputs: dict[str, Any]
    parameters: dict[str, Any]
    model: str | None


def read(request: Request, name: str) -> Task:
    """Read a request.

    Raises:
        InvalidError: It does not fit the schema.
        CaikitError: It has no content type.
    """
    if "content-type" not in request.headers:
        raise CaikitError(500, "Unhandled exception: argument of type 'NoneType' is not iterable")
    try:
        body = request.json()
    except orjson.JSONDecodeError as error:
        found = problem("json_invalid", (), f"Invalid JSON: {error}", request.body.decode("utf-8", "replace"))
        raise InvalidError([{**found, "ctx": {"error": str(error)}}]) from error
    if not isinstance(body, dict):
        raise InvalidError([problem("model_type", (), "Input should be an object", body)])
    shape = SHAPES[name]
    checked = _Checked()
    inputs = checked.inputs(shape, body)
    parameters = checked.members("parameters", shape.parameters, body.get("parameters", {}))
    model = checked.value(("model_id",), "str", body["model_id"]) if "model_id" in body else None
    checked.unknown((), set(body) - {"inputs", "parameters", "model_id"}, body)
    if checked.problems:
        raise InvalidError(checked.problems)
    return Task(name, inputs, parameters, model)


class _Checked:
    def __init__(self) -> None:
        self.problems: list[dict[str, Any]] = []

    def inputs(self, shape: Shape, body: Mapping[str, Any]) -> dict[str, Any]:
        if "inputs" not in body:
            return {}
        if len(shape.inputs) > 1:
            return self.members("inputs", shape.inputs, body["inputs"])
        ((name, kind),) = shape.inputs.items()
        return {name: self.value(("inputs",), kind, body["inputs"])}

    def members(self, where: str, kinds: Mapping[str, str], given: Any) -> dict[str, Any]:
        if not isinstance(given, dict):
            self._add("model_type", (where,), "Input should be an object", given)
            return {}
        self.unknown((where,), set(given) - set(kinds), given)
        return {name: self.value((where, name), kind, given[name]) for name, kind in kinds.items() if name in given}

    def unknown(self, where: tuple[str, ...], names: set[str], given: Mapping[str, Any]) -> None:
        for name in sorted(names):
            self._add("extra_forbidden", (*where, name), "Extra inputs are not permitted", given[name])

    def value(self, where: tuple[str | int, ...], kind: str, given: Any) -> Any:
        if kind in {"int", "float"}:
            return self._number(where, kind, given)
        if kind == "str" and not isinstance(given, str):
            self._add("string_type", where, "Input should be a valid string", given)
        elif kind == "bool" and not isinstance(given, bool):
            self._add("bool_type", where, "Input should be a valid boolean", given)
        elif kind in {"texts", "documents"}:
            if not isinstance(given, list):
                self._add("list_type", where, "Input should be a valid array", given)
                return given
            for at, item in enumerate(given):
                if kind == "texts":
                    self.value((*where, at), "str", item)
                elif not isinstance(item, dict):
                    self._add("dict_type", (*where, at), "Input should be an object", item)
        elif kind == "decay":
            return self.members(".".join(map(str, where)), {"start_index": "int", "decay_factor": "float"}, given)
        return given

    def _number(self, where: tuple[str | int, ...], kind: str, given: Any) -> Any:
        name = {"int": "integer", "float": "number"}[kind]
        text = f"Input should be a valid {name}"
        if isinstance(given, str):
            try:
                return int(given) if kind == "int" else float(given)
            except ValueError:
                said = f"{text}, unable to parse string as {'an integer' if kind == 'int' else 'a number'}"
                self._add(f"{kind}_parsing", where, said, given)
        elif isinstance(given, bool) or not isinstance(given, int | float):
            self._add(f"{kind}_type", where, text, given)
        elif kind == "int" and isinstance(given, float):
            if given.is_integer():
                return int(given)
            self._add("int_from_float", where, f"{text}, got a number with a fractional part", given)
        return given

    def _add(self, kind: str, where: tuple[str | int, ...], message: str, given: Any) -> None:
        self.problems.append(problem(kind, where, message, given))
