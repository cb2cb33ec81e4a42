"""MLServer's Hugging Face runtime: texts under `args`, JSON texts under `output`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.brain.features import embed
from kserve_core.devserver.settings import Model, Settings
from kserve_core.devserver.wires.v2.errors import V2Error
from kserve_core.devserver.wires.v2.generation import complete
from kserve_core.devserver.wires.v2.request import Answered, Asked, Served, Spec
from kserve_core.devserver.wires.v2.tensors import Tensor

_KNOWN = {"max_new_tokens": "max_tokens", "temperature": "temperature", "top_p": "top_p", "top_k": "top_k"}
_IGNORED = {"do_sample", "return_full_text", "num_return_sequences", "repetition_penalty"}


def text_generation(model: Model, settings: Settings) -> Served:
    """The prompt comes back in front of the continuation; arguments are further inputs."""

    def run(asked: Asked) -> Iterator[Answered]:
        given: dict[str, Any] = {}
        for name, tensor in asked.inputs.items():
            if name == "args" or name in _IGNORED:
                continue
            if name not in _KNOWN:
                msg = f"The following `model_kwargs` are not used by the model: ['{name}']"
                raise V2Error(msg, "INTERNAL", raised=True)
            given[_KNOWN[name]] = _argument(tensor)
        made = []
        count = 0
        for prompt in asked.texts("args"):
            output, _ = complete(prompt, given, model, settings)
            count = max(count, output.token_count)
            made.append({"generated_text": prompt + output.raw})
        yield _answered(made, count)

    return Served(model.name, (Spec("args", "BYTES", (-1,)),), (), run)


def feature_extraction(model: Model) -> Served:
    """States of the tokens of one text; of several texts only the first is answered."""

    def run(asked: Asked) -> Iterator[Answered]:
        text = asked.texts("args")[0]
        vector = list(embed(text, model.dimensions))
        yield _answered([[[vector for _ in range(max(1, tokens.count(text)))]]], 0)

    return Served(model.name, (), (), run)


def _argument(tensor: Tensor) -> Any:
    value = tensor.data[0]
    return json.loads(value) if isinstance(value, bytes) else value


def _answered(values: list[Any], count: int) -> Answered:
    tensor = Tensor.texts("output", [json.dumps(value) for value in values], [len(values), 1])
    tensor.parameters["content_type"] = "hg_jsonlist"
    return Answered([tensor], count)
