"""One call being run over HTTP: what is sent, what the answer means. Free of I/O and of any HTTP library."""

from __future__ import annotations

import logging
import time
from typing import Any, TypeVar

from kserve_core import hints, observe
from kserve_core._version import __version__
from kserve_core.call_log import log_failure, log_stream, named
from kserve_core.calls import Call, Response, StreamCall
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint, check_headers
from kserve_core.errors import BadResponseError, EndpointTimeoutError, KServeError
from kserve_core.failures import embedded_error, error_from_response, request_id
from kserve_core.http_request import Request
from kserve_core.retry import Send
from kserve_core.secrecy import secrets_of, without_secrets
from kserve_core.stream_reader import NoStreamError, StreamReader

logger = logging.getLogger("kserve_core.http")

T = TypeVar("T")

USER_AGENT = f"kserve-integrations/{__version__}"
MAX_ANSWER = 512 * 1024 * 1024
"""The most bytes an answer may have."""
MAX_ERROR = 64 * 1024
"""The most bytes that are read of an error answer."""
STREAM_TYPES = frozenset({"text/event-stream", "application/x-ndjson", ""})
"""Content types a streamed answer may have; some servers send none."""


class Sending:
    """A call on its way: the same for all attempts.

    Args:
        endpoint: Where it goes.
        call: The call.
    """

    def __init__(self, endpoint: Endpoint, call: Call[Any] | StreamCall[Any]) -> None:
        self.endpoint = endpoint
        self.call = call
        self.streamed = isinstance(call, StreamCall)
        self.attempt = 0
        self.token: str | None = None
        self.watch = observe.watch()
        self._sent_at = 0.0
        self._headers = self._fixed_headers()
        self._request_id = self._headers.get("x-request-id")

    @property
    def is_costly(self) -> bool:
        """Whether sending it again costs the server more than asking if the model is ready."""
        return self.call.body is not None

    def request(self, send: Send) -> Request:
        """The request of one attempt."""
        self.attempt = send.attempt
        self.token = send.token
        self._sent_at = time.monotonic()
        if logger.isEnabledFor(logging.DEBUG):
            size = 0 if self.call.body is None else len(self.call.body)
            facts = (self._name(), size, send.attempt, named(self._request_id))
            logger.debug("%s: sending %d bytes, attempt %d%s", *facts)
        headers = self._headers
        if send.token is not None:
            headers = {**headers, "authorization": f"Bearer {send.token}"}
        return Request(
            self.call.method,
            self.call.path,
            headers,
            self.call.body,
            Deadline(send.deadline),
            self.endpoint.connect_timeout,
            fresh=send.fresh,
            streamed=self.streamed,
            idle_timeout=self.endpoint.idle_timeout,
        )

    def reader(self, status: int, headers: dict[str, str], deadline: Deadline) -> StreamReader[Any]:
        """What reads the stream that has just begun."""
        if not isinstance(self.call, StreamCall):
            msg = "only a StreamCall's answer is read as a stream"
            raise TypeError(msg)
        return StreamReader(
            self.call,
            idle_timeout=self.endpoint.idle_timeout,
            deadline=deadline,
            status=status,
            headers=headers,
            attempt=self.attempt,
            sent_id=self._request_id,
            strict=self.endpoint.strict_stream,
            secrets=self._secrets(),
        )

    def _secrets(self) -> tuple[str, ...]:
        return secrets_of(self.token, self._headers.items())

    def complete(self, error: KServeError) -> KServeError:
        """Adds the request id that was sent, if the server named none."""
        error.request_id = error.request_id or self._request_id
        log_failure(logger, self._name(), error)
        return error

    def judge(self, answer: object, token_sent: bool) -> KServeError | None:
        """The error an answer stands for, or None."""
        if not isinstance(answer, Response):
            return None  # an open stream
        if (
            not self.streamed
            and 200 <= answer.status < 300
            and answer.headers.get("content-type") == "application/json"
        ):
            return None
        secrets = self._secrets()
        facts: dict[str, Any] = {
            "path": self.call.path,
            "origin": self.endpoint.origin,
            "explain": self.call.explain,
            "token_sent": token_sent or self.endpoint.sends_credentials,
            "secrets": secrets,
        }
        error = error_from_response(answer, **facts)
        if error is None and self.streamed:
            error = embedded_error(answer, **facts)
            if error is None:
                kind = answer.headers.get("content-type", "no content type")
                msg = f"The answer to {self.call.path} is no event stream ({kind})."
                error = NoStreamError(
                    msg,
                    hint=hints.NOT_STREAMED,
                    status=answer.status,
                    request_id=request_id(answer.headers),
                )
        return None if error is None else without_secrets(error, secrets)

    def finish(self, call: Call[T], response: Response) -> T:
        """The call's result.

        Raises:
            KServeError: What the codec raised, completed.
            BadResponseError: If the codec could not read the answer.
        """
        try:
            return call.read(response)
        except KServeError as exc:
            exc.status = exc.status or response.status
            exc.request_id = exc.request_id or request_id(response.headers) or self._request_id
            exc.attempts = exc.attempts or self.attempt
            without_secrets(exc, self._secrets())
            raise
        except Exception as exc:
            kind = response.headers.get("content-type", "no content type")
            msg = f"The answer to {call.method} {call.path} cannot be understood ({kind}, {len(response.body)} bytes)."
            raise BadResponseError(
                msg,
                hint=hints.STRANGE,
                status=response.status,
                request_id=request_id(response.headers) or self._request_id,
                attempts=self.attempt,
            ) from exc

    def answered(self, status: int, headers: dict[str, str], began: float, size: int | None = None) -> None:
        """An answer has come, or a stream begun (`size` None); one line in the log: no header's value, no body."""
        if self.watch is not None:
            self.watch.answered(request_id(headers) or self._request_id)
        if logger.isEnabledFor(logging.DEBUG):
            came = "a stream" if size is None else f"{size} bytes"
            took = time.monotonic() - began
            facts = (self._name(), status, came, took, self.attempt, named(request_id(headers) or self._request_id))
            logger.debug("%s: %d with %s after %.3f s, attempt %d%s", *facts)

    def ended(self, reader: StreamReader[Any]) -> None:
        """A stream is over: one line in the log."""
        log_stream(logger, self._name(), reader, self._sent_at)

    def _name(self) -> str:
        """Method and path; a query may hold what a log must not."""
        return f"{self.call.method} {self.call.path.partition('?')[0]}"

    def _fixed_headers(self) -> dict[str, str]:
        headers = {
            "user-agent": USER_AGENT,
            "accept": "text/event-stream" if self.streamed else "application/json",
            "accept-encoding": "identity",
        }
        if self.call.body is not None:
            headers["content-type"] = "application/json"
        for name, value in self.endpoint.headers:
            headers[name.lower()] = value
        if self.call.headers:
            for name, value in check_headers(self.call.headers).items():
                headers[name.lower()] = value
        observe.add_headers(headers)
        return headers


class Body:
    """Collects an answer's body within its limits.

    Args:
        status: The answer's status; an error's body is cut, any other one must not be larger than `MAX_ANSWER`.
        headers: Its headers.
        deadline: When to give up.
    """

    def __init__(self, status: int, headers: dict[str, str], deadline: Deadline) -> None:
        self._status = status
        self._headers = headers
        self._deadline = deadline
        self._error = not 200 <= status < 300
        self._size = 0
        self._parts: list[bytes] = []
        length = headers.get("content-length", "")
        if not self._error and length.isdigit() and int(length) > MAX_ANSWER:
            self._too_large()
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"identity", ""} and not self._error:
            msg = f"The answer is compressed ({encoding[:40]}) though that was not asked for."
            raise BadResponseError(msg, hint="Turn compression off in the proxy in front of the model.", status=status)

    def add(self, chunk: bytes) -> bool:
        """Takes the next part; True if no more of it is wanted."""
        self._parts.append(chunk)
        self._size += len(chunk)
        if self._error:
            return self._size >= MAX_ERROR
        if self._size > MAX_ANSWER:
            self._too_large()
        if self._deadline.passed():
            msg = "The answer was not complete when the time budget ran out."
            raise EndpointTimeoutError(msg, hint=hints.TIMEOUT, status=self._status)
        return False

    def response(self) -> Response:
        """The answer, with what was collected."""
        parts = self._parts
        return Response(self._status, self._headers, parts[0] if len(parts) == 1 else b"".join(parts))

    def _too_large(self) -> None:
        msg = f"The answer is larger than {MAX_ANSWER} bytes."
        raise BadResponseError(msg, hint="Ask for less in one request.", status=self._status)


def is_stream(status: int, headers: dict[str, str]) -> bool:
    """Whether an answer is a stream of events, as asked for."""
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    return 200 <= status < 300 and kind in STREAM_TYPES and headers.get("content-length") != "0"
