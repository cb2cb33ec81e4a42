"""Requests over REST."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from kserve_core._json import decode_object, encode
from kserve_core.calls import Call, Response, StreamCall
from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.caikit.errors import explain
from kserve_core.runtimes.caikit.generation import Reading
from kserve_core.runtimes.caikit.stream import EventDecoder
from kserve_core.runtimes.caikit.tasks import Task
from kserve_core.types import GenerationChunk

T = TypeVar("T")

# The server compares the content type as a whole: with a charset it answers 415.
_JSON = {"content-type": "application/json", "accept": "application/json"}
_EVENTS = {"content-type": "application/json", "accept": "text/event-stream"}
_ENDPOINT = re.compile(r"/(?:task/[\w-]+|task|info/\w+|info|health|docs)$")


class Rest:
    """Makes REST calls.

    Args:
        base_path: The path of the base URL, with or without the route prefix.
        route_prefix: What the server puts in front of its tasks (`runtime.http.route_prefix`).
    """

    def __init__(self, base_path: str = "", route_prefix: str = "api/v1") -> None:
        prefix = _joined(route_prefix)
        root = _joined(base_path)
        if match := _ENDPOINT.search(root):
            msg = f"The base URL ends in {match[0]}, which is one endpoint, not the root of all."
            raise ConfigurationError(msg, hint=f"Give the URL up to {root[: match.start()] or 'the host name'}.")
        if prefix and root.endswith(prefix):
            root = root[: -len(prefix)]
        self.root = root
        self.api = f"{root}{prefix}"

    def call(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        model: str,
        read: Callable[[dict[str, Any]], T],
        headers: Mapping[str, str],
        known: Sequence[str] = (),
    ) -> Call[T]:
        """A task with one answer."""
        return Call(
            method="POST",
            path=f"{self.api}/task/{task.name}",
            body=_body(task, inputs, parameters, model),
            headers={**_JSON, **headers},
            read=partial(_read, task, read),
            explain=explain(task, model=model, known=known),
        )

    def stream(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        model: str,
        reading: Reading,
        headers: Mapping[str, str],
        known: Sequence[str] = (),
    ) -> StreamCall[GenerationChunk]:
        """A task answered in pieces."""
        return StreamCall(
            method="POST",
            path=f"{self.api}/task/{task.name}",
            body=_body(task, inputs, parameters, model),
            headers={**_EVENTS, **headers},
            decoder=partial(EventDecoder, task, reading, known=known),
            explain=explain(task, model=model, known=known),
        )

    def models(self, read: Callable[[dict[str, Any]], T]) -> Call[T]:
        """Asks which models there are."""
        return self._get("/info/models", partial(_read_object, "a list of models", read))

    def about(self, read: Callable[[dict[str, Any]], T], *, older: bool = False) -> Call[T]:
        """Asks for the server's versions; `older` at the place some older servers have them."""
        path = "/info/runtime" if older else "/info/version"
        return self._get(path, partial(_read_object, "a version", read))

    def health(self) -> Call[bool]:
        """Asks whether the server is up; it says so before it has any model."""
        return self._get("/health", _read_nothing, retry=False)

    def _get(self, path: str, read: Callable[[Response], T], *, retry: bool = True) -> Call[T]:
        return Call(
            method="GET",
            path=f"{self.root}{path}",
            headers={"accept": "application/json"},
            read=read,
            explain=explain(None),
            retry=retry,
        )


def _joined(path: str) -> str:
    stripped = path.strip("/")
    return f"/{stripped}" if stripped else ""


def _body(task: Task, inputs: Mapping[str, Any], parameters: Mapping[str, Any], model: str) -> bytes:
    body: dict[str, Any] = {"inputs": inputs[task.inputs[0]] if len(task.inputs) == 1 else dict(inputs)}
    if parameters:
        body["parameters"] = dict(parameters)
    body["model_id"] = model
    return encode(body)


def _read(task: Task, read: Callable[[dict[str, Any]], T], response: Response) -> T:
    return read(decode_object(response, f"an answer to {task.title}"))


def _read_object(what: str, read: Callable[[dict[str, Any]], T], response: Response) -> T:
    return read(decode_object(response, what))


def _read_nothing(response: Response) -> bool:
    return 200 <= response.status < 300
