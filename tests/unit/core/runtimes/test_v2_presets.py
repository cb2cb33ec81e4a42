"""Which input takes the prompt and which output is the answer."""

from __future__ import annotations

import orjson
import pytest
from unit.core.runtimes.v2_text_wire import http

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.dialects import MLSERVER, TRITON
from kserve_core.runtimes.open_inference.metadata import read_model_metadata
from kserve_core.runtimes.open_inference.options import TensorOptions
from kserve_core.runtimes.open_inference.presets import text_model
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec


def spec(name, datatype="BYTES", *shape):
    return TensorSpec(name, datatype, shape or (1,))


TEXT = (spec("text_output"),)


def found(inputs, outputs=TEXT, *, dialect=TRITON, **options):
    metadata = ModelMetadata("m", inputs=tuple(inputs), outputs=tuple(outputs))
    model = text_model(metadata, TensorOptions(**options), dialect)
    return model.kind, model.prompt.name, model.output


@pytest.mark.parametrize(
    ("server", "name", "expected"),
    [
        ("triton", "vllm", ("vllm", "text_input", "text_output")),
        ("triton", "tensorrt_llm", ("tensors", "text_input", "text_output")),
        ("triton", "tiny", ("tensors", "text_input", "text_output")),
        ("triton", "generate", ("tensors", "text_input", "text_output")),
        ("mlserver", "tiny", ("tensors", "text_input", "text_output")),
        ("mlserver", "hf_text", ("huggingface", "args", "output")),
    ],
)
def test_real_models_are_recognized_by_their_metadata(server, name, expected):
    metadata = read_model_metadata(orjson.loads(http(server, f"metadata {name}").body))
    model = text_model(metadata, TensorOptions(), MLSERVER if server == "mlserver" else TRITON)
    assert (model.kind, model.prompt.name, model.output) == expected


def test_one_text_input_and_output_need_no_name():
    assert found([spec("QUESTION")], [spec("REPLY"), spec("score", "FP32")]) == ("tensors", "QUESTION", "REPLY")


def test_inputs_for_parameters_are_no_prompts():
    inputs = [spec("stop_words"), spec("bad_words"), spec("QUESTION"), spec("max_tokens", "INT32")]
    assert found(inputs)[1] == "QUESTION"


def test_known_name_decides_between_several_texts():
    assert found([spec("system"), spec("prompt")], [spec("trace"), spec("generated_text")])[1:] == (
        "prompt",
        "generated_text",
    )


def test_names_given_by_the_user_decide():
    inputs, outputs = [spec("a"), spec("b")], [spec("x"), spec("y")]
    assert found(inputs, outputs, input_name="b", output_name="y") == ("tensors", "b", "y")


def test_names_given_by_the_user_are_believed_where_the_server_tells_nothing():
    assert found([], [], input_name="q") == ("tensors", "q", None)


def test_args_of_a_triton_model_is_no_hugging_face_pipeline():
    assert found([spec("args")])[0] == "tensors"
    assert found([spec("args")], dialect=MLSERVER)[0] == "huggingface"


@pytest.mark.parametrize(
    ("inputs", "outputs", "options", "words"),
    [
        ([spec("a"), spec("b")], [spec("x")], {}, "input_name"),
        ([spec("a")], [spec("x"), spec("y")], {}, "output_name"),
        ([spec("a")], [spec("x")], {"input_name": "b"}, "a \\(BYTES\\)"),
        ([spec("a")], [spec("x")], {"output_name": "b"}, "x \\(BYTES\\)"),
        ([], [], {}, "input_name"),
    ],
)
def test_what_is_not_clear_is_asked_of_the_user(inputs, outputs, options, words):
    with pytest.raises(ConfigurationError, match=words):
        found(inputs, outputs, **options)


def test_models_without_text_are_refused_by_name():
    with pytest.raises(UnsupportedParameterError, match="takes no text"):
        found([spec("input_ids", "INT64")])
    with pytest.raises(UnsupportedParameterError, match="answers with no text"):
        found([spec("text")], [spec("embedding", "FP32")])
