"""The engine dies in the middle of an answer. Runs last: the server behind TLS does not come back."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from runtimes.engine import engine_of

from kserve_core.errors import EndpointConnectionError, KServeError, ServerError, StreamInterrupted


@pytest.mark.skipif(sys.platform != "linux", reason="finds the engine by its process title")
def test_an_engine_that_dies_in_the_middle_of_a_stream(secure, vllm, ask):
    request = ask("Think: what is two plus two?", params={"ignore_eos": True, "max_tokens": 3500})
    stream = secure.stream(secure.runtime.stream_chat(request))
    got = ""
    while "answer" not in got:
        got += next(stream).content
    os.kill(engine_of(vllm.servers["secure"]["pid"]), signal.SIGKILL)
    with pytest.raises((StreamInterrupted, ServerError)) as caught:
        list(stream)
    assert caught.value.retryable
    assert caught.value.partial_text.startswith(got)
    with pytest.raises((ServerError, EndpointConnectionError)) as after:
        secure.run(secure.runtime.chat(ask("Say hello.")))
    assert isinstance(after.value, KServeError)
