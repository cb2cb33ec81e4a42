"""What the HTTP transport makes of redirects and pages, and what it tells nobody."""

from __future__ import annotations

import logging
import pickle
import re

import pytest

from kserve_core import http_messages
from kserve_core.calls import Response
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    InvalidRequestError,
    KServeError,
    RedirectError,
    ServerError,
    StreamInterrupted,
)
from kserve_core.retry import Send
from tests.unit.core.http_calls import TOKEN, collect, run, transport
from tests.unit.core.scripted import (
    STREAM_END,
    STREAM_HEAD,
    ServerSide,
    answer,
    event,
    post,
    read_json,
    streaming,
)

pytestmark = pytest.mark.usefixtures("quick_backoff")

# Redirects, pages, secrets


def test_sent_request_id_names_the_request_where_the_server_does_not(mode: str) -> None:
    with ServerSide(answer(400, {"error": "x"}), [STREAM_HEAD, event("a"), STREAM_END], answer(200, b"x")) as server:
        used = transport(server)
        with pytest.raises(InvalidRequestError) as caught:
            run(mode, used, post(headers={"x-request-id": "mine"}))
        assert caught.value.request_id == "mine"
        with pytest.raises(StreamInterrupted) as cut:
            collect(mode, used, streaming(headers={"x-request-id": "mine"}))
        assert cut.value.request_id == "mine"
        with pytest.raises(BadResponseError) as strange:
            run(mode, used, post(headers={"x-request-id": "mine"}))
        assert strange.value.request_id == "mine"
        used.close()


def test_redirect_is_not_followed(mode: str) -> None:
    with ServerSide(answer(200, {"stolen": 1})) as other:
        location = f"{other.url}/v1/chat/completions?state=abc"
        with ServerSide(answer(307, b"", None, {"Location": location})) as server:
            with pytest.raises(RedirectError, match=r"127\.0\.0\.1") as caught:
                run(mode, transport(server, api_key=TOKEN), post())
        assert other.requests == []
    assert "state=abc" not in repr(vars(caught.value))


def test_redirect_to_https_says_so(mode: str) -> None:
    with ServerSide(answer(302, b"", None, {"Location": "https://127.0.0.1/v1/chat/completions"})) as server:
        with pytest.raises(RedirectError) as caught:
            run(mode, transport(server), post())
    assert "https://" in caught.value.hint


def test_redirect_to_a_sign_in_page_is_an_authentication_error(mode: str) -> None:
    location = "https://oauth-openshift.apps.example.com/oauth/authorize?client_id=x"
    with ServerSide(answer(302, b"", None, {"Location": location})) as server:
        with pytest.raises(AuthenticationError, match=r"oauth-openshift\.apps\.example\.com"):
            run(mode, transport(server, api_key=TOKEN), post())
        with pytest.raises(AuthenticationError):
            collect(mode, transport(server, api_key=TOKEN), streaming())


def test_page_with_status_200_is_an_authentication_error(mode: str) -> None:
    page = b"<!DOCTYPE html><html><head><title>Log in</title></head><body>Log in with OpenShift</body></html>"
    with ServerSide(answer(200, page, "text/html; charset=utf-8")) as server:
        with pytest.raises(AuthenticationError) as caught:
            run(mode, transport(server), post())
        assert "api_key" in caught.value.hint
        with pytest.raises(AuthenticationError):
            collect(mode, transport(server), streaming())


def test_no_secret_leaves(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    echo = {"error": f"Invalid token {TOKEN} for you"}
    headers = {"Set-Cookie": f"session={TOKEN}", "X-Request-Id": "r-1"}
    with caplog.at_level(logging.DEBUG), ServerSide(answer(403, echo, headers=headers)) as server:
        used = transport(server, api_key=TOKEN, default_headers={"X-Key": "second-canary"})
        with pytest.raises(KServeError) as caught:
            run(mode, used, post())
        with pytest.raises(KServeError):
            collect(mode, used, streaming())
    error = caught.value
    sending = http_messages.Sending(used.endpoint, post())
    request = sending.request(Send(TOKEN, None, fresh=False, attempt=1))
    assert TOKEN in request.headers["authorization"]
    shown = [repr(Send(TOKEN, None, fresh=False, attempt=1)), repr(request), repr(sending), repr(vars(used))]
    shown += [repr(used), repr(used.endpoint), str(error), repr(error), repr(vars(error)), caplog.text]
    shown += [repr(pickle.loads(pickle.dumps(error)).details()), str(error.response), str(pickle.dumps(error))]
    for text in shown:
        assert TOKEN not in text
        assert "second-canary" not in text
        assert "secret words" not in text


def test_debug_log_has_sizes_and_times_only(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), ServerSide(answer(body={"answer": "private"})) as server:
        run(mode, transport(server, api_key=TOKEN), post())
    lines = [record.getMessage() for record in caplog.records if record.name == "kserve_core.http"]
    assert len(lines) == 2
    assert lines[0] == "POST /v1/chat/completions: sending 25 bytes, attempt 1"
    assert re.fullmatch(r"POST /v1/chat/completions: 200 with 21 bytes after \d\.\d{3} s, attempt 1", lines[1])
    assert "private" not in caplog.text


def test_explain_of_the_runtime_is_asked_first(mode: str) -> None:
    def explain(response: Response) -> KServeError | None:
        return ServerError("backend gone") if read_json(response).get("code") == 501 else None

    with ServerSide(answer(501, {"details": "x", "code": 501, "id": "abc"})) as server:
        with pytest.raises(ServerError, match="backend gone") as caught:
            run(mode, transport(server), post(explain=explain))
    assert (caught.value.status, caught.value.request_id, caught.value.server_message) == (501, "abc", "x")
