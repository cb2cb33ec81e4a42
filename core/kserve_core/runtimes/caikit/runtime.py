"""Caikit's runtime as a runtime: generation, embeddings, similarity, reranking and tokens over REST or gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, NoReturn, TypeVar

from kserve_core.batching import add_usage
from kserve_core.calls import AnyCall, AnyStreamCall, Exchange, Flow, Parallel
from kserve_core.capabilities import ChatRequest, EmbeddingRequest, RerankRequest, SimilarityRequest, TextRequest
from kserve_core.errors import (
    ConfigurationError,
    KServeError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    ResponseError,
    ServerError,
    UnsupportedParameterError,
)
from kserve_core.runtimes.caikit import rerank, similarity
from kserve_core.runtimes.caikit.embeddings import check_input, embedding_task, read_embeddings
from kserve_core.runtimes.caikit.errors import known_hint, model_not_found
from kserve_core.runtimes.caikit.generation import Reading, generation_parameters, read_generation
from kserve_core.runtimes.caikit.info import is_loaded, pick, read_about, read_models, version_of
from kserve_core.runtimes.caikit.params import merged, truncation
from kserve_core.runtimes.caikit.rest import Rest
from kserve_core.runtimes.caikit.tasks import GENERATION, SIMILARITIES, SIMILARITY, STREAM, TOKENIZATION, Task
from kserve_core.runtimes.caikit.tokenize import read_tokens
from kserve_core.runtimes.model_names import find_model
from kserve_core.types import EmbeddingResult, Generation, GenerationChunk, ModelInfo, Ranking, TextResult, Tokenization

T = TypeVar("T")

_NOTHING: Mapping[str, Any] = {}


class CaikitRuntime:
    """Speaks to a Caikit runtime (caikit-nlp), alone or with TGIS behind it, over REST or gRPC with equal answers.

    It holds no connection; what it learns about the server (its models) is kept on the instance. Instances pickle,
    and may be shared between threads.

    A Caikit server has no default model. Which one is meant is asked of the server where it is not given, and is
    clear if there is one only.

    Args:
        base_path: The path of the base URL, with or without the route prefix; REST only.
        model: The model that requests go to when they name none: the name of its folder on the server.
        protocol: What to speak. The server has a port for each.
        route_prefix: What the server puts in front of its tasks (`runtime.http.route_prefix`); REST only.
    """

    name: str = "Caikit"

    def __init__(
        self,
        *,
        base_path: str = "",
        model: str | None = None,
        protocol: Literal["rest", "grpc"] = "rest",
        route_prefix: str = "api/v1",
    ) -> None:
        if protocol not in {"rest", "grpc"}:
            msg = f"protocol must be 'rest' or 'grpc', not {protocol!r}."
            raise ConfigurationError(msg)
        self.model = model
        self.protocol = protocol
        self._rest = Rest(base_path, route_prefix)
        self._known: tuple[ModelInfo, ...] = ()
        self._found = False  # whether `model` is what the server said and not what the user gave

    def __repr__(self) -> str:
        return f"{type(self).__name__}(protocol={self.protocol!r}, api={self._rest.api!r}, model={self.model!r})"

    # --- text ---------------------------------------------------------------------------------------------------

    def generate(self, request: TextRequest) -> Flow[TextResult]:
        """All prompts of the request; Caikit takes one at a time, so they are sent side by side."""
        parameters = generation_parameters(request, stream=False)
        return self._generate(request, parameters)

    def _generate(self, request: TextRequest, parameters: dict[str, Any]) -> Flow[TextResult]:
        model = yield from self._model(request.model)
        reading = Reading.of(parameters, model=model)
        calls = [
            self._call(
                GENERATION,
                {"text": prompt},
                parameters,
                model=model,
                read=partial(_read_one, reading=reading),
                headers=request.headers,
            )
            for prompt in request.prompts
        ]
        if len(calls) == 1:
            answers = [(yield from self._send(calls[0], model))]
        else:
            answers = yield from self._send_all(calls, model)
        generations = [[generation] for generation, _ in answers]
        usage = add_usage(generation.usage for generation, _ in answers)
        raws = [raw for _, raw in answers]
        raw = raws[0] if len(raws) == 1 else {"responses": raws}
        return TextResult(generations, usage=usage, model=model, raw=raw)

    def stream_generate(self, request: TextRequest) -> Flow[Any]:
        """One prompt's completion in pieces."""
        parameters = generation_parameters(request, stream=True)
        return self._stream(request, parameters)

    def _stream(self, request: TextRequest, parameters: dict[str, Any]) -> Flow[AnyStreamCall[GenerationChunk]]:
        model = yield from self._model(request.model)
        call: AnyStreamCall[GenerationChunk] = self._wire.stream(
            STREAM,
            {"text": request.prompts[0]},
            parameters,
            model=model,
            reading=Reading.of(parameters, model=model, usage=request.include_usage),
            headers=request.headers,
            known=self._names(),
        )
        return call

    # --- embeddings, similarity, reranking ----------------------------------------------------------------------

    def embed(self, request: EmbeddingRequest) -> AnyCall[EmbeddingResult]:
        """One batch of vectors.

        Raises:
            ConfigurationError: If no model is known; `resolve_model` finds it.
        """
        model = request.model or self.model
        if model is None:
            msg = "Caikit has no default model, and none is known yet."
            raise ConfigurationError(msg, hint="Give model=..., or run resolve_model() first.")
        task, inputs, parameters = embedding_task(request)
        read = partial(read_embeddings, task=task, count=len(request.texts), model=model)
        return self._call(task, inputs, parameters, model=model, read=read, headers=request.headers)

    def similarity(
        self,
        source: str,
        sentences: Sequence[str],
        *,
        model: str | None = None,
        truncate: int | None = None,
        extra_body: Mapping[str, Any] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
    ) -> Exchange[list[float]]:
        """How similar each sentence is to the source, as cosines in their order; no request for no sentences."""
        if not sentences:
            return _nothing([])
        inputs = similarity.similarity_inputs(source, sentences)
        parameters = merged(dict(truncation(truncate)), extra_body)

        def read(raw: dict[str, Any], name: str) -> list[float]:
            return similarity.read_similarity(raw, count=len(sentences), model=name)

        return self._task(SIMILARITY, inputs, parameters, model=model, read=read, headers=headers)

    def similarities(self, request: SimilarityRequest) -> Exchange[list[list[float]]]:
        """The same for several sources: one list of scores for each."""
        sources, sentences = list(request.sources), list(request.sentences)
        if not sources or not sentences:
            return _nothing([[] for _ in sources])
        inputs = similarity.similarities_inputs(sources, sentences)
        parameters = merged(dict(truncation(request.truncate)), request.extra_body)

        def read(raw: dict[str, Any], name: str) -> list[list[float]]:
            return similarity.read_similarities(raw, sources=len(sources), count=len(sentences), model=name)

        return self._task(SIMILARITIES, inputs, parameters, model=request.model, read=read, headers=request.headers)

    def rerank(self, request: RerankRequest) -> Exchange[Ranking]:
        """One batch of documents; a plain call once the model is known."""
        if not request.documents:
            return _nothing(Ranking([]))
        task, inputs, parameters = rerank.rerank_task(request)

        def read(raw: dict[str, Any], name: str) -> Ranking:
            return rerank.read_ranking(raw, count=len(request.documents), top_n=request.top_n, model=name)

        return self._task(task, inputs, parameters, model=request.model, read=read, headers=request.headers)

    def rerank_many(
        self,
        queries: Sequence[str],
        documents: Sequence[str],
        *,
        model: str | None = None,
        top_n: int | None = None,
        truncate: int | None = None,
        extra_body: Mapping[str, Any] = _NOTHING,
        headers: Mapping[str, str] = _NOTHING,
    ) -> Exchange[list[Ranking]]:
        """One ranking of the documents for each query, by one request; the first carries the token counts of all."""
        if not queries or not documents:
            return _nothing([Ranking([]) for _ in queries])
        request = RerankRequest(query="", documents=documents, top_n=top_n, truncate=truncate, extra_body=extra_body)
        task, inputs, parameters = rerank.rerank_tasks(queries, request)

        def read(raw: dict[str, Any], name: str) -> list[Ranking]:
            return rerank.read_rankings(raw, queries=len(queries), count=len(documents), top_n=top_n, model=name)

        return self._task(task, inputs, parameters, model=model, read=read, headers=headers)

    # --- tokens -------------------------------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True
    ) -> Exchange[Tokenization]:
        """The number of a text's tokens; the tokens' text as well where the model tells it, never their ids."""
        check_input("text", text)

        def read(raw: dict[str, Any], name: str) -> Tokenization:
            return read_tokens(raw, special=add_special_tokens, model=name)

        return self._task(TOKENIZATION, {"text": text}, _NOTHING, model=model, read=read, headers=_NOTHING)

    def tokenize_messages(self, request: ChatRequest) -> Exchange[Tokenization]:  # noqa: ARG002
        """Not possible: Caikit has no chat."""
        self._without("conversations", "Turn the conversation into a prompt (chat_template=...) and count that.")

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Exchange[str]:  # noqa: ARG002
        """Not possible: Caikit shows no token ids."""
        self._without("token ids", "Keep the text.")

    # --- about the server ---------------------------------------------------------------------------------------

    def models(self) -> Flow[list[ModelInfo]]:
        """The models the server has, those still loading included; asked anew every time."""
        models: list[ModelInfo] = yield self._wire.models(read_models)
        self._known = tuple(models)
        return models

    def model_info(self, model: str | None = None) -> Flow[ModelInfo]:
        """One model: the named one, or the one requests go to. The server is asked about one not seen before only.

        Raises:
            ModelNotFoundError: If the server has no such model.
        """
        name = model or self.model
        return (yield from find_model(name, self._known, self.models, pick=pick, missing=model_not_found))

    def resolve_model(self, model: str | None = None) -> Flow[str | None]:
        """The model to ask: the given one, the runtime's, or the only one the server has.

        Raises:
            ConfigurationError: If the server has several, or does not tell.
        """
        return (yield from self._model(model))

    def runtime_info(self) -> Flow[dict[str, Any]]:
        """What the server tells about itself: `runtime_version` and `python_packages`."""
        about: dict[str, Any]
        try:
            about = yield self._wire.about(read_about)
        except NotFoundError as error:
            try:
                about = yield self._wire.about(read_about, older=True)
            except NotFoundError:
                raise error from None
        return about

    def version(self) -> Flow[str]:
        """The version of the server's caikit package; what its configuration says where it does not tell that."""
        return version_of((yield from self.runtime_info()))

    def health(self) -> Flow[bool]:
        """Whether the model can answer (or, where none is known, any model).

        The server calls itself healthy before it has a model, so its list of models is looked at as well. Anything
        else than a plain no, such as a refused connection or token, is raised.
        """
        try:
            healthy = yield self._wire.health()
            models = yield from self.models()
        except NotFoundError:
            return True  # an older server, which lists nothing
        except ServerError:
            return False
        loaded = [model.id for model in models if is_loaded(model)]
        return bool(healthy) and (self.model in loaded if self.model else bool(loaded))

    def probe(self) -> AnyCall[bool]:
        """Asks whether the model is loaded (or, where none is known, any model); the server is up before that."""
        call: AnyCall[bool] = self._wire.models(partial(_has_loaded, self.model))
        return call

    # --- shared -------------------------------------------------------------------------------------------------

    @property
    def _wire(self) -> Any:
        """What makes the calls. gRPC and its messages are imported when first used."""
        if self.protocol == "rest":
            return self._rest
        from kserve_core.runtimes.caikit.grpc import Grpc

        return Grpc()

    def _call(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        model: str,
        read: Callable[[dict[str, Any]], T],
        headers: Mapping[str, str],
    ) -> AnyCall[T]:
        call: AnyCall[T] = self._wire.call(
            task, inputs, parameters, model=model, read=read, headers=headers, known=self._names()
        )
        return call

    def _task(
        self,
        task: Task,
        inputs: Mapping[str, Any],
        parameters: Mapping[str, Any],
        *,
        model: str | None,
        read: Callable[[dict[str, Any], str], T],
        headers: Mapping[str, str],
    ) -> Exchange[T]:
        """A plain call if the model is known, else a flow that finds it first."""

        def call(name: str) -> AnyCall[T]:
            reader = partial(_with_model, read, name)
            return self._call(task, inputs, parameters, model=name, read=reader, headers=headers)

        def flow() -> Flow[T]:
            name = yield from self._model(model)
            return (yield from self._send(call(name), name))

        name = model or self.model
        return call(name) if name is not None else flow()

    def _model(self, model: str | None) -> Flow[str]:
        name = model or self.model
        if name:
            return name
        try:
            models = yield from self.models()
        except ModelNotFoundError:
            raise
        except (NotFoundError, PermissionDeniedError) as error:
            msg = "Caikit has no default model, and the server does not list its models."
            raise ConfigurationError(msg, hint="Give the model's name as model=....") from error
        self.model, self._found = pick(models), True
        return self.model

    def _names(self) -> list[str]:
        return [model.id for model in self._known]

    def _send(self, call: AnyCall[T], model: str) -> Flow[T]:
        """Runs a call; if the model turns out not to be there, asks which ones are, once."""
        try:
            result: T = yield call
        except ModelNotFoundError as error:
            yield from self._help(error, model)
            raise
        return result

    def _send_all(self, calls: Sequence[AnyCall[T]], model: str) -> Flow[list[T]]:
        """Runs calls side by side; the first that failed fails all."""
        outcomes: list[T | KServeError] = yield Parallel(calls=calls)
        answers: list[T] = []
        for outcome in outcomes:
            if isinstance(outcome, ModelNotFoundError):
                yield from self._help(outcome, model)
            if isinstance(outcome, KServeError):
                raise outcome
            answers.append(outcome)
        return answers

    def _help(self, error: ModelNotFoundError, model: str) -> Flow[None]:
        """Adds the names of the models there are to an error."""
        if model == self.model and self._found:
            self.model = None  # another model is there by now: look again next time
            self._known = ()
        if not self._known:
            try:
                yield from self.models()
            except ResponseError:
                return
            if self._known:
                error.hint = known_hint(model, self._names())

    def _without(self, what: str, hint: str) -> NoReturn:
        msg = f"Caikit's tokenization does not know {what}."
        raise UnsupportedParameterError(msg, hint=hint)


def _has_loaded(model: str | None, raw: dict[str, Any]) -> bool:
    loaded = [info.id for info in read_models(raw) if is_loaded(info)]
    return model in loaded if model else bool(loaded)


def _nothing(value: T) -> Flow[T]:
    """A flow that asks nothing."""
    return value
    yield


def _with_model(read: Callable[[dict[str, Any], str], T], model: str, raw: dict[str, Any]) -> T:
    return read(raw, model)


def _read_one(raw: dict[str, Any], *, reading: Reading) -> tuple[Generation, dict[str, Any]]:
    return read_generation(raw, reading=reading), raw
