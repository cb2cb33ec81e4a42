"""The call values: frozen, and silent about what they carry."""

from __future__ import annotations

import dataclasses

import pytest

from kserve_core.calls import Call, Response, StreamCall
from tests.unit.core.scripted import TextDecoder, get, post, streaming


@pytest.mark.parametrize("call", [post(headers={"x-key": "canary"}), streaming(headers={"x-key": "canary"})])
def test_calls_show_neither_body_nor_headers(call: Call[object] | StreamCall[str]) -> None:
    assert "secret words" not in repr(call)
    assert "canary" not in repr(call)
    assert call.path in repr(call)


def test_answers_do_not_show_their_content() -> None:
    assert repr(Response(200, {"set-cookie": "canary"}, b"private")) == "Response(status=200)"


def test_calls_are_frozen_and_copied_with_changes() -> None:
    call = get("/a")
    with pytest.raises(dataclasses.FrozenInstanceError):
        call.path = "/b"  # type: ignore[misc]
    assert dataclasses.replace(call, path="/b").path == "/b"


def test_a_stream_call_makes_a_decoder_for_every_run() -> None:
    call = streaming()
    first, second = call.decoder(), call.decoder()
    assert isinstance(first, TextDecoder)
    assert first is not second
