"""What is known about a server's models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal, TypeVar

from kserve_core import hints
from kserve_core.calls import AnyCall, Flow
from kserve_core.errors import (
    ConfigurationError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedParameterError,
)
from kserve_core.names import listed
from kserve_core.runtimes.model_names import several_models
from kserve_core.runtimes.open_inference.dialects import OPENVINO, PLAIN, Dialect
from kserve_core.runtimes.open_inference.errors import (
    is_missing_route,
    known_models_hint,
)
from kserve_core.runtimes.open_inference.metadata import is_ready, with_config
from kserve_core.runtimes.open_inference.naming import checked_model, checked_version
from kserve_core.runtimes.open_inference.options import TensorOptions
from kserve_core.runtimes.open_inference.rest import Rest
from kserve_core.runtimes.open_inference.values import (
    ModelMetadata,
    RepositoryModel,
)
from kserve_core.runtimes.open_inference.wire import Wire

T = TypeVar("T")

_NAME_IT = "Give the model's name as model=...."
_OPTIONS = frozenset(option.name for option in fields(TensorOptions))


class Foundation:
    """A server's models as far as they are known; see `base.OpenInferenceRuntime`."""

    name: str = "Open Inference Protocol"
    dialect: ClassVar[Dialect] = PLAIN

    def __init__(
        self,
        *,
        base_path: str = "",
        model: str | None = None,
        protocol: Literal["rest", "grpc"] = "rest",
        model_version: str | int | None = None,
        options: TensorOptions | None = None,
        dialect: Dialect | None = None,
        **choices: Any,
    ) -> None:
        if protocol not in {"rest", "grpc"}:
            msg = f"protocol must be 'rest' or 'grpc', not {protocol!r}."
            raise ConfigurationError(msg)
        if dialect is not None:
            self.dialect = dialect  # type: ignore[misc]
            self.name = dialect.title
        self.model = None if model is None else checked_model(model)
        self.protocol = protocol
        self.model_version = checked_version(model_version, self.dialect)
        self.options = _options(options, choices, type(self).__name__)
        self._base_path = base_path
        self._rest = Rest(base_path, self.dialect)
        self._known: tuple[RepositoryModel, ...] = ()
        self._described: Mapping[tuple[str, str | None], ModelMetadata] = {}
        self._denied: Mapping[str, tuple[str, dict[str, Any]]] = {}  # why a model's description is empty
        self._untold: frozenset[str] = frozenset()  # models of which the server told nothing
        self._unheard: frozenset[str] = frozenset()  # the same, where it told nothing of itself either
        self._found = False  # whether `model` is what the server said and not what the user gave

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(protocol={self.protocol!r}, api={self._rest.paths.api!r}, model={self.model!r}, "
            f"model_version={self.model_version!r})"
        )

    @property
    def wire(self) -> Wire:
        """What makes the calls. gRPC and its messages are imported when first used."""
        if self.protocol == "rest":
            return self._rest
        from kserve_core.runtimes.open_inference.grpc import Grpc

        return Grpc(self._base_path, self.dialect)

    # --- models -------------------------------------------------------------------------------------------------

    def resolve_model(self, model: str | None = None) -> Flow[str]:
        """The model to ask: the given one, the runtime's, or the only one the server has.

        Raises:
            ModelNotFoundError: If the server has none.
            ConfigurationError: If it has several, or does not tell.
        """
        return (yield from self._name_of(model))

    def _name_of(self, model: str | None) -> Flow[str]:
        """The same; subclasses find out more when they resolve a model, and must not here."""
        name = model or self.model
        if name:
            return checked_model(name)
        try:
            models = yield from self.repository_index()
        except ModelNotFoundError:
            raise
        except (NotFoundError, PermissionDeniedError, UnsupportedParameterError) as error:
            if is_missing_route(error) and not (yield from self.is_there()):
                raise self._not_there(_NAME_IT) from error
            msg = f"{self.dialect.title} does not list its models here, so `model` has to be given."
            raise ConfigurationError(msg, hint=_NAME_IT) from error
        self.model, self._found = _pick(models), True
        return self.model

    def describe_model(self, model: str | None = None, version: str | int | None = None) -> Flow[ModelMetadata]:
        """What a model takes and gives, asked of the server once.

        A server (or a proxy) without metadata gives a description without inputs and outputs.

        Args:
            model: The model; the runtime's, or the only one served, if not given.
            version: Its version; the runtime's if not given.

        Raises:
            ModelNotFoundError: If there is no such model.
        """
        name = yield from self._name_of(model)
        chosen = self.model_version if version is None else checked_version(version, self.dialect)
        found = self.known_model(name, chosen)
        if found is not None:
            return found
        wire = self.wire
        try:
            described: ModelMetadata = yield from self.send(
                wire.model_metadata(name, chosen, known=self.known_names()), name
            )
        except KServeError as error:
            denied = isinstance(error, PermissionDeniedError)
            if not (is_missing_route(error) or denied):
                raise
            if denied:
                self._denied = {**self._denied, name: (error.message, error.details())}
            else:
                self._untold |= {name}
            described = ModelMetadata(name)
        if self.dialect.model_config:
            with suppress(NotFoundError, PermissionDeniedError):  # an older server, or one that guards this
                described = with_config(described, (yield wire.model_config(name, chosen)))
        self._described = {**self._described, (name, chosen): described}
        return described

    def heard_of(self, name: str) -> Flow[None]:
        """Asks, once, whether a server of the protocol is there at all, where nothing was told of a model.

        It makes a difference where the model's inputs have to be chosen (`choosing`), and the user chose none.
        """
        if name in self._untold and self.options.input_name is None:
            self._untold -= {name}
            if not (yield from self.is_there()):
                self._unheard |= {name}

    def is_there(self) -> Flow[bool]:
        """Whether something tells about itself, as every server of the protocol does.

        False only if there plainly is no such thing: behind a proxy that routes inference only, or where another kind
        of server answers.
        """
        try:
            yield self.wire.server_metadata()
        except KServeError as error:
            return not is_missing_route(error)
        return True

    def _not_there(self, otherwise: str) -> ConfigurationError:
        where = "/v2" if self.protocol == "rest" else "ServerMetadata"
        msg = f"No server of the Open Inference Protocol seems to answer at this URL: it has no {where}."
        hint = f"{hints.DOCTOR} If something in front of {self.dialect.title} lets only inference through: {otherwise}"
        return ConfigurationError(msg, hint=hint)

    def known_model(self, model: str | None = None, version: str | None = None) -> ModelMetadata | None:
        """A model's description if it has been asked for before, else None."""
        name = model or self.model
        return None if name is None else self._described.get((name, version or self.model_version))

    @contextmanager
    def choosing(self, metadata: ModelMetadata) -> Iterator[None]:
        """Around a choice of inputs: one that fails because the server does not tell them says why it does not.

        The server is asked again next time.

        Raises:
            PermissionDeniedError: In place of an error about unknown inputs, where the server did not let this client
                read them.
            ConfigurationError: The same where no server of the protocol seems to be there.
        """
        try:
            yield
        except ConfigurationError as error:
            name = metadata.name
            denied, unheard = self._denied.get(name), name in self._unheard
            if metadata.inputs or not (denied or unheard):
                raise
            self._denied = {key: value for key, value in self._denied.items() if key != name}
            self._unheard -= {name}
            self._forget(name)
            if denied is None:
                raise self._not_there(error.hint) from None
            message, details = denied
            hint = f"{details['hint']} Or do without: {error.hint}".strip()
            msg = f"{error.message} {message}"
            raise PermissionDeniedError(msg, **{**details, "hint": hint}) from None

    def _forget(self, model: str) -> None:
        """Drops what is known about a model, which may be another one from now on."""
        self._described = {key: value for key, value in self._described.items() if key[0] != model}

    def known_names(self) -> tuple[str, ...]:
        """The names of the models the server is known to have."""
        return tuple(dict.fromkeys(model.name for model in self._known))

    def send(self, call: AnyCall[T], model: str | None) -> Flow[T]:
        """Runs a call; if the model turns out not to be there, asks which ones are, once.

        Raises:
            KServeError: What went wrong.
        """
        try:
            result: T = yield call
        except ModelNotFoundError as error:
            yield from self._help(error, model)
            raise
        return result

    def _help(self, error: ModelNotFoundError, model: str | None) -> Flow[None]:
        """Adds the names of the models there are to an error."""
        if model == self.model and self._found:
            self.model = None  # another model is there by now: look again next time
            self._known = ()
        if model is not None:
            self._forget(model)
        if not self._known:
            try:
                yield from self.repository_index()
            except KServeError:
                return  # the error at hand is the one to be told
        names = self.known_names()
        if model not in names or "version" not in error.message:
            error.hint = known_models_hint(model, names)
        elif versions := [entry.version for entry in self._known if entry.name == model and entry.version]:
            error.hint = f"It has the versions {listed(versions)}."

    def repository_index(self) -> Flow[list[RepositoryModel]]:
        """The models the server has with the states of their versions; asked anew every time.

        Raises:
            UnsupportedParameterError: If the server cannot list them over this protocol.
            NotFoundError: If it does not.
        """
        wire, dialect = self.wire, self.dialect
        models: list[RepositoryModel]
        if dialect.model_list or (dialect == OPENVINO and self.protocol == "grpc"):
            models = yield wire.model_list()
        elif dialect.repository_index or dialect == OPENVINO or self.protocol == "grpc":
            models = yield wire.repository_index()
        else:
            models = yield from self._any_list(wire)
        self._known = tuple(models)
        return models

    def _any_list(self, wire: Wire) -> Flow[list[RepositoryModel]]:
        """Of a server of which nothing is known, whatever list it has."""
        models: list[RepositoryModel]
        try:
            models = yield wire.repository_index()
        except NotFoundError as error:
            try:
                models = yield wire.model_list()
            except NotFoundError:
                raise error from None
        return models


def _options(options: TensorOptions | None, choices: Mapping[str, Any], owner: str) -> TensorOptions:
    unknown = [name for name in choices if name not in _OPTIONS]
    if unknown:
        msg = f"{owner} has no argument {unknown[0]!r}."
        raise ConfigurationError(msg, hint=f"Beside its own it has {', '.join(sorted(_OPTIONS))}.")
    if options is not None and not isinstance(options, TensorOptions):
        msg = f"options must be TensorOptions, not {type(options).__name__}."
        raise ConfigurationError(msg)
    base = options or TensorOptions()
    return replace(base, **choices) if choices else base


def _pick(models: Sequence[RepositoryModel]) -> str:
    """The model meant where none is named: the only one, or the only one that is ready."""
    names = list(dict.fromkeys(model.name for model in models))
    if not names:
        msg = "The server has no model."
        raise ModelNotFoundError(msg, hint="It may still be loading.", layer="model")
    ready = list(dict.fromkeys(model.name for model in models if is_ready(model)))
    if len(ready) == 1:
        return ready[0]
    if len(names) > 1:
        raise several_models(ready or names, "The server has", "It has")
    return names[0]
