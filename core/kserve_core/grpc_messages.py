"""One call being run over gRPC: what is sent, what a status means. Free of I/O and of the gRPC library."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from typing import Any, TypeVar, cast

from kserve_core import hints, observe
from kserve_core.call_log import log_failure, log_stream, named
from kserve_core.calls import GrpcCall, GrpcFailure, GrpcStreamCall, StreamCall
from kserve_core.deadline import Deadline
from kserve_core.endpoint import Endpoint
from kserve_core.errors import BadResponseError, ConfigurationError, EndpointConnectionError, KServeError
from kserve_core.grpc_failures import STATUS_DETAILS, error_from_failure
from kserve_core.retry import Send
from kserve_core.secrecy import secrets_of, without_secrets
from kserve_core.stream_reader import StreamReader

logger = logging.getLogger("kserve_core.grpc")

T = TypeVar("T")

_REQUEST_IDS = ("x-request-id", "x-correlation-id")
_KEY = re.compile(r"[0-9a-z_.\-]+\Z")
_HTTP_ONLY = frozenset({"accept", "accept-encoding", "content-encoding", "content-type", "host", "user-agent"})
"""Headers a user may give for REST that mean nothing here, or are set otherwise (`host` is the channel's authority)."""


class GrpcSending:
    """A call on its way: the same for all attempts.

    Args:
        endpoint: Where it goes.
        call: The call.

    Raises:
        ConfigurationError: If a header cannot be sent as metadata.
    """

    def __init__(self, endpoint: Endpoint, call: GrpcCall[Any] | GrpcStreamCall[Any]) -> None:
        self.endpoint = endpoint
        self.call = call
        self.streamed = isinstance(call, GrpcStreamCall)
        self.payload: bytes = call.request.SerializeToString()
        self.attempt = 0
        self._token: str | None = None
        self.watch = observe.watch()
        self._sent_at = 0.0
        self._fixed = _metadata(endpoint, call)
        self._request_id = next((value for name, value in self._fixed if name in _REQUEST_IDS), None)

    @property
    def is_costly(self) -> bool:
        """As `http_messages.Sending.is_costly`; a gRPC call does not tell."""
        return True

    def complete(self, error: KServeError) -> KServeError:
        """As `http_messages.Sending.complete`."""
        error.request_id = error.request_id or self._request_id
        log_failure(logger, self.call.method, error)
        return error

    def begin(self, send: Send) -> tuple[tuple[tuple[str, str], ...], Deadline]:
        """The metadata and the deadline of one attempt."""
        self.attempt = send.attempt
        self._token = send.token
        self._sent_at = time.monotonic()
        if logger.isEnabledFor(logging.DEBUG):
            facts = (self.call.method, len(self.payload), send.attempt, named(self._request_id))
            logger.debug("%s: sending %d bytes, attempt %d%s", *facts)
        metadata = self._fixed
        if send.token is not None:
            keys = ("authorization", *self.call.token_keys)
            metadata = (*metadata, *((key, f"Bearer {send.token}") for key in keys))
        return metadata, Deadline(send.deadline)

    def judge(self, _answer: object, _token_sent: bool) -> KServeError | None:
        """None: over gRPC an error is never an answer, it is raised."""
        return None

    def failed(self, code: str, details: str | None, trailing: Iterable[Any] | None, deadline: Deadline) -> KServeError:
        """The error for a status that is not OK."""
        metadata: dict[str, str] = {}
        rich = b""
        for key, value in trailing or ():
            if isinstance(value, str):
                metadata[key] = f"{metadata[key]}, {value}" if key in metadata else value
            elif key == STATUS_DETAILS:
                rich = value
        left = deadline.left()
        secrets = self._secrets()
        error = error_from_failure(
            GrpcFailure(code, details or "", metadata),
            endpoint=self.endpoint,
            method=self.call.method,
            explain=self.call.explain,
            rich=rich,
            # A server that is told the deadline may notice first.
            timed_out=left is not None and left < 0.25,
            token_sent=self.endpoint.sends_credentials,
            secrets=secrets,
        )
        return without_secrets(error, secrets)

    def parse(self, data: bytes) -> Any:
        """The message that was sent as these bytes.

        Raises:
            BadResponseError: If they are another message's.
        """
        try:
            return self.call.response_type.FromString(data)
        except Exception as exc:
            msg = f"The answer to {self.call.method} cannot be understood ({len(data)} bytes)."
            raise BadResponseError(msg, hint=hints.GRPC_STRANGE, attempts=self.attempt) from exc

    def finish(self, call: GrpcCall[T], data: bytes) -> T:
        """The call's result.

        Raises:
            KServeError: What the codec raised, completed.
            BadResponseError: If the answer cannot be read.
        """
        message = self.parse(data)
        try:
            return call.read(message)
        except KServeError as exc:
            exc.attempts = exc.attempts or self.attempt
            exc.request_id = exc.request_id or self._request_id
            without_secrets(exc, self._secrets())
            raise
        except Exception as exc:
            msg = f"The answer to {call.method} cannot be understood ({len(data)} bytes)."
            raise BadResponseError(msg, hint=hints.GRPC_STRANGE, attempts=self.attempt) from exc

    def reader(self, deadline: Deadline) -> StreamReader[Any]:
        """What reads the stream that has just begun."""
        return StreamReader(
            cast("StreamCall[Any]", self.call),  # only its decoder is used
            idle_timeout=self.endpoint.idle_timeout,
            deadline=deadline,
            status=0,
            headers={},
            attempt=self.attempt,
            sent_id=self._request_id,
            strict=self.endpoint.strict_stream,
            secrets=self._secrets(),
        )

    def _secrets(self) -> tuple[str, ...]:
        return secrets_of(self._token, self._fixed)

    def stream_error(self, reader: StreamReader[Any], exc: Exception, *, begun: bool) -> KServeError:
        """The error for what went wrong while a stream was read.

        Args:
            reader: The stream's reader.
            exc: What went wrong; a status is an error of the tree already.
            begun: Whether pieces were handed out.
        """
        broken = begun and isinstance(exc, EndpointConnectionError)
        error = reader.failed(
            ConnectionError() if broken else exc, timed_out=isinstance(exc, TimeoutError), broken=broken
        )
        error.status = error.status or None
        return error

    def answered(self, outcome: str, began: float, size: int | None = None) -> None:
        """An answer has come, or a stream begun (`size` None); one line in the log: no metadata, no message."""
        if self.watch is not None:
            self.watch.answered(self._request_id)
        if logger.isEnabledFor(logging.DEBUG):
            took = time.monotonic() - began
            came = "a stream" if size is None else f"{size} bytes"
            facts = (self.call.method, outcome, came, took, self.attempt, named(self._request_id))
            logger.debug("%s: %s with %s after %.3f s, attempt %d%s", *facts)

    def ended(self, reader: StreamReader[Any]) -> None:
        """A stream is over: one line in the log."""
        log_stream(logger, self.call.method, reader, self._sent_at)


def _metadata(endpoint: Endpoint, call: GrpcCall[Any] | GrpcStreamCall[Any]) -> tuple[tuple[str, str], ...]:
    found = {name.lower(): value for name, value in endpoint.headers if name.lower() not in _HTTP_ONLY}
    for name, value in call.metadata.items():
        found[name.lower()] = value
    observe.add_headers(found)
    if "authorization" in found:
        found = {**dict.fromkeys(call.token_keys, found["authorization"]), **found}
    for name, value in found.items():
        if not _KEY.match(name) or name.startswith("grpc-") or name.endswith("-bin"):
            msg = f"The header {name!r} cannot be sent with gRPC."
            raise ConfigurationError(msg, hint="Metadata keys are lower-case letters, digits, '-', '_' and '.'.")
        if not (value.isascii() and value.isprintable()):
            msg = f"The value of header {name} cannot be sent with gRPC."
            raise ConfigurationError(msg, hint="Metadata values are printable ASCII text.")
    return tuple(found.items())
