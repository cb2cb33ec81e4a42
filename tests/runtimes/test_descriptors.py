"""Our messages against those of the real servers, as their reflection services or their packages describe them.

Every field must have the number, type and presence that the server gives it, and every field the server has must be
known here, so that a new one is noticed. Of the Open Inference Protocol, of which each server has a description of its
own, the differences are written down here.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from targets import get_target, real_targets

from kserve_core.protos import messages

# What is asked of a reflection service here: (message, field, number, type, repeated).
REFLECTION = (
    ("Request", "file_containing_symbol", 4, "string", False),
    ("Files", "file_descriptor_proto", 1, "bytes", True),
    ("Answer", "file_descriptor_response", 4, "Files", False),
)
SERVICES = [
    pytest.param("tgis", "fmaas.GenerationService", marks=pytest.mark.runtime("tgis")),
    pytest.param("caikit", "caikit.runtime.Nlp.NlpService", marks=pytest.mark.runtime("caikit")),
    pytest.param("caikit", "caikit.runtime.info.InfoService", marks=pytest.mark.runtime("caikit")),
]
# Tasks of Caikit that this package has nothing to do with.
OTHER_TASKS = ("TextClassification", "TokenClassification", "BidiStreaming")


def reflection_messages() -> tuple[Any, Any]:
    """The two message classes for asking a server about a symbol."""
    file = descriptor_pb2.FileDescriptorProto(name="reflection_for_tests.proto", package="asked", syntax="proto3")
    fields = descriptor_pb2.FieldDescriptorProto
    for name, field, number, kind, repeated in REFLECTION:
        added = file.message_type.add(name=name).field.add(name=field, number=number)
        added.label = fields.LABEL_REPEATED if repeated else fields.LABEL_OPTIONAL
        if kind in {"string", "bytes"}:
            added.type = fields.TYPE_STRING if kind == "string" else fields.TYPE_BYTES
        else:
            added.type, added.type_name = fields.TYPE_MESSAGE, f".asked.{kind}"
    pool = DescriptorPool()
    pool.Add(file)
    request, answer = (GetMessageClass(pool.FindMessageTypeByName(f"asked.{name}")) for name in ("Request", "Answer"))
    return request, answer


def described(base_url: str, symbol: str) -> DescriptorPool:
    """All that a server's description of a symbol rests on."""
    request, answer = reflection_messages()
    with grpc.insecure_channel(base_url.removeprefix("grpc://")) as channel:
        ask = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=request.SerializeToString,
            response_deserializer=answer.FromString,
        )
        (found,) = ask(iter([request(file_containing_symbol=symbol)]), timeout=30)
    files = [
        descriptor_pb2.FileDescriptorProto.FromString(data)
        for data in found.file_descriptor_response.file_descriptor_proto
    ]
    pool = DescriptorPool()
    waiting = {file.name: file for file in files}
    while waiting:
        ready = [file for file in waiting.values() if not waiting.keys() & set(file.dependency)]
        for file in ready:
            pool.Add(waiting.pop(file.name))
    return pool


def shape(field: FieldDescriptor) -> tuple[Any, ...]:
    """What of a field is on the wire, or in the hands of whoever reads it."""
    kind = field.message_type or field.enum_type
    return (field.name, field.type, kind.full_name if kind else None, field.is_repeated, field.has_presence)


def compare(ours: Descriptor, theirs: Descriptor, seen: set[str]) -> None:
    """Goes through a message and all that it holds."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    known = {number: shape(field) for number, field in ours.fields_by_number.items()}
    assert known == {number: shape(field) for number, field in theirs.fields_by_number.items()}, ours.full_name
    for number, field in ours.fields_by_number.items():
        other = theirs.fields_by_number[number]
        if field.message_type is not None:
            compare(field.message_type, other.message_type, seen)
        if field.enum_type is not None:
            assert values(field.enum_type) == values(other.enum_type), field.enum_type.full_name


def values(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values}


@pytest.mark.parametrize(("runtime", "service"), SERVICES)
def test_the_servers_have_the_same_messages(runtime, service):
    where = get_target(runtime).servers["plain"]
    pool = described(where["base_url" if runtime == "tgis" else "grpc"], service)
    seen: set[str] = set()
    for method in pool.FindServiceByName(service).methods:
        if method.name.startswith(OTHER_TASKS):
            continue
        for theirs in (method.input_type, method.output_type):
            compare(messages.get(theirs.full_name).DESCRIPTOR, theirs, seen)
    assert len(seen) > 5 or service.endswith("InfoService")


# Prints the descriptions of a module's messages and of all they rest on, those first.
PRINT_FILES = """
import base64, importlib, json, sys
found = {}
def add(file):
    for other in file.dependencies:
        add(other)
    found.setdefault(file.name, base64.b64encode(file.serialized_pb).decode())
add(importlib.import_module(sys.argv[1]).DESCRIPTOR)
print(json.dumps(list(found.values())))
"""
ONLY_TRITON = {
    "only ours: inference.InferParameter.double_param",
    "only ours: inference.InferParameter.uint64_param",
}
ONLY_MLSERVER = "only ours: inference.ModelMetadataResponse.TensorMetadata.parameters"
DESCRIPTIONS = [
    # The package is installed beside KServe's SDK. Of a model's configuration only a part is read.
    ("kserve", "tritonclient.grpc.service_pb2", {ONLY_MLSERVER}, ("inference.ModelConfig", "inference.ModelInput")),
    (
        "mlserver",
        "mlserver.grpc.dataplane_pb2",
        {*ONLY_TRITON, "only theirs: inference.ModelMetadataResponse.parameters"},
        (),
    ),
    ("kserve", "kserve.protocol.grpc.grpc_predict_v2_pb2", {*ONLY_TRITON, ONLY_MLSERVER}, ()),
]
# What Triton has methods for and this package has not, and what KServe has other messages for.
OTHER_CALLS = ("ModelStatistics", "SystemSharedMemory", "CudaSharedMemory", "TraceSetting", "LogSettings")
KSERVE_OWN = ("RepositoryModelLoad", "RepositoryModelUnload")


def installed(python: str, module: str) -> tuple[DescriptorPool, str]:
    """A pool with the messages of a module of another environment, and its package's name."""
    command = [python, "-c", PRINT_FILES, module]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    pool, package = DescriptorPool(), ""
    for data in json.loads(printed.splitlines()[-1]):
        file = descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(data))
        pool.Add(file)
        package = file.package
    return pool, package


def differences(ours: Descriptor, theirs: Descriptor, seen: set[str]) -> Iterator[str]:
    """What is not the same in two messages and all that they hold."""
    if ours.full_name in seen:
        return
    seen.add(ours.full_name)
    for number, field in ours.fields_by_number.items():
        other = theirs.fields_by_number.get(number)
        if other is None:
            yield f"only ours: {field.full_name}"
        elif told(field) != told(other):
            yield f"differs: {field.full_name}"
        elif field.message_type is not None:
            yield from differences(field.message_type, other.message_type, seen)
    for number, field in theirs.fields_by_number.items():
        if number not in ours.fields_by_number:
            yield f"only theirs: {field.full_name}"


def told(field: FieldDescriptor) -> tuple[Any, ...]:
    """What of a field is on the wire, and its name, however its words are joined."""
    return (field.name.replace("_", "").lower(), field.type, field.is_repeated)


@pytest.mark.parametrize(
    ("runtime", "module", "expected", "partly"),
    [pytest.param(*row, id=row[1].partition(".")[0]) for row in DESCRIPTIONS if row[0] in (real_targets() or {})],
)
def test_the_open_inference_protocol_as_each_server_has_it(runtime, module, expected, partly):
    pool, package = installed((real_targets() or {})[runtime]["servers"]["python"], module)
    seen: set[str] = set()
    found: set[str] = set()
    for method in pool.FindServiceByName(f"{package}.GRPCInferenceService").methods:
        own = "KServe" if module.startswith("kserve.") and method.name.startswith(KSERVE_OWN) else ""
        if method.name.startswith(OTHER_CALLS):
            continue
        for theirs in (method.input_type, method.output_type):
            ours = messages.get(f"inference.{own}{theirs.name}").DESCRIPTOR
            found.update(differences(ours, theirs, seen))
    left = {one for one in found if not (one.startswith("only theirs") and one.partition(": ")[2].startswith(partly))}
    assert left == expected
    assert len(seen) > 15
