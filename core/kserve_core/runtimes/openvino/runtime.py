"""OpenVINO Model Server as one runtime, whichever of its two APIs a model is served by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

from kserve_core.calls import AnyCall, Call, Exchange, Flow, GrpcCall, StreamCall
from kserve_core.capabilities import ChatRequest, EmbeddingRequest, RerankRequest, TextRequest
from kserve_core.errors import (
    ConfigurationError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    UnsupportedParameterError,
)
from kserve_core.runtimes.open_inference.dialects import OPENVINO
from kserve_core.runtimes.open_inference.options import TensorOptions
from kserve_core.runtimes.open_inference.values import ModelMetadata
from kserve_core.runtimes.openvino.generative import OpenVINOGenerative
from kserve_core.runtimes.openvino.paths import Api, Paths
from kserve_core.runtimes.openvino.tensors import OpenVINOTensors
from kserve_core.tensors import DATATYPES
from kserve_core.types import (
    ChatDelta,
    ChatResult,
    EmbeddingResult,
    GenerationChunk,
    ModelInfo,
    Ranking,
    TextResult,
    Tokenization,
)

_UNSET = TensorOptions()


class OpenVINORuntime:
    """Speaks to an OpenVINO Model Server: text under `/v3`, vectors and rankings under `/v3` or as V2 tensors.

    The server has two kinds of models. Those in a graph (`--task embeddings`, `rerank`, `text_generation`) take text
    under `/v3`; plain ones take tensors under `/v2`, or over gRPC. Text generation is always the first kind. For
    vectors and rankings `api` says which, else gRPC, a base URL that ends in `/v2`, `/v3` or `/v1`, or tensor options
    (`tokenizer`, `input_name`, ...) do; else the server is asked once about each model.

    It holds no connection. Instances pickle, and may be shared between threads.

    Args:
        base_path: The path of the base URL; see `kserve_core.runtimes.openvino.paths`.
        model: The model that requests go to when they name none. None asks the server once which one it has.
        protocol: What to speak; gRPC has tensors only.
        api: `v3` or `v2`, to say which API the model is served by.
        model_version: The version of a model that takes tensors; the latest if not given.
        strict_stream: As for `VLLMRuntime`.
        embedding_encoding: How vectors are asked for under `/v3`.
        options: How text becomes tensors, for models that take those.
        **choices: Fields of `TensorOptions`, one by one; they replace those of `options`.

    Raises:
        ConfigurationError: If something cannot be used as given, or does not go together.
    """

    name = OPENVINO.title
    supports_constraints = OpenVINOGenerative.supports_constraints

    def __init__(
        self,
        *,
        base_path: str = "",
        model: str | None = None,
        protocol: Literal["rest", "grpc"] = "rest",
        api: Api | None = None,
        model_version: str | int | None = None,
        strict_stream: bool = True,
        embedding_encoding: Literal["base64", "float"] = "base64",
        options: TensorOptions | None = None,
        **choices: Any,
    ) -> None:
        paths = Paths.of(base_path)
        self.tensors = OpenVINOTensors(
            base_path=paths.root,
            model=model,
            protocol=protocol,
            model_version=model_version,
            options=options,
            **choices,
        )
        self.generative = OpenVINOGenerative(
            base_path=base_path,
            model=model,
            strict_stream=strict_stream,
            embedding_encoding=embedding_encoding,
            about=self.tensors,
        )
        self.protocol = protocol
        self.api = _api(api, paths, self.tensors)
        self._apis: dict[str, Api] = {}  # by model, as the server told
        self._unsure: frozenset[str] = frozenset()  # models of which it had not heard

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(protocol={self.protocol!r}, root={self.generative.paths.server!r}, "
            f"api={self.api!r}, model={self.model!r})"
        )

    @property
    def model(self) -> str | None:
        """The model requests go to when they name none; None until it is given or found."""
        return self.tensors.model or self.generative.model

    # --- text ---------------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> Exchange[ChatResult]:
        """One whole answer."""
        return self._text().chat(request)

    def stream_chat(self, request: ChatRequest) -> Flow[StreamCall[ChatDelta]]:
        """An answer in pieces."""
        return self._text().stream_chat(request)

    def generate(self, request: TextRequest) -> Exchange[TextResult]:
        """All prompts of the request."""
        return self._text().generate(request)

    def stream_generate(self, request: TextRequest) -> Flow[StreamCall[GenerationChunk]]:
        """One prompt's completion in pieces."""
        return self._text().stream_generate(request)

    def _text(self) -> OpenVINOGenerative:
        """What generates text.

        Raises:
            UnsupportedParameterError: If only tensors are spoken here.
        """
        if self.api == "v2":
            where = "gRPC" if self.protocol == "grpc" else "/v2"
            msg = f"{self.name} generates text under /v3, not over {where}."
            raise UnsupportedParameterError(msg, hint="Give the REST port's URL, with or without /v3 at its end.")
        return self.generative

    # --- vectors and rankings -----------------------------------------------------------------------------------

    def embed(self, request: EmbeddingRequest) -> Exchange[EmbeddingResult]:
        """One batch of vectors, by one request. The model must be known; see `resolve_model`."""
        return self._known(request.model).embed(request)

    def embedding_limit(self, model: str | None = None) -> int | None:
        """Most texts of one request to a model that was resolved; None if it is not known."""
        return self._known(model).embedding_limit(model)

    def rerank(self, request: RerankRequest) -> Exchange[Ranking]:
        """One batch of documents; a plain call once the model is known."""
        name = request.model or self.model
        if self._api_of(name) is None and request.documents:
            return self._find_and_rerank(request)
        return self._known(name).rerank(request)

    def rerank_limit(self, model: str | None = None) -> int | None:
        """Most documents of one request to a model that was resolved; None if it is not known."""
        return self._known(model).rerank_limit(model)

    def _find_and_rerank(self, request: RerankRequest) -> Flow[Ranking]:
        name = yield from self.resolve_model(request.model)
        exchange = self._known(name).rerank(request)
        if isinstance(exchange, (Call, GrpcCall)):
            ranking: Ranking = yield exchange
            return ranking
        return (yield from exchange)

    def resolve_model(self, model: str | None = None) -> Flow[str]:
        """The model to ask; where it is not clear, the server is asked once by which API it is served.

        Raises:
            ModelNotFoundError: If the server has none.
            ConfigurationError: If it has several, or does not tell.
        """
        if self.api == "v2":
            name = yield from self.tensors.resolve_model(model)
            self.generative.model = self.generative.model or self.tensors.model
            return name
        name = yield from self.generative.resolve_model(model)
        self.tensors.model = self.tensors.model or self.generative.model
        if self._api_of(name) is None or name in self._unsure:
            yield from self._look(name)
        return name

    def _look(self, name: str) -> Flow[None]:
        """A graph has no tensors: its inputs have no datatype of V2's, or it is not found there."""
        api: Api = "v3"
        unsure = False
        try:
            metadata = yield from self.tensors.describe_model(name)
            api = "v2" if _takes_tensors(metadata) else "v3"
        except ModelNotFoundError:
            try:
                models = yield from self.generative.models()
                unsure = not any(info.id == name for info in models)  # perhaps it is still being loaded
            except (NotFoundError, PermissionDeniedError):
                pass
        self._apis = {**self._apis, name: api}
        self._unsure = self._unsure | {name} if unsure else self._unsure - {name}

    def _api_of(self, model: str | None) -> Api | None:
        return self.api or (None if model is None else self._apis.get(model))

    def _known(self, model: str | None) -> OpenVINOGenerative | OpenVINOTensors:
        """What asks a model that was resolved.

        Raises:
            ConfigurationError: If it was not.
        """
        api = self._api_of(model or self.model)
        if api is None:
            msg = f"It is not known yet how {self.name} serves the model (it is asked once)."
            raise ConfigurationError(msg, hint="Run resolve_model() first, or set api='v3' or api='v2'.")
        return self.generative if api == "v3" else self.tensors

    # --- tokens -------------------------------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True
    ) -> Exchange[Tokenization]:
        """The tokens of a text: by the local tokenizer if there is one, else by the server under `/v3`.

        Raises:
            UnsupportedParameterError: If there is neither.
        """
        counting = self.generative if self.api != "v2" and self.tensors.options.tokenizer is None else self.tensors
        return counting.tokenize(text, model=model, add_special_tokens=add_special_tokens)

    def tokenize_messages(self, request: ChatRequest) -> Exchange[Tokenization]:
        """Not possible: the server counts the tokens of texts only."""
        return self.generative.tokenize_messages(request)

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Exchange[str]:
        """The text of tokens by the local tokenizer; the server has no such endpoint."""
        local = self.tensors.options.tokenizer is not None
        return (self.tensors if local else self.generative).detokenize(token_ids, model=model)

    # --- about the server ---------------------------------------------------------------------------------------

    def models(self) -> Flow[list[ModelInfo]]:
        """The models served; asked anew every time."""
        return self._about().models()

    def model_info(self, model: str | None = None) -> Flow[ModelInfo]:
        """One model: the named one, or the one requests go to.

        Raises:
            ModelNotFoundError: If the server has no such model.
        """
        return self._about().model_info(model)

    def version(self) -> Flow[str]:
        """The server's version."""
        return self.tensors.version()

    def health(self) -> Flow[bool]:
        """Whether the model, or without one the server, can answer."""
        return self._about().health()

    def probe(self) -> AnyCall[bool]:
        """Asks whether the model is there yet."""
        return self._about().probe()

    def _about(self) -> OpenVINOGenerative | OpenVINOTensors:
        return self.tensors if self.api == "v2" else self.generative


def _api(api: Any, paths: Paths, tensors: OpenVINOTensors) -> Api | None:
    """The API that is meant, as far as what was given tells.

    Raises:
        ConfigurationError: If it contradicts itself.
    """
    if api not in {None, "v3", "v2"}:
        msg = f"api must be 'v3' or 'v2', not {api!r}."
        raise ConfigurationError(msg)
    options = [field.name for field in fields(TensorOptions) if _is_set(tensors.options, field.name)]
    if tensors.model_version is not None:
        options.append("model_version")
    if tensors.protocol == "grpc":
        named: Api | None = "v2"
    else:
        named = api or paths.named
    if api == "v3" and named != "v3":
        msg = "api='v3' is spoken over REST only."
        raise ConfigurationError(msg, hint="Give the REST port's http:// or https:// URL, or leave api out.")
    if named == "v3" and options:
        msg = f"{options[0]} is for models that take tensors (api='v2'), and /v3 was asked for."
        raise ConfigurationError(msg, hint="Leave it out, or give the base URL without /v3.")
    return "v2" if options else named


def _is_set(options: TensorOptions, name: str) -> bool:
    # A local tokenizer counts tokens with either API.
    return name != "tokenizer" and getattr(options, name) != getattr(_UNSET, name)


def _takes_tensors(metadata: ModelMetadata) -> bool:
    return any(spec.datatype in DATATYPES for spec in metadata.inputs)
