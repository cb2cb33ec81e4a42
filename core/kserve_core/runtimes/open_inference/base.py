"""What all servers of the protocol have in common as runtimes."""

from __future__ import annotations

from typing import Any, Literal

from kserve_core.calls import AnyCall, Flow
from kserve_core.errors import ModelNotFoundError, NotFoundError, ResponseError, ServerError
from kserve_core.runtimes.open_inference.inference import Inference
from kserve_core.runtimes.open_inference.metadata import model_infos
from kserve_core.runtimes.open_inference.naming import checked_version
from kserve_core.runtimes.open_inference.values import ServerMetadata
from kserve_core.runtimes.open_inference.wire import Wire
from kserve_core.types import ModelInfo

__all__ = ["OpenInferenceRuntime", "Wire"]


class OpenInferenceRuntime(Inference):
    """Speaks the Open Inference Protocol (V2) to a server, over REST or gRPC with equal answers.

    It holds no connection. What it learns about the server (its models, what they take and give, whether raw tensors
    work) is kept on the instance. Instances pickle, and may be shared between threads.

    Args:
        base_path: The path of the base URL, with or without `/v2`; REST only.
        model: The model that requests go to when they name none.
        protocol: What to speak. A server has a port for each.
        model_version: The version of the model; left out, the server chooses (its latest, mostly).
        options: How text becomes tensors and tensors become text, vectors and scores.
        dialect: The server's ways, where the class has none of its own.
        **choices: Fields of `TensorOptions`, one by one; they replace those of `options`.

    Raises:
        ConfigurationError: If something cannot be used as given.
    """

    def models(self) -> Flow[list[ModelInfo]]:
        """The models the server has; `extra` tells their versions and whether they are ready."""
        return model_infos((yield from self.repository_index()))

    def model_info(self, model: str | None = None) -> Flow[ModelInfo]:
        """One model: the named one, the runtime's, or the only one; `extra` has what its metadata tells.

        Raises:
            ModelNotFoundError: If the server has no such model.
        """
        described = yield from self.describe_model(model)
        extra: dict[str, Any] = {
            "versions": list(described.versions),
            "platform": described.platform,
            "inputs": described.inputs,
            "outputs": described.outputs,
        }
        if described.max_batch_size is not None:
            extra["max_batch_size"] = described.max_batch_size
        if described.decoupled is not None:
            extra["decoupled"] = described.decoupled
        return ModelInfo(id=described.name, extra={key: value for key, value in extra.items() if value not in ("", [])})

    def server_metadata(self) -> Flow[ServerMetadata]:
        """The server's name, version and extensions."""
        answer: ServerMetadata = yield self.wire.server_metadata()
        return answer

    def version(self) -> Flow[str]:
        """The server's version."""
        return (yield from self.server_metadata()).version

    def server_live(self) -> Flow[bool]:
        """Whether the server is up; what else than a plain no comes back is raised."""
        return (yield from self._yes(self.wire.live()))

    def server_ready(self) -> Flow[bool]:
        """Whether the server can answer. MLServer says no while any one of its models is not ready."""
        return (yield from self._yes(self.wire.ready()))

    def model_ready(self, model: str | None = None, version: str | int | None = None) -> Flow[bool]:
        """Whether a model can answer; False as well if there is none of this name, which not all servers tell apart.

        Raises:
            NotFoundError: If the server (or what is in front of it) has no such question.
        """
        name = yield from self._name_of(model)
        chosen = self.model_version if version is None else checked_version(version, self.dialect)
        try:
            return (yield from self._yes(self.wire.model_ready(name, chosen, known=self.known_names())))
        except ModelNotFoundError:
            return False

    def health(self) -> Flow[bool]:
        """Whether the model can answer (or, where none is named, the server).

        A proxy that routes neither question (ModelMesh) is asked for the model's metadata. Anything else than a plain
        no, such as a refused connection or token, is raised.
        """
        if self.model is None:
            return (yield from self.server_ready())
        try:
            return (yield from self.model_ready())
        except NotFoundError as error:
            try:
                yield self.wire.model_metadata(self.model, self.model_version)
            except ModelNotFoundError:
                return False
            except ResponseError:
                raise error from None
            return True

    def probe(self) -> AnyCall[bool]:
        """Asks whether the model, or without one the server, can answer."""
        return self.wire.ready() if self.model is None else self.wire.model_ready(self.model, self.model_version)

    def load_model(self, model: str | None = None) -> Flow[None]:
        """Has a model loaded, or loaded anew; Triton allows it in its explicit mode only."""
        yield from self._change(model, "load")

    def unload_model(self, model: str | None = None) -> Flow[None]:
        """Has a model unloaded; Triton allows it in its explicit mode only."""
        yield from self._change(model, "unload")

    def _change(self, model: str | None, action: Literal["load", "unload"]) -> Flow[None]:
        name = yield from self._name_of(model)
        yield from self.send(getattr(self.wire, action)(name), name)
        self._forget(name)
        self._known = ()

    def _yes(self, call: AnyCall[bool]) -> Flow[bool]:
        try:
            return bool((yield call))
        except ServerError:
            return False
