"""Requests over REST."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from kserve_core._json import encode
from kserve_core.calls import Call, Response, StreamCall
from kserve_core.errors import BadResponseError, UnsupportedParameterError
from kserve_core.runtimes.open_inference import metadata
from kserve_core.runtimes.open_inference.bodies import Binary, infer_body, load_json, read_infer, with_headers
from kserve_core.runtimes.open_inference.dialects import OPENVINO, Dialect
from kserve_core.runtimes.open_inference.errors import Asked, What, explain
from kserve_core.runtimes.open_inference.naming import Paths
from kserve_core.runtimes.open_inference.parameters import rest_parameters
from kserve_core.runtimes.open_inference.values import (
    InferRequest,
    InferResult,
    ModelMetadata,
    RepositoryModel,
    ServerMetadata,
)

T = TypeVar("T")


class Rest:
    """Makes REST calls.

    Args:
        base_path: The path of the base URL, with or without `/v2`.
        dialect: The server's ways.
    """

    protocol = "rest"

    def __init__(self, base_path: str, dialect: Dialect) -> None:
        self.dialect = dialect
        self.paths = Paths.of(base_path, dialect)

    def infer(
        self,
        request: InferRequest,
        *,
        read: Callable[[InferResult], T],
        known: Sequence[str] = (),
        declared: ModelMetadata | None = None,
        binary: Binary | None = None,
    ) -> Call[T]:
        """Tensors for one answer.

        Args:
            request: The tensors.
            read: Turns the answer into the result.
            known: Names of the models the server is known to have, for errors.
            declared: The model's metadata, where it is known.
            binary: Whether raw tensors may be sent and are asked for; the dialect's ways if not given.
        """
        if binary is None:
            binary = Binary(self.dialect.binary_input, self.dialect.binary_output)
        asked = Asked(self.dialect, "infer", request.model, request.version, known, declared)
        body = infer_body(rest_parameters(request, self.dialect), asked, id=_id(request), binary=binary)
        asked = replace(asked, binary=body.raw)
        return Call(
            method="POST",
            path=f"{self.paths.model(request.model, request.version)}/infer",
            body=body.data,
            headers=with_headers(body, request.headers).headers,
            read=partial(_read_answer, read, asked),
            explain=explain(asked),
            probe=self.model_ready(request.model, request.version),
        )

    def stream_infer(
        self,
        request: InferRequest,
        *,
        decoder: Callable[[], Any],
        known: Sequence[str] = (),
        declared: ModelMetadata | None = None,
    ) -> StreamCall[Any]:
        """Tensors for an answer in pieces, as events that hold one answer each; MLServer only.

        Raises:
            UnsupportedParameterError: If the server streams over gRPC only, or not at all.
        """
        if self.dialect.rest_generation != "infer":
            msg = f"{self.dialect.title} does not stream tensors over REST."
            hint = "Over gRPC it does: protocol='grpc'." if self.dialect.grpc_stream else "Ask for the whole answer."
            raise UnsupportedParameterError(msg, hint=hint)
        asked = Asked(self.dialect, "stream", request.model, request.version, known, declared)
        body = infer_body(rest_parameters(request, self.dialect), asked, id=_id(request), binary=Binary())
        return StreamCall(
            method="POST",
            path=f"{self.paths.model(request.model, request.version)}/infer_stream",
            body=body.data,
            headers=with_headers(body, request.headers).headers,
            decoder=decoder,
            explain=explain(asked),
            probe=self.model_ready(request.model, request.version),
        )

    def server_metadata(self) -> Call[ServerMetadata]:
        """Asks for the server's name, version and extensions."""
        return self._get(self.paths.api, "server", metadata.read_server_metadata)

    def live(self) -> Call[bool]:
        """Asks whether the server is up."""
        return self._yes(f"{self.paths.api}/health/live", Asked(self.dialect, "ready"))

    def ready(self) -> Call[bool]:
        """Asks whether the server, with all its models, can answer."""
        return self._yes(f"{self.paths.api}/health/ready", Asked(self.dialect, "ready"))

    def model_ready(self, model: str, version: str | None = None, *, known: Sequence[str] = ()) -> Call[bool]:
        """Asks whether a model can answer."""
        path = f"{self.paths.model(model, version)}/ready"
        return self._yes(path, Asked(self.dialect, "ready", model, version, known))

    def model_metadata(
        self, model: str, version: str | None = None, *, known: Sequence[str] = ()
    ) -> Call[ModelMetadata]:
        """Asks what a model takes and gives."""
        asked = Asked(self.dialect, "metadata", model, version, known)
        return self._get(self.paths.model(model, version), asked, metadata.read_model_metadata)

    def model_config(self, model: str, version: str | None = None) -> Call[dict[str, Any]]:
        """Asks for a model's configuration, as the server has it; Triton only."""
        asked = Asked(self.dialect, "config", model, version)
        return self._get(f"{self.paths.model(model, version)}/config", asked, _as_object)

    def repository_index(self) -> Call[list[RepositoryModel]]:
        """Asks for the models there are and their states; of OpenVINO's server by the older API beside this one."""
        if self.dialect == OPENVINO:
            return self._get(f"{self.paths.root}/v1/config", "repository", metadata.read_version_states)
        return self._post(f"{self.paths.api}/repository/index", Asked(self.dialect, "repository"), metadata.read_index)

    def model_list(self) -> Call[list[RepositoryModel]]:
        """Asks for the models that are served; KServe's server only."""
        return self._get(f"{self.paths.api}/models", "repository", metadata.read_model_list)

    def load(self, model: str) -> Call[None]:
        """Has a model loaded, or loaded anew."""
        return self._repository(model, "load")

    def unload(self, model: str) -> Call[None]:
        """Has a model unloaded."""
        return self._repository(model, "unload")

    def _repository(self, model: str, action: str) -> Call[None]:
        asked = Asked(self.dialect, "load", model)
        return Call(
            method="POST",
            path=self.paths.repository_model(model, action),
            body=b"{}",
            headers=_JSON,
            read=_nothing,
            explain=explain(asked),
            retry=False,
        )

    def _get(self, path: str, asked: Asked | What, read: Callable[[Any], T]) -> Call[T]:
        about = asked if isinstance(asked, Asked) else Asked(self.dialect, asked)
        return Call(method="GET", path=path, read=partial(_read_json, read), explain=explain(about))

    def _post(self, path: str, asked: Asked, read: Callable[[Any], T]) -> Call[T]:
        return Call(
            method="POST",
            path=path,
            body=encode({}),
            headers=_JSON,
            read=partial(_read_json, read),
            explain=explain(asked),
        )

    def _yes(self, path: str, asked: Asked) -> Call[bool]:
        return Call(method="GET", path=path, read=_read_yes, explain=explain(asked), retry=False)


_JSON = {"content-type": "application/json"}


def _id(request: InferRequest) -> str:
    """The request's id; one is always sent, since some models cannot do without."""
    return request.id or uuid.uuid4().hex


def _read_answer(read: Callable[[InferResult], T], asked: Asked, response: Response) -> T:
    return read(read_infer(asked, response))


def _read_json(read: Callable[[Any], T], response: Response) -> T:
    return read(load_json(response.body, "JSON", status=response.status))


def _as_object(raw: Any) -> dict[str, Any]:
    return raw if isinstance(raw, dict) else {}


def _read_yes(response: Response) -> bool:
    """A readiness answer: mostly empty; KServe's server says it in the body as well."""
    if not response.body.strip():
        return True
    try:
        raw = load_json(response.body, "a readiness answer", status=response.status)
    except BadResponseError:
        return True
    if isinstance(raw, dict):
        return raw.get("ready", raw.get("live", True)) is not False
    return raw is not False


def _nothing(response: Response) -> None:
    """The answer says nothing that the status does not."""
