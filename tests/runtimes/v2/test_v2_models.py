"""What real servers tell about themselves and their models, over REST and gRPC."""

from __future__ import annotations

import pytest
from runtimes.v2.clients import EVERYWHERE, pairs

from kserve_core.errors import ConfigurationError, ModelNotFoundError

NAMES = {
    "triton": ("triton", "2.51.0"),
    "mlserver": ("mlserver", "1.7.1"),
    "kserve": ("kserve", "0.21.0"),
}


@pytest.mark.parametrize("where", EVERYWHERE)
def test_the_server(tensors, where):
    client = tensors(*where)
    found = client.server_metadata()
    assert (found.name, found.version) == NAMES[where[0]]
    assert client.is_server_live()
    assert client.is_server_ready()


@pytest.mark.parametrize("where", EVERYWHERE)
def test_a_model(tensors, where):
    client = tensors(*where)
    found = client.model_metadata("rerank")
    assert [(one.name, one.datatype, one.shape) for one in found.inputs][:2] == [
        ("query", "BYTES", (-1,)),
        ("passage", "BYTES", (-1,)),
    ]
    assert [(one.name, one.datatype, one.shape) for one in found.outputs] == [("score", "FP32", (-1, 1))]
    assert client.is_model_ready("rerank")
    assert not client.is_model_ready("nobody")


@pytest.mark.parametrize("where", pairs("triton"))
def test_what_a_configuration_tells(connect, where):
    client = connect(*where)
    wide = client.run(client.runtime.describe_model("embed_wide"))
    assert wide.max_batch_size == 64
    assert not wide.decoupled
    speaker = client.run(client.runtime.describe_model("tiny"))
    assert speaker.decoupled
    assert {one.name for one in speaker.inputs if not one.optional} == {"text_input"}


@pytest.mark.parametrize("where", pairs("triton", "mlserver"))
def test_versions(tensors, where):
    client = tensors(*where)
    for version in (1, 2, 7):
        found = client.infer({"text": ["a"]}, model="versioned", model_version=version)
        assert found.texts("text_output") == [f"v{version}:a"]
        assert found.version == str(version)
        assert client.is_model_ready("versioned", version)
    assert client.infer({"text": ["a"]}, model="versioned").texts("text_output") == ["v7:a"]
    with pytest.raises(ModelNotFoundError):
        client.infer({"text": ["a"]}, model="versioned", model_version=9)
    assert not client.is_model_ready("versioned", 9)


@pytest.mark.parametrize("where", pairs("triton", "mlserver"))
def test_the_repository(tensors, where):
    found = tensors(*where).repository_index()
    assert {(one.name, one.version) for one in found if one.name == "versioned"} == {
        ("versioned", version) for version in "127"
    }
    assert {one.state.removeprefix("State.") for one in found if one.name == "versioned"} == {"READY"}
    if where[0] == "triton":
        (broken,) = (one for one in found if one.name == "broken")
        assert broken.state == "UNAVAILABLE"
        assert "never loads" in broken.reason


@pytest.mark.parametrize("where", [one for one in EVERYWHERE if one.id != "kserve-grpc"])
def test_all_models_by_name(connect, where):
    client = connect(*where)
    names = {one.id for one in client.run(client.runtime.models())}
    assert {"embed", "rerank", "tiny", "echo_types"} <= names


@pytest.mark.parametrize("where", EVERYWHERE)
def test_no_model_where_there_are_several(connect, where):
    client = connect(*where)
    with pytest.raises(ConfigurationError, match="model"):
        client.run(client.runtime.resolve_model())


@pytest.mark.parametrize("where", EVERYWHERE)
def test_health(connect, where):
    for model, healthy in ((None, True), ("embed", True), ("nobody", False)):
        client = connect(*where, model=model)
        assert client.run(client.runtime.health()) is healthy
