"""What a gRPC call does on the wire: blocking and async, whole answers and streams."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from contextlib import aclosing, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from kserve_core.calls import GrpcFailure, Parallel
from kserve_core.client import RuntimeClient
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    ConfigurationError,
    EndpointConnectionError,
    EndpointTimeoutError,
    InvalidRequestError,
    KServeError,
    NotReadyError,
    ServerError,
    StreamIdleError,
    StreamInterrupted,
)
from kserve_core.grpc_transport import GrpcTransport
from tests.unit.core.grpc_scripted import (
    END,
    GrpcServer,
    abort,
    count_call,
    free_port,
    piece,
    raised,
    stream_call,
    tokens,
)

TOKEN = "sha256~canary-token-that-must-not-leak"
CORE = Path(__file__).parents[3] / "core"


def transport(server: GrpcServer, **options: Any) -> GrpcTransport:
    return GrpcTransport(Endpoint.create(server.url, **options))


def run(mode: str, transport: GrpcTransport, call: Any) -> Any:
    if mode == "sync":
        return transport.run(call)
    return asyncio.run(transport.arun(call))


def collect(mode: str, transport: GrpcTransport, call: Any) -> list[Any]:
    if mode == "sync":
        return list(transport.stream(call))

    async def pieces() -> list[Any]:
        async with aclosing(transport.astream(call)) as stream:
            return [piece async for piece in stream]

    return asyncio.run(pieces())


def count(_: bytes, __: Any, number: int) -> bytes:
    return tokens(number)


def words(*texts: str | float) -> Any:
    """A stream of texts; a number is a pause in seconds."""

    def answer(_: bytes, __: Any, ___: int) -> Any:
        for text in texts:
            if isinstance(text, float):
                time.sleep(text)
            else:
                yield piece(text)

    return answer


@pytest.fixture(params=["sync", "async"])
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(autouse=True)
def quick_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries at a tenth of the usual delays."""
    from kserve_core import retry, transport_base

    def policy(**limits: Any) -> retry.RetryPolicy:
        return retry.RetryPolicy(first_delay=0.02, longest_delay=0.1, **limits)

    monkeypatch.setattr(transport_base, "RetryPolicy", policy)


# What is sent


def test_call_carries_message_token_and_headers_as_metadata(mode: str) -> None:
    with GrpcServer(count) as server:
        client = transport(server, api_key=TOKEN, default_headers={"X-Team": "blue", "Accept": "application/json"})
        assert run(mode, client, count_call("hi", metadata={"mm-model-id": "minilm"})) == 1
    seen = server.calls[0]
    assert seen.method == "/fmaas.GenerationService/Tokenize"
    assert seen.body == count_call("hi").request.SerializeToString()
    assert seen.metadata.pop("user-agent").startswith("kserve-integrations/")
    assert seen.metadata == {"authorization": f"Bearer {TOKEN}", "x-team": "blue", "mm-model-id": "minilm"}


def test_metadata_of_a_call_wins_over_default_headers(mode: str) -> None:
    with GrpcServer(count) as server:
        run(mode, transport(server, default_headers={"X-Id": "default"}), count_call(metadata={"x-id": "own"}))
    assert server.calls[0].metadata["x-id"] == "own"
    assert "authorization" not in server.calls[0].metadata


@pytest.mark.parametrize("headers", [{"x-name": "Jürgen"}, {"x-trace-bin": "00"}, {"grpc-timeout": "1S"}, {"x!": "1"}])
def test_headers_that_metadata_cannot_carry_are_refused_before_anything_is_sent(headers: dict[str, str]) -> None:
    with GrpcServer(count) as server:
        error = raised(lambda: transport(server, default_headers=headers).run(count_call()))
        assert isinstance(error, ConfigurationError)
        assert next(iter(headers)) in error.message
        assert server.calls == []


def test_a_host_header_becomes_the_authority() -> None:
    authorities = []

    def answer(_: bytes, context: Any, __: int) -> bytes:
        authorities.append(context._rpc_event.call_details.host)
        return tokens(1)

    with GrpcServer(answer) as server:
        transport(server, default_headers={"Host": "model.example.com"}).run(count_call())
    assert authorities == [b"model.example.com"]


def test_the_token_never_goes_unencrypted_to_another_host() -> None:
    with pytest.raises(ConfigurationError, match="unencrypted"):
        Endpoint.create("grpc://model.example.com:8033", api_key=TOKEN)
    for url in ("grpc://m-predictor.ns.svc.cluster.local:8033", "grpc://127.0.0.1:8033", "grpcs://model.example.com"):
        assert Endpoint.create(url, api_key=TOKEN).sends_credentials
    assert Endpoint.create("grpc://model.example.com:8033", api_key=TOKEN, allow_insecure_token=True).sends_credentials


def test_urls_and_where_they_connect_to() -> None:
    targets = {
        "grpc://127.0.0.1:8033": "dns:///127.0.0.1:8033",
        "grpcs://model.example.com": "dns:///model.example.com:443",
        "https://model.example.com": "dns:///model.example.com:443",
        "http://[::1]:8085/": "dns:///[::1]:8085",
    }
    for url, target in targets.items():
        assert Endpoint.create(url).grpc_target == target
    assert Endpoint.create("grpcs://m.example.com:8443").base_url == "grpcs://m.example.com:8443"
    with pytest.raises(ConfigurationError, match="path"):
        GrpcTransport(Endpoint.create("https://model.example.com/v1"))
    with pytest.raises(ConfigurationError, match="path"):
        Endpoint.create("grpcs://model.example.com/v1")


def test_a_grpc_url_is_not_used_for_rest() -> None:
    from tests.unit.core.scripted import get

    client = RuntimeClient(Endpoint.create("grpc://127.0.0.1:1"), None)
    with pytest.raises(ConfigurationError, match="REST"):
        client.run(get("/info/models"))


# Tokens


def test_a_refused_token_is_asked_for_once_more(mode: str) -> None:
    given = iter(["old", "new", "newer"])

    def answer(request: bytes, context: Any, number: int) -> Any:
        if dict(context.invocation_metadata())["authorization"] == "Bearer old":
            return abort("UNAUTHENTICATED", "expired")(request, context, number)
        return tokens(7)

    with GrpcServer(answer) as server:
        assert run(mode, transport(server, api_key=lambda: next(given)), count_call()) == 7
    assert [seen.metadata["authorization"] for seen in server.calls] == ["Bearer old", "Bearer new"]


def test_a_fixed_token_is_sent_once(mode: str) -> None:
    with GrpcServer(abort("UNAUTHENTICATED", f"token {TOKEN} is not known")) as server:
        error = raised(lambda: run(mode, transport(server, api_key=TOKEN), count_call()))
    assert isinstance(error, AuthenticationError)
    assert (error.status, error.attempts, error.layer, len(server.calls)) == (401, 1, "auth proxy", 1)
    assert TOKEN not in repr(error.details()) + str(error) + repr(error.__cause__) + repr(error.__context__)
    assert "token *** is not known" in error.message


# Limits


def test_the_time_budget_is_told_to_the_server_and_kept(mode: str) -> None:
    over = threading.Event()

    def answer(_: bytes, __: Any, number: int) -> bytes:
        if number > 1:
            over.wait(60)
        return tokens(1)

    with GrpcServer(answer) as server:
        client = transport(server, timeout=2.0)

        async def main() -> None:
            await client.arun(count_call())
            await client.arun(count_call())

        def work() -> None:
            if mode == "async":
                asyncio.run(main())
            else:
                client.run(count_call())
                client.run(count_call())

        error = raised(work)
        over.set()
    assert isinstance(error, EndpointTimeoutError)
    assert not isinstance(error, EndpointConnectionError)
    assert [0 < seen.seconds_left < 3.0 for seen in server.calls] == [True, True]


def test_a_calls_own_deadline_comes_before_the_budget(mode: str) -> None:
    with GrpcServer(count) as server:
        run(mode, transport(server, timeout=1000), replace(count_call(), deadline=Deadline.after(500)))
    assert 0 < server.calls[0].seconds_left <= 500


def test_no_time_budget_means_no_deadline(mode: str) -> None:
    with GrpcServer(count) as server:
        run(mode, transport(server, timeout=None), count_call())
    assert server.calls[0].seconds_left > 1e9


def test_messages_may_be_larger_than_four_mebibytes(mode: str) -> None:
    def answer(request: bytes, _: Any, __: int) -> bytes:
        return tokens(len(request)) + b"\x0a\x00" * 3_000_000

    with GrpcServer(answer) as server:
        assert run(mode, transport(server), count_call("x" * 6_000_000)) > 6_000_000


# Retries


def test_a_server_that_is_unavailable_is_asked_again(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        return tokens(5) if number == 3 else abort("UNAVAILABLE", "try later")(request, context, number)

    with GrpcServer(answer) as server:
        assert run(mode, transport(server), count_call()) == 5
        assert len(server.calls) == 3


@pytest.mark.parametrize(("options", "call"), [({"max_retries": 0}, {}), ({}, {"retry": False})])
def test_a_call_that_is_sent_once_is_sent_once(mode: str, options: dict[str, Any], call: dict[str, Any]) -> None:
    with GrpcServer(abort("UNAVAILABLE", "try later")) as server:
        error = raised(lambda: run(mode, transport(server, **options), count_call(**call)))
    assert isinstance(error, ServerError)
    assert (error.attempts, len(server.calls)) == (1, 1)


def test_what_cannot_work_later_is_not_sent_again(mode: str) -> None:
    with GrpcServer(abort("INVALID_ARGUMENT", "top_p must be > 0")) as server:
        error = raised(lambda: run(mode, transport(server), count_call()))
    assert isinstance(error, InvalidRequestError)
    assert error.message == "INVALID_ARGUMENT: top_p must be > 0"
    assert len(server.calls) == 1


def test_a_model_that_is_being_loaded_is_waited_for(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        return tokens(1) if number == 6 else abort("UNAVAILABLE", "Model m is not ready yet")(request, context, number)

    with GrpcServer(answer) as server:
        assert run(mode, transport(server), count_call()) == 1
        assert len(server.calls) == 6


def test_waiting_for_a_model_ends_with_the_time_budget(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        trailing = {"retry_after": "400"} if number == 5 else {}
        return abort("UNAVAILABLE", "Model m is not ready yet", **trailing)(request, context, number)

    with GrpcServer(answer) as server:
        error = raised(lambda: run(mode, transport(server, timeout=300), count_call()))
    assert isinstance(error, NotReadyError)
    assert error.attempts == len(server.calls) == 5


def test_a_refused_connection_is_tried_as_often_as_over_rest(mode: str) -> None:
    endpoint = Endpoint.create(f"grpc://127.0.0.1:{free_port()}", max_retries=3)
    error = raised(lambda: run(mode, GrpcTransport(endpoint), count_call()))
    assert isinstance(error, EndpointConnectionError)
    assert "refused" in error.message
    assert error.attempts == 4


def test_a_server_that_comes_back_is_found_again(mode: str) -> None:
    port = free_port()
    client = GrpcTransport(Endpoint.create(f"grpc://127.0.0.1:{port}", max_retries=40))

    async def both() -> list[int]:
        call = client.run if mode == "sync" else None
        loop = asyncio.get_running_loop()
        results = []
        for _ in range(2):
            with GrpcServer(count, port=port):
                results.append(
                    await (loop.run_in_executor(None, call, count_call()) if call else client.arun(count_call()))
                )
        return results

    assert asyncio.run(both()) == [1, 1]


# Streams


def test_a_stream_gives_its_pieces(mode: str) -> None:
    with GrpcServer(words("a", "b", "c", END)) as server:
        assert collect(mode, transport(server), stream_call()) == ["a", "b", "c"]
        assert server.ended.wait(5)


def test_a_stream_that_ends_well_is_not_seen_as_cancelled(mode: str) -> None:
    active = []

    def answer(_: bytes, context: Any, __: int) -> Any:
        yield piece("a")
        yield piece(END)
        time.sleep(0.1)
        active.append(context.is_active())

    with GrpcServer(answer) as server:
        assert collect(mode, transport(server), stream_call()) == ["a"]
        assert server.ended.wait(5)
    assert active == [True]


def test_a_stream_without_its_end_marker_is_no_answer(mode: str) -> None:
    with GrpcServer(words("a", "b")) as server:
        error = raised(lambda: collect(mode, transport(server), stream_call()))
    assert isinstance(error, StreamInterrupted)
    assert (error.partial_text, error.attempts, len(server.calls)) == ("ab", 1, 1)


def test_a_status_in_the_middle_carries_the_text_so_far_and_is_not_retried(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        yield piece("half")
        time.sleep(0.05)
        abort("UNAVAILABLE", "The backend went away")(request, context, number)

    with GrpcServer(answer) as server:
        error = raised(lambda: collect(mode, transport(server), stream_call()))
        assert isinstance(error, ServerError)
        assert error.partial_text == "half"
        assert error.server_message == "The backend went away"
        assert len(server.calls) == 1


def test_a_server_that_dies_in_the_middle_interrupts_the_stream(mode: str) -> None:
    with GrpcServer(words("half", 30.0)) as server:
        client = transport(server)
        threading.Timer(0.3, server._server.stop, (0,)).start()
        error = raised(lambda: collect(mode, client, stream_call()))
    assert isinstance(error, StreamInterrupted)
    assert error.partial_text == "half"
    assert not isinstance(error, StreamIdleError)


def test_an_error_before_the_first_message_is_retried(mode: str) -> None:
    def answer(request: bytes, context: Any, number: int) -> Any:
        if number < 3:
            abort("RESOURCE_EXHAUSTED", "Model is overloaded")(request, context, number)
        yield piece("a")
        yield piece(END)

    with GrpcServer(answer) as server:
        assert collect(mode, transport(server), stream_call()) == ["a"]
        assert len(server.calls) == 3


def test_the_first_message_must_come_within_the_time_budget(mode: str) -> None:
    with GrpcServer(words(3.0, "a", END)) as server:
        error = raised(lambda: collect(mode, transport(server, timeout=1.0), stream_call()))
        assert type(error) is EndpointTimeoutError
        assert server.ended.wait(5)


def test_a_stream_may_take_longer_than_the_time_budget(mode: str) -> None:
    with GrpcServer(words(*["a", 0.3] * 5, END)) as server:
        assert collect(mode, transport(server, timeout=1.0), stream_call()) == ["a"] * 5


def test_a_silent_stream_is_ended(mode: str) -> None:
    with GrpcServer(words("a", 10.0, END)) as server:
        error = raised(lambda: collect(mode, transport(server, idle_timeout=0.3), stream_call()))
        assert isinstance(error, StreamIdleError)
        assert error.partial_text == "a"
        assert server.ended.wait(5)


def test_the_time_a_reader_takes_is_not_silence(mode: str) -> None:
    with GrpcServer(words("a", "b", "c", END)) as server:
        client = transport(server, idle_timeout=0.2)
        if mode == "sync":
            pieces = []
            for text in client.stream(stream_call()):
                time.sleep(0.5)
                pieces.append(text)
        else:

            async def slow() -> list[str]:
                found = []
                async for text in client.astream(stream_call()):
                    await asyncio.sleep(0.5)
                    found.append(text)
                return found

            pieces = asyncio.run(slow())
    assert pieces == ["a", "b", "c"]


def test_leaving_a_stream_cancels_the_call(mode: str) -> None:
    with GrpcServer(words(*["a", 0.01] * 10_000)) as server:
        client = transport(server)
        if mode == "sync":
            with closing(client.stream(stream_call())) as stream:
                assert next(stream) == "a"
                assert not server.ended.is_set()
            assert server.ended.wait(5)
        else:

            async def leave() -> None:
                async with aclosing(client.astream(stream_call())) as stream:
                    assert await stream.__anext__() == "a"
                    assert not server.ended.is_set()
                assert await asyncio.to_thread(server.ended.wait, 5)

            asyncio.run(leave())


@pytest.mark.parametrize("streamed", [True, False])
def test_cancelling_a_task_cancels_the_call(streamed: bool) -> None:
    def slow(_: bytes, __: Any, ___: int) -> bytes:
        time.sleep(3)
        return tokens(1)

    with GrpcServer(words("a", 10.0) if streamed else slow) as server:
        client = transport(server)

        async def cancel() -> None:
            async def work() -> None:
                if streamed:
                    async for _ in client.astream(stream_call()):
                        pass
                else:
                    await client.arun(count_call())

            task = asyncio.ensure_future(work())
            while not server.calls:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.to_thread(server.ended.wait, 2)

        asyncio.run(cancel())


def test_streams_that_were_left_are_not_watched_any_more() -> None:
    from kserve_core.grpc_streams import WATCHDOG

    with GrpcServer(words(*["a", 0.01] * 1000)) as server:
        client = transport(server)
        for _ in range(10):
            with closing(client.stream(stream_call())) as stream:
                next(stream)
        assert WATCHDOG.watched == 0


# Answers


def test_an_answer_of_another_type_is_not_understood(mode: str) -> None:
    with GrpcServer(lambda *_: b"\xff\xff\xff") as server:
        error = raised(lambda: run(mode, transport(server), count_call()))
    assert isinstance(error, BadResponseError)
    assert "/fmaas.GenerationService/Tokenize" in error.message


def test_a_reader_that_fails_is_an_answer_not_understood(mode: str) -> None:
    with GrpcServer(lambda *_: b"") as server:
        assert isinstance(raised(lambda: run(mode, transport(server), count_call())), BadResponseError)


def test_the_runtime_explains_its_own_statuses(mode: str) -> None:
    seen: list[GrpcFailure] = []

    def explain(failure: GrpcFailure) -> KServeError:
        seen.append(failure)
        return InvalidRequestError("explained")

    with GrpcServer(abort("UNKNOWN", "Unexpected <class 'ValueError'>: boom", x_request_id="r-1")) as server:
        error = raised(lambda: run(mode, transport(server), count_call(explain=explain)))
    assert (error.message, error.status, error.request_id) == ("explained", 500, "r-1")
    assert error.server_message == "Unexpected : boom"
    assert (seen[0].code, seen[0].details) == ("UNKNOWN", "Unexpected <class 'ValueError'>: boom")


def test_nothing_of_a_call_is_logged(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), GrpcServer(words("generated text", END)) as server:
        collect(mode, transport(server, api_key=TOKEN), stream_call())
    text = caplog.text
    assert "/fmaas.GenerationService/GenerateStream: OK" in text
    assert not [word for word in (TOKEN, "secret words", "generated text") if word in text]


# Loops, threads, processes


def test_one_channel_for_all_threads(mode: str) -> None:
    with GrpcServer(count) as server:
        client = transport(server)
        if mode == "sync":
            threads = [threading.Thread(target=client.run, args=(count_call(),)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        else:

            async def together() -> None:
                await asyncio.gather(*(client.arun(count_call()) for _ in range(8)))

            asyncio.run(together())
        assert (len(server.calls), len(server.peers)) == (8, 1)


def test_one_client_in_many_event_loops() -> None:
    with GrpcServer(count) as server:
        client = transport(server)
        results: list[int] = []

        async def twice() -> None:
            results.append(await client.arun(count_call()))
            results.append(await client.arun(count_call()))

        threads = [threading.Thread(target=asyncio.run, args=(twice(),)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        asyncio.run(twice())
        assert len(results) == 8
        assert len(server.peers) == 4
        assert len(client._loops) <= 1


def test_closing_is_not_the_end(mode: str) -> None:
    with GrpcServer(count) as server:
        client = transport(server)
        if mode == "sync":
            assert client.run(count_call()) == 1
            client.close()
            assert client.run(count_call()) == 2
        else:

            async def reopen() -> None:
                assert await client.arun(count_call()) == 1
                await client.aclose()
                assert await client.arun(count_call()) == 2

            asyncio.run(reopen())
        assert len(server.peers) == 2


def test_closing_while_a_stream_is_read_interrupts_it(mode: str) -> None:
    with GrpcServer(words("a", 10.0)) as server:
        client = transport(server)
        if mode == "sync":
            threading.Timer(0.3, client.close).start()
            error = raised(lambda: list(client.stream(stream_call())))
        else:

            async def close() -> None:
                asyncio.get_running_loop().call_later(0.3, lambda: asyncio.ensure_future(client.aclose()))
                async for _ in client.astream(stream_call()):
                    pass

            error = raised(lambda: asyncio.run(close()))
    assert isinstance(error, StreamInterrupted)


def test_pickled_transports_work() -> None:
    with GrpcServer(count) as server:
        client = transport(server, api_key=TOKEN)
        client.run(count_call())
        copy = pickle.loads(pickle.dumps(client))
        assert copy.run(count_call()) == 2
        assert TOKEN not in repr(copy)


def test_a_client_carries_grpc_calls_flows_and_streams() -> None:
    def flow() -> Any:
        numbers = yield Parallel(calls=[count_call(), count_call()], limit=2)
        return sorted(numbers)

    def choose() -> Any:
        yield count_call()
        return stream_call()

    with GrpcServer(count) as server:
        client = RuntimeClient(Endpoint.create(server.url), None)
        assert client.run(count_call()) == 1
        assert client.run(flow()) == [2, 3]
        assert asyncio.run(client.arun(flow())) == [4, 5]
        client.close()

    def both(request: bytes, context: Any, number: int) -> Any:
        return words("a", END)(request, context, number) if number % 2 == 0 else tokens(1)

    with GrpcServer(both) as server:
        assert list(RuntimeClient(Endpoint.create(server.url), None).stream(choose())) == ["a"]


CHILD = """
import asyncio, os, signal, sys
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from tests.unit.core.grpc_scripted import count_call

client = RuntimeClient(Endpoint.create(sys.argv[1], timeout=5, max_retries=0), None)

def tell(who, call):
    try:
        outcome = "worked" if call() else "odd"
    except Exception as error:
        outcome = type(error).__name__
    print(who, outcome, flush=True)

def blocking():
    return client.run(count_call())

def async_():
    return asyncio.run(client.arun(count_call()))

tell("parent", blocking)
if sys.argv[2] == "aio":
    tell("parent", async_)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    tell("child", blocking)
    tell("child", async_)
    os._exit(0)
os.waitpid(pid, 0)
tell("parent", blocking)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform cannot fork")
@pytest.mark.parametrize("used", ["sync", "aio"])
def test_a_forked_child_works_or_says_why_not(used: str) -> None:
    with GrpcServer(count) as server:
        done = subprocess.run(
            [sys.executable, "-c", CHILD, server.url, used],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=_environment(),
        )
    lines = done.stdout.split("\n")
    no = "ConfigurationError"
    able = tuple(map(int, grpc.__version__.split(".")[:2])) >= (1, 83)
    blocking, from_loop = ("worked" if able else no), ("worked" if able and used == "sync" else no)
    children = [line for line in lines if line.startswith("child")]
    assert children == [f"child {blocking}", f"child {from_loop}"], done.stderr
    assert [line for line in lines if line.startswith("parent")] == ["parent worked"] * (2 if used == "sync" else 3)


def test_the_grpc_library_is_loaded_only_for_a_call() -> None:
    code = (
        "import sys; from kserve_core.client import RuntimeClient; from kserve_core.endpoint import Endpoint\n"
        "from kserve_core.calls import GrpcCall; from kserve_core.protos import messages\n"
        "RuntimeClient(Endpoint.create('grpcs://m.example.com'), None)\n"
        "print([name for name in ('grpc', 'google.protobuf') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.strip() == "[]"


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{CORE}{os.pathsep}{CORE.parent}"}
