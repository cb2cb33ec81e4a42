"""Errors that LangChain knows."""

from __future__ import annotations

import pickle

import pytest
from langchain_core import exceptions as lc
from langchain_core.callbacks import BaseCallbackHandler
from unit.langchain.chat_fakes import chat

import langchain_kserve
from kserve_core import errors as core
from kserve_core.devserver import DevServer
from langchain_kserve import ChatVLLM
from langchain_kserve._errors import to_langchain

TABLE = [
    (core.ConfigurationError, lc.ModelInvalidRequestError, False),
    (core.UnsupportedParameterError, lc.ModelInvalidRequestError, False),
    (core.EndpointConnectionError, lc.ModelConnectionError, True),
    (core.TLSError, lc.ModelConnectionError, False),
    (core.NameResolutionError, lc.ModelConnectionError, False),
    (core.ConnectTimeoutError, lc.ModelTimeoutError, True),
    (core.ConnectTimeoutError, lc.ModelConnectionError, True),
    (core.StreamIdleError, lc.ModelTimeoutError, True),
    (core.EndpointTimeoutError, lc.ModelTimeoutError, True),
    (core.ResponseError, lc.ModelError, False),
    (core.AuthenticationError, lc.ModelAuthenticationError, False),
    (core.PermissionDeniedError, lc.ModelPermissionDeniedError, False),
    (core.NotFoundError, lc.ModelNotFoundError, False),
    (core.ModelNotFoundError, lc.ModelNotFoundError, False),
    (core.RedirectError, lc.ModelInvalidRequestError, False),
    (core.InvalidRequestError, lc.ModelInvalidRequestError, False),
    (core.ContextOverflowError, lc.ContextOverflowError, False),
    (core.RequestTooLargeError, lc.ModelInvalidRequestError, False),
    (core.RateLimitError, lc.ModelRateLimitError, True),
    (core.QuotaExceededError, lc.ModelRateLimitError, False),
    (core.ServerError, lc.ModelAPIError, True),
    (core.NotReadyError, lc.ModelAPIError, True),
    (core.StoppedError, lc.ModelAPIError, False),
    (core.BadResponseError, lc.ModelAPIError, False),
    (core.StreamInterrupted, lc.ModelConnectionError, True),
    (core.KServeError, lc.ModelError, False),
]


@pytest.mark.parametrize(("ours", "theirs", "retryable"), TABLE)
def test_each_error_is_both(ours, theirs, retryable):
    response = core.ErrorResponse(status_code=418, headers={"x": "y"}, content=b'{"a": 1}')
    error = ours("broken", hint="fix it", status=418, request_id="r1", response=response, partial_text="so far")
    made = to_langchain(error)
    assert isinstance(made, ours)
    assert isinstance(made, theirs)
    assert made.is_retryable is retryable
    assert (made.hint, made.status_code, made.request_id, made.partial_text) == ("fix it", 418, "r1", "so far")
    assert made.response.json() == {"a": 1}
    assert type(made).__name__ == ours.__name__
    assert type(made) is getattr(langchain_kserve, ours.__name__)
    again = pickle.loads(pickle.dumps(made))
    assert (type(again), str(again)) == (type(made), str(made))


def test_every_error_of_the_core_has_its_class():
    named = {cls for cls in vars(core).values() if isinstance(cls, type) and issubclass(cls, core.KServeError)}
    assert named == {ours for ours, _, _ in TABLE}


def test_subclasses_stay_subclasses():
    assert issubclass(langchain_kserve.ModelNotFoundError, langchain_kserve.NotFoundError)
    assert issubclass(langchain_kserve.ContextOverflowError, langchain_kserve.InvalidRequestError)
    assert issubclass(langchain_kserve.NotReadyError, langchain_kserve.ServerError)


def test_what_catches_an_error_of_the_core_catches_this_packages():
    kinds = [ours for ours, _, _ in TABLE]
    for one in kinds:
        for other in kinds:
            mine, theirs = getattr(langchain_kserve, one.__name__), getattr(langchain_kserve, other.__name__)
            assert issubclass(mine, theirs) is issubclass(one, other), f"{one.__name__} and {other.__name__}"


def test_an_error_that_is_langchains_already_is_left_alone():
    made = langchain_kserve.RateLimitError("slow down")
    assert to_langchain(made) is made


def test_a_subclass_nobody_foresaw_keeps_its_nearest_class():
    class Odd(core.RateLimitError):
        pass

    assert type(to_langchain(Odd("slow down"))) is langchain_kserve.RateLimitError


class Errors(BaseCallbackHandler):
    def __init__(self):
        self.seen = []

    def on_llm_error(self, error, *, response=None, **kwargs):
        self.seen.append((error, response))


@pytest.mark.parametrize("call", ["invoke", "stream"])
def test_traces_get_the_response_behind_an_error(call):
    response = core.ErrorResponse(status_code=429, headers={"retry-after": "1"}, content=b'{"error": "busy"}')
    error = core.RateLimitError("busy", status=429, request_id="r1", response=response)
    model, _ = chat(error if call == "invoke" else [error])
    seen = Errors()
    with pytest.raises(lc.ModelRateLimitError):
        list(model.stream("x", {"callbacks": [seen]})) if call == "stream" else model.invoke("x", {"callbacks": [seen]})
    ((caught, recorded),) = seen.seen
    metadata = recorded.generations[-1][0].message.response_metadata
    assert isinstance(caught, langchain_kserve.RateLimitError)
    assert metadata == {
        "body": {"error": "busy"},
        "headers": {"retry-after": "1"},
        "status_code": 429,
        "request_id": "r1",
    }


@pytest.fixture(scope="module")
def running():
    with DevServer(api_key="k", models=["m"], max_model_len=64) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


async def _call(model, way):
    if way == "invoke":
        model.invoke("x")
    elif way == "stream":
        list(model.stream("x"))
    elif way == "ainvoke":
        await model.ainvoke("x")
    else:
        _ = [chunk async for chunk in model.astream("x")]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 401, "body": {"error": "Unauthorized"}}, lc.ModelAuthenticationError),
        ({"status": 403, "body": "Forbidden"}, lc.ModelPermissionDeniedError),
        ({"status": 404, "body": {"detail": "Not Found"}}, lc.ModelNotFoundError),
        ({"status": 400, "body": {"error": {"message": "bad", "type": "x", "code": 400}}}, lc.ModelInvalidRequestError),
        ({"status": 429, "body": {"error": {"message": "busy"}}}, lc.ModelRateLimitError),
        ({"status": 500, "body": {"error": {"message": "oops"}}}, lc.ModelAPIError),
        ({"reset": "before-headers"}, lc.ModelConnectionError),
    ],
)
@pytest.mark.parametrize("call", ["invoke", "stream", "ainvoke", "astream"])
async def test_what_goes_wrong_on_the_wire_is_langchains_error(server, fault, expected, call):
    server.fault(**fault, times=None)
    model = ChatVLLM(base_url=server.url, api_key="k", model="m", max_retries=0)
    with pytest.raises(expected) as caught:
        await _call(model, call)
    error = caught.value
    if "status" in fault:
        assert error.status_code == fault["status"]
        assert error.response.status_code == fault["status"]


def test_a_prompt_that_is_too_long_is_a_context_overflow(server):
    model = ChatVLLM(base_url=server.url, api_key="k", model="m")
    with pytest.raises(lc.ContextOverflowError) as caught:
        model.invoke("word " * 500)
    assert caught.value.status_code == 400
    assert not caught.value.is_retryable
    assert len(server.requests.to("/chat/completions")) == 1


def test_a_stream_that_breaks_raises_with_the_text_so_far(server):
    server.fault(cut_after=4, path="/chat/completions")
    model = ChatVLLM(base_url=server.url, api_key="k", model="m", max_retries=0)
    texts = []
    with pytest.raises(core.StreamInterrupted) as caught:
        texts.extend(chunk.text for chunk in model.stream("Count to ten."))
    assert caught.value.partial_text == "".join(texts) != ""
    assert isinstance(caught.value, lc.ModelConnectionError)


def test_an_error_event_in_a_stream_is_an_error(server):
    server.fault(error_after=3, path="/chat/completions")
    model = ChatVLLM(base_url=server.url, api_key="k", model="m", max_retries=0)
    with pytest.raises(lc.ModelAPIError):
        list(model.stream("Count to ten."))
