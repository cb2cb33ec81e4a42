"""The messages: what they hold, and that they get in nobody's way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kserve_core.protos import messages

ROOT = Path(__file__).parents[3]


def python(code: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "core"), **variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


CONFLICT = """
from google.protobuf import descriptor_pb2, descriptor_pool

def other_package():
    # What another package's stubs do: the same names, in protobuf's own pool, with other fields.
    for path, package, name in (
        ("fmaas.proto", "fmaas", "GenerationRequest"),
        ("generation.proto", "fmaas", "Parameters"),
        ("caikit/nlp_service.proto", "caikit.runtime.Nlp", "EmbeddingTaskRequest"),
        ("google/rpc/status.proto", "google.rpc", "Status"),
        ("grpc_service.proto", "inference", "ModelInferRequest"),
        ("inference.proto", "inference", "ServerLiveRequest"),
    ):
        file = descriptor_pb2.FileDescriptorProto(name=path, package=package, syntax="proto3")
        message = file.message_type.add(name=name)
        message.field.add(name="something_else", number=9, type=3, label=1)
        descriptor_pool.Default().AddSerializedFile(file.SerializeToString())

def own():
    from kserve_core.protos import messages
    request = messages.fmaas.GenerationRequest(text="x")
    assert request.SerializeToString() == b"\\x12\\x01x"
    messages.caikit_runtime_nlp.EmbeddingTaskRequest(text="x", truncate_input_tokens=-1)
    messages.google_rpc.Status(code=3)
    request = messages.inference.ModelInferRequest(model_name="m")
    assert request.SerializeToString() == b"\\x0a\\x01m"
    assert messages.inference.ServerLiveRequest().SerializeToString() == b""
    messages.google_protobuf.Struct().update({"a": [1, None, {"b": "c"}]})

def shared():
    from google.protobuf import struct_pb2
    value = struct_pb2.Struct()
    value.update({"a": 1})
    assert value["a"] == 1
"""


@pytest.mark.parametrize("order", ["other_package(); own(); shared()", "own(); shared(); other_package(); own()"])
@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_other_packages_may_register_the_same_names(order: str, implementation: str) -> None:
    python(f"{CONFLICT}\n{order}", PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation)


def test_nothing_is_put_into_the_shared_pool() -> None:
    code = (
        "from kserve_core.protos import messages; messages.fmaas.GenerationRequest; messages.inference.InferParameter\n"
        "from google.protobuf import descriptor_pool\n"
        "for name in ('fmaas.proto', 'caikit/nlp_service.proto', 'google_rpc.proto', 'inference.proto'):\n"
        "    try: descriptor_pool.Default().FindFileByName(name); print(name)\n"
        "    except KeyError: pass"
    )
    assert python(code) == ""


def test_importing_the_module_loads_no_protobuf() -> None:
    code = "import sys; from kserve_core.protos import messages; print('google.protobuf' in sys.modules)"
    assert python(code) == "False"


def test_a_message_reads_what_the_server_writes() -> None:
    # GenerationResponse of a streamed answer's last message: {generated_token_count: 3, text: "<think>",
    # stop_reason: MAX_TOKENS}, by the field numbers of the service.
    answer = messages.fmaas.GenerationResponse.FromString(b"\x10\x03\x22\x07<think>\x38\x01")
    assert (answer.generated_token_count, answer.text, answer.input_token_count) == (3, "<think>", 0)
    assert messages.fmaas.StopReason.Name(answer.stop_reason) == "MAX_TOKENS"
    assert answer.stop_reason == messages.fmaas.StopReason.MAX_TOKENS


def test_a_temperature_of_zero_is_sent_when_it_is_set() -> None:
    types = messages.fmaas
    assert types.SamplingParameters().SerializeToString() == b""
    assert types.SamplingParameters(temperature=0.0).SerializeToString() == b"\x0d\x00\x00\x00\x00"


def test_optional_fields_of_caikit_know_whether_they_are_set() -> None:
    request = messages.caikit_runtime_nlp.TextGenerationTaskRequest(text="x", top_k=0)
    assert request.HasField("top_k")
    assert not request.HasField("seed")
    with pytest.raises(ValueError, match="text"):
        request.HasField("text")


def test_documents_are_json_objects() -> None:
    document = messages.google_protobuf.Struct()
    document.update({"text": "x", "id": 7, "tags": ["a", None]})
    request = messages.caikit_runtime_nlp.RerankTaskRequest(query="q", documents=[document])
    copy = messages.caikit_runtime_nlp.RerankTaskRequest.FromString(request.SerializeToString())
    assert copy.documents[0]["id"] == 7.0
    assert list(copy.documents[0]["tags"]) == ["a", None]


def test_a_vector_says_how_it_is_held() -> None:
    types = messages.caikit_data_model_common
    vector = types.Vector1D(data_npfloat32sequence=types.NpFloat32Sequence(values=[0.5, 1.0]))
    assert vector.WhichOneof("data") == "data_npfloat32sequence"


@pytest.mark.parametrize("implementation", ["upb", "python"])
def test_nested_messages_are_attributes_of_their_message(implementation: str) -> None:
    code = (
        "from kserve_core.protos import messages\n"
        "types = messages.inference\n"
        "answer = types.ModelInferResponse(outputs=[types.ModelInferResponse.InferOutputTensor(name='y')])\n"
        "print(answer.outputs[0].name, messages.fmaas.DecodingParameters.StringChoices(choices=['a']).choices)"
    )
    assert python(code, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=implementation) == "y ['a']"


def test_names_that_are_not_there() -> None:
    with pytest.raises(AttributeError, match="Nothing"):
        messages.fmaas.Nothing  # noqa: B018
    with pytest.raises(AttributeError, match="nowhere"):
        messages.nowhere  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(KeyError):
        messages.get("fmaas.Nothing")


def test_get_gives_the_same_class_as_the_namespace() -> None:
    assert messages.get("fmaas.DecodingParameters.StringChoices") is messages.fmaas.DecodingParameters.StringChoices
    assert messages.get("fmaas.StopReason").Value("ERROR") == 7


@pytest.mark.parametrize("message", ["TextGenerationTaskRequest", "ServerStreamingTextGenerationTaskRequest"])
def test_numbers_and_types_of_caikits_parameters(message: str) -> None:
    # As the server's reflection shows them (1 text, then options with presence, stop_sequences repeated).
    shown = {
        field.name: (field.number, field.type)
        for field in messages.get(f"caikit.runtime.Nlp.{message}").DESCRIPTOR.fields
    }
    int64, double, string, boolean, nested, uint64 = 3, 1, 9, 8, 11, 4
    assert shown == {
        "text": (1, string),
        "max_new_tokens": (2, int64),
        "min_new_tokens": (3, int64),
        "truncate_input_tokens": (4, int64),
        "decoding_method": (5, string),
        "top_k": (6, int64),
        "top_p": (7, double),
        "typical_p": (8, double),
        "temperature": (9, double),
        "repetition_penalty": (10, double),
        "max_time": (11, double),
        "exponential_decay_length_penalty": (12, nested),
        "stop_sequences": (13, string),
        "seed": (14, uint64),
        "preserve_input_text": (15, boolean),
        "input_tokens": (16, boolean),
        "generated_tokens": (17, boolean),
        "token_logprobs": (18, boolean),
        "token_ranks": (19, boolean),
        "include_stop_sequence": (20, boolean),
    }


def test_an_inference_request_is_what_the_servers_read() -> None:
    # By the field numbers of the service: model_name 1, id 3, parameters 4 {key 1, value 2 {double_param 4}},
    # inputs 5 {name 1, datatype 2, shape 3 packed}, outputs 6 {name 1}, raw_input_contents 7.
    types = messages.inference
    request = types.ModelInferRequest(
        model_name="m",
        id="1",
        parameters={"t": types.InferParameter(double_param=0.5)},
        inputs=[types.ModelInferRequest.InferInputTensor(name="x", datatype="BYTES", shape=[-1, 1])],
        outputs=[types.ModelInferRequest.InferRequestedOutputTensor(name="y")],
        raw_input_contents=[b"\x02\x00\x00\x00hi"],
    )
    assert request.SerializeToString() == (
        b"\x0a\x01m\x1a\x011"
        b"\x22\x0e\x0a\x01t\x12\x09\x21\x00\x00\x00\x00\x00\x00\xe0\x3f"
        b"\x2a\x17\x0a\x01x\x12\x05BYTES\x1a\x0b" + b"\xff" * 9 + b"\x01\x01"
        b"\x32\x03\x0a\x01y"
        b"\x3a\x06\x02\x00\x00\x00hi"
    )


def test_an_inference_answer_reads_typed_contents_and_skips_what_it_does_not_know() -> None:
    # {model_name 1, outputs 5: {name 1, datatype 2, shape 3, contents 5: {fp32_contents 6, bytes_contents 8}},
    #  raw_output_contents 6}; field 99 and a field 40 inside the output are no server's.
    contents = b"\x32\x08\x00\x00\x80\x3f\x00\x00\x00\xbf" + b"\x42\x02hi"
    output = b"\x0a\x01y\x12\x04FP32\x1a\x01\x02\x2a\x0e" + contents + b"\xc2\x02\x01z"
    data = b"\x0a\x01m\x2a" + bytes([len(output)]) + output + b"\x32\x02ab" + b"\x9a\x06\x01z"
    answer = messages.inference.ModelInferResponse.FromString(data)
    assert answer.model_name == "m"
    [tensor] = answer.outputs
    assert (tensor.name, tensor.datatype, list(tensor.shape)) == ("y", "FP32", [2])
    assert list(tensor.contents.fp32_contents) == [1.0, -0.5]
    assert list(tensor.contents.bytes_contents) == [b"hi"]
    assert list(answer.raw_output_contents) == [b"ab"]


def test_a_bare_stream_message_read_as_the_wrapped_one_shows_the_model_name_as_an_error() -> None:
    # Why the stream's form is chosen by the runtime: nothing in the bytes tells them apart.
    bare = messages.inference.ModelInferResponse(model_name="gen")
    wrapped = messages.inference.ModelStreamInferResponse.FromString(bare.SerializeToString())
    assert wrapped.error_message == "gen"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ModelReadyRequest", {"name": 1, "version": 2}),
        ("ServerMetadataResponse", {"name": 1, "version": 2, "extensions": 3}),
        ("ModelMetadataResponse", {"name": 1, "versions": 2, "platform": 3, "inputs": 4, "outputs": 5}),
        ("ModelMetadataResponse.TensorMetadata", {"name": 1, "datatype": 2, "shape": 3, "parameters": 4}),
        ("ModelStreamInferResponse", {"error_message": 1, "infer_response": 2}),
        ("ModelConfigResponse", {"config": 1}),
        (
            "ModelConfig",
            {
                "name": 1,
                "platform": 2,
                "max_batch_size": 4,
                "input": 5,
                "backend": 17,
                "model_transaction_policy": 19,
            },
        ),
        ("ModelConfig.Input", {"name": 1, "optional": 8}),
        ("ModelConfig.TransactionPolicy", {"decoupled": 1}),
        ("RepositoryIndexRequest", {"repository_name": 1, "ready": 2}),
        ("RepositoryIndexResponse.ModelIndex", {"name": 1, "version": 2, "state": 3, "reason": 4}),
        ("RepositoryModelLoadRequest", {"repository_name": 1, "model_name": 2, "parameters": 3}),
        ("RepositoryModelUnloadRequest", {"repository_name": 1, "model_name": 2, "parameters": 3}),
        ("KServeRepositoryModelLoadRequest", {"model_name": 1}),
        ("KServeRepositoryModelUnloadResponse", {"model_name": 1, "is_unloaded": 2}),
        (
            "InferParameter",
            {"bool_param": 1, "int64_param": 2, "string_param": 3, "double_param": 4, "uint64_param": 5},
        ),
        (
            "InferTensorContents",
            {
                "bool_contents": 1,
                "int_contents": 2,
                "int64_contents": 3,
                "uint_contents": 4,
                "uint64_contents": 5,
                "fp32_contents": 6,
                "fp64_contents": 7,
                "bytes_contents": 8,
            },
        ),
    ],
)
def test_numbers_of_the_inference_protocol(name: str, fields: dict[str, int]) -> None:
    shown = {field.name: field.number for field in messages.get(f"inference.{name}").DESCRIPTOR.fields}
    assert shown == fields


def test_the_stubs_name_every_message() -> None:
    """Type checkers see all that is there: each message and enum of the descriptor set has a class in a stub."""
    from google.protobuf import descriptor_pb2

    folder = ROOT / "core" / "kserve_core" / "protos"
    descriptors = descriptor_pb2.FileDescriptorSet()
    descriptors.ParseFromString((folder / messages.DESCRIPTORS).read_bytes())

    def names(items: Any) -> Any:
        for item in items:
            if not (hasattr(item, "options") and getattr(item.options, "map_entry", False)):
                yield item.name
                yield from names(getattr(item, "nested_type", ()))

    for file in descriptors.file:
        stub = folder / "_types" / f"{file.package.replace('.', '_').lower()}.pyi"
        for name in names([*file.message_type, *file.enum_type]):
            assert f"class {name}(" in stub.read_text("utf-8")
