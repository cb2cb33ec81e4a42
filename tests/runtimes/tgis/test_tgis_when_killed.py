"""The engine dies in the middle of answers, direct ones and one by way of Caikit. Runs last: it does not come back."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from runtimes.engine import engine_of
from runtimes.prompts import ENDLESS, ask
from targets import real_targets

from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.errors import EndpointConnectionError, KServeError, ServerError, StreamInterrupted
from kserve_core.runtimes.caikit import CaikitRuntime

REQUEST = ask("Say hello.", params=ENDLESS)


@pytest.fixture
def chains(servers):
    """Caikit's server that has the same TGIS server behind it, over REST and gRPC."""
    caikit = (real_targets() or {}).get("caikit", {}).get("servers", {}).get("secure", {})
    trust = {"ca_cert": servers["ca_cert"], "client_cert": tuple(servers["client_cert"])}
    made = []
    for protocol, base_url in caikit.items():
        endpoint = Endpoint.create(base_url, max_retries=0, **trust)
        made.append(RuntimeClient(endpoint, CaikitRuntime(model="tiny", protocol=protocol)))
    yield made
    for client in made:
        client.close()


@pytest.mark.skipif(sys.platform != "linux", reason="finds the engine by its process title")
def test_an_engine_that_dies_in_the_middle_of_streams(secure, chains, servers):
    clients = [secure, *chains]
    streams = [client.stream(client.runtime.stream_generate(REQUEST)) for client in clients]
    engine = engine_of(servers["secure"]["pid"])
    begun = []
    for stream in streams:
        text = ""
        while not text:
            text += next(stream).text
        begun.append(text)
    os.kill(engine, signal.SIGKILL)
    interrupted = []
    for stream, text in zip(streams, begun, strict=True):
        try:
            rest = list(stream)
        except (StreamInterrupted, ServerError, EndpointConnectionError) as error:
            interrupted.append((error, text))
        else:  # the engine was done with it already: then it is a whole answer
            assert rest[-1].finish_reason == "length"
    assert interrupted
    for error, text in interrupted:
        assert error.retryable
        assert error.partial_text.startswith(text)
    for client in clients:
        with pytest.raises((ServerError, EndpointConnectionError)) as after:
            client.run(client.runtime.generate(ask("Say hello.")))
        assert isinstance(after.value, KServeError)
        assert after.value.retryable
