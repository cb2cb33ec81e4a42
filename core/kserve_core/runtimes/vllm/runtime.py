"""vLLM's server as a runtime: every capability the frameworks can use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, TypeVar

from kserve_core._json import decode_object, encode, unexpected
from kserve_core.calls import Call, ErrorReader, Exchange, Flow, Response, StreamCall
from kserve_core.capabilities import ChatRequest, EmbeddingRequest, OutputConstraint, RerankRequest, TextRequest
from kserve_core.errors import (
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    ResponseError,
    ServerError,
)
from kserve_core.runtimes.model_names import find_model
from kserve_core.runtimes.vllm.chat import chat_body, read_chat
from kserve_core.runtimes.vllm.chat_stream import ChatDecoder
from kserve_core.runtimes.vllm.completions import CompletionDecoder, completion_body, read_completion
from kserve_core.runtimes.vllm.constraints import constraint_of, needs_version, parse_version
from kserve_core.runtimes.vllm.embeddings import embeddings_body, read_embeddings
from kserve_core.runtimes.vllm.errors import Task, explain, known_models_hint, model_not_found
from kserve_core.runtimes.vllm.models import pick_served, read_models
from kserve_core.runtimes.vllm.paths import Paths
from kserve_core.runtimes.vllm.rerank import read_ranking, rerank_body
from kserve_core.runtimes.vllm.tokenize import messages_body, read_text, read_tokens
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

T = TypeVar("T")

_VERSION = "a version"

_JSON = {"content-type": "application/json", "accept": "application/json"}
_EVENTS = {"content-type": "application/json", "accept": "text/event-stream"}


class VLLMRuntime:
    """Speaks to a vLLM server (any of its builds: NVIDIA, AMD, Gaudi, CPU), 0.8 and later.

    It holds no connection; what it learns about the server (which model is served, the version, where reranking is)
    is kept on the instance. Instances pickle, and may be shared between threads.

    Args:
        base_path: The path of the base URL; see `kserve_core.runtimes.vllm.paths` for how it is read.
        model: The model that requests go to when they name none; a LoRA adapter is named like a model. None asks the
            server once which model it serves, which it must tell unambiguously.
        strict_stream: Whether a stream must have both, a finish reason for every choice and `[DONE]` at its end. False
            is for gateways that swallow one of them: the other is enough then. A stream with neither raises either
            way.
        embedding_encoding: How vectors are asked for; `float` is for gateways that do not know `base64`.
        server_version: The server's version, if it is known; otherwise it is asked for when a request depends on it.
    """

    name: str = "vLLM"
    supports_constraints: frozenset[str] = frozenset({"json_schema", "json_object", "regex", "choice", "grammar"})

    def __init__(
        self,
        *,
        base_path: str = "",
        model: str | None = None,
        strict_stream: bool = True,
        embedding_encoding: Literal["base64", "float"] = "base64",
        server_version: str | None = None,
    ) -> None:
        self.paths = Paths.of(base_path)
        self.model = model
        self.strict_stream = strict_stream
        self.embedding_encoding = embedding_encoding
        self._version = server_version
        self._known: tuple[ModelInfo, ...] = ()
        self._found = False  # whether `model` is what the server said and not what the user gave
        self._unlisted = False  # whether the endpoint was asked for its models and has no list
        self._rerank_path: str | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_path={self.paths.api!r}, model={self.model!r})"

    # --- chat ---------------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> Flow[ChatResult]:
        """One whole answer."""
        model = yield from self.resolve_model(request.model)
        version = yield from self._version_for("chat", request)
        body = chat_body(request, model=model, version=version, stream=False)
        return (
            yield from self._send(
                Call(
                    method="POST",
                    path=f"{self.paths.api}/chat/completions",
                    body=encode(body),
                    headers={**_JSON, **request.headers},
                    read=partial(read_chat, one_call=request.parallel_tool_calls is False),
                    explain=self._explain("chat", model),
                ),
                model,
            )
        )

    def stream_chat(self, request: ChatRequest) -> Flow[StreamCall[ChatDelta]]:
        """An answer in pieces."""
        model = yield from self.resolve_model(request.model)
        version = yield from self._version_for("chat", request)
        body = chat_body(request, model=model, version=version, stream=True)
        return StreamCall(
            method="POST",
            path=f"{self.paths.api}/chat/completions",
            body=encode(body),
            headers={**_EVENTS, **request.headers},
            decoder=partial(
                ChatDecoder,
                strict=self.strict_stream,
                model=model,
                one_call=request.parallel_tool_calls is False,
            ),
            explain=self._explain("chat", model),
        )

    # --- text ---------------------------------------------------------------------------------------------------

    def generate(self, request: TextRequest) -> Flow[TextResult]:
        """All prompts of the request, in one answer."""
        model = yield from self.resolve_model(request.model)
        version = yield from self._version_for("completion", request)
        body = completion_body(request, model=model, version=version, stream=False)
        return (
            yield from self._send(
                Call(
                    method="POST",
                    path=f"{self.paths.api}/completions",
                    body=encode(body),
                    headers={**_JSON, **request.headers},
                    read=partial(read_completion, prompts=len(request.prompts), n=body.get("n") or 1),
                    explain=self._explain("completion", model),
                ),
                model,
            )
        )

    def stream_generate(self, request: TextRequest) -> Flow[StreamCall[GenerationChunk]]:
        """One prompt's completion in pieces."""
        model = yield from self.resolve_model(request.model)
        version = yield from self._version_for("completion", request)
        body = completion_body(request, model=model, version=version, stream=True)
        return StreamCall(
            method="POST",
            path=f"{self.paths.api}/completions",
            body=encode(body),
            headers={**_EVENTS, **request.headers},
            decoder=partial(CompletionDecoder, strict=self.strict_stream, model=model),
            explain=self._explain("completion", model),
        )

    # --- embeddings and reranking -------------------------------------------------------------------------------

    def embed(self, request: EmbeddingRequest) -> Call[EmbeddingResult]:
        """One batch of vectors.

        Without a known model the request names none, which a vLLM server takes as the one it serves; a gateway in
        front may not, so `resolve_model` comes first.
        """
        model = request.model or self.model
        body = embeddings_body(request, model=model, encoding=self.embedding_encoding)
        return Call(
            method="POST",
            path=f"{self.paths.api}/embeddings",
            body=encode(body),
            headers={**_JSON, **request.headers},
            read=partial(read_embeddings, count=len(request.texts), dimensions=request.dimensions),
            explain=self._explain("embedding", model),
        )

    def rerank(self, request: RerankRequest) -> Exchange[Ranking]:
        """One batch of documents; a plain `Call` once it is known where the server reranks."""
        model = request.model or self.model
        if not request.documents:
            return self._no_documents()
        if self._rerank_path is not None and model is not None:
            return self._rerank_call(request, model, self._rerank_path)
        return self._find_rerank(request)

    def _no_documents(self) -> Flow[Ranking]:
        return Ranking([])
        yield  # a flow that asks nothing

    def _find_rerank(self, request: RerankRequest) -> Flow[Ranking]:
        model = yield from self.resolve_model(request.model)
        if self._rerank_path is not None:
            return (yield from self._send(self._rerank_call(request, model, self._rerank_path), model))
        paths = self.paths.rerank()
        missing = NotFoundError("The server has no route for reranking.", status=404)
        for path in paths:
            answer = yield from self._try_rerank(self._rerank_call(request, model, path), model)
            if isinstance(answer, Ranking):
                self._rerank_path = path
                return answer
            missing = answer
        missing.hint = (
            f"None of {', '.join(paths)} is there: either the served model is not for reranking (a cross-encoder or "
            "an embedding model is), or the path of the base URL is wrong."
        )
        raise missing

    def _try_rerank(self, call: Call[Ranking], model: str | None) -> Flow[Ranking | NotFoundError]:
        try:
            return (yield from self._send(call, model))
        except ModelNotFoundError:
            raise
        except NotFoundError as error:
            return error

    def _rerank_call(self, request: RerankRequest, model: str | None, path: str) -> Call[Ranking]:
        return Call(
            method="POST",
            path=path,
            body=encode(rerank_body(request, model=model, path=path)),
            headers={**_JSON, **request.headers},
            read=partial(read_ranking, count=len(request.documents), top_n=request.top_n),
            explain=self._explain("rerank", model),
        )

    # --- tokens -------------------------------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True, token_strings: bool = False
    ) -> Flow[Tokenization]:
        """The tokens of a text.

        Args:
            text: The text.
            model: The model whose tokenizer is meant.
            add_special_tokens: Whether to count what the tokenizer puts around a text.
            token_strings: Ask for the tokens' text as well (vocabulary pieces; from 0.9).
        """
        name = yield from self.resolve_model(model)
        body: dict[str, Any] = {"prompt": text, "add_special_tokens": add_special_tokens}
        if token_strings:
            body["return_token_strs"] = True
        return (yield from self._token_call("tokenize", body, name, read_tokens))

    def tokenize_messages(self, request: ChatRequest) -> Flow[Tokenization]:
        """The tokens of a conversation as the model would see it, tools included."""
        name = yield from self.resolve_model(request.model)
        body = messages_body(request, model=name)
        return (yield from self._token_call("tokenize", body, name, read_tokens, request.headers))

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Flow[str]:
        """The text of tokens; special tokens are kept in it."""
        name = yield from self.resolve_model(model)
        return (yield from self._token_call("detokenize", {"tokens": list(token_ids)}, name, read_text))

    def _token_call(
        self,
        endpoint: str,
        body: dict[str, Any],
        model: str | None,
        read: Callable[[Response], T],
        headers: Mapping[str, str] | None = None,
    ) -> Flow[T]:
        if model:
            body["model"] = model
        call = Call(
            method="POST",
            path=f"{self.paths.server}/{endpoint}",
            body=encode(body),
            headers={**_JSON, **(headers or {})},
            read=read,
            explain=self._explain("tokenize", model),
        )
        return (yield from self._send(call, model))

    # --- about the server ---------------------------------------------------------------------------------------

    def models(self) -> Flow[list[ModelInfo]]:
        """The models served, LoRA adapters included; asked anew every time."""
        models: list[ModelInfo] = yield self._get(f"{self.paths.api}/models", read_models)
        self._known = tuple(models)
        return models

    def model_info(self, model: str | None = None) -> Flow[ModelInfo]:
        """One model: the named one, or the one requests go to. The server is asked about one not seen before only.

        Raises:
            ModelNotFoundError: If the server lists no such model.
        """
        name = model or self.model
        return (yield from find_model(name, self._known, self.models, pick=pick_served, missing=model_not_found))

    def resolve_model(self, model: str | None = None) -> Flow[str | None]:
        """The name to send: the given one, the runtime's, or the one the server serves.

        None if the endpoint does not list its models; requests then name none.

        Raises:
            ConfigurationError: If several models are served.
        """
        if model or self.model or self._unlisted:
            return model or self.model
        try:
            models = yield from self.models()
        except ModelNotFoundError:
            raise
        except (NotFoundError, PermissionDeniedError):
            self._unlisted = True
            return None
        self.model, self._found = pick_served(models), True
        return self.model

    def version(self) -> Flow[str]:
        """The server's version, for example `0.11.0+rhai1`."""
        version: str = yield self._get(f"{self.paths.server}/version", _read_version)
        self._version = version
        return version

    def health(self) -> Flow[bool]:
        """Whether the server can answer requests.

        Where `/health` is not routed, listing the models stands in for it. Anything else than a plain no, such as a
        refused connection or token, is raised.
        """
        try:
            yield self._get(f"{self.paths.server}/health", _read_nothing, retry=False)
        except NotFoundError:
            yield from self.models()
        except ServerError:
            return False
        return True

    def probe(self) -> Call[bool]:
        """Asks whether a model is there yet.

        It asks for the list of models, not for `/health`: that is routed wherever requests are, and the server opens
        its port only when the model is loaded, so either says the same.
        """
        return self._get(f"{self.paths.api}/models", _read_nothing, retry=False)

    # --- shared -------------------------------------------------------------------------------------------------

    def _get(self, path: str, read: Callable[[Response], T], *, retry: bool = True) -> Call[T]:
        return Call(
            method="GET",
            path=path,
            headers={"accept": "application/json"},
            read=read,
            explain=self._explain("info", None),
            retry=retry,
        )

    def _explain(self, task: Task, model: str | None) -> ErrorReader:
        return explain(task, model=model, known=[info.id for info in self._known])

    def _send(self, call: Call[T], model: str | None) -> Flow[T]:
        """Runs a call; if the model turns out to be unknown, asks which ones there are, once."""
        try:
            result: T = yield call
        except ModelNotFoundError as error:
            if model == self.model and self._found:
                self.model = None  # another model is served by now: look again next time
                self._known = ()
            if not self._known and model:
                try:
                    models = yield from self.models()
                except ResponseError:
                    models = []
                if models:
                    error.hint = known_models_hint(model, [info.id for info in models])
            raise
        return result

    def _version_for(
        self, task: Literal["chat", "completion"], request: ChatRequest | TextRequest
    ) -> Flow[tuple[int, int] | None]:
        """The server's version, asked for only if the request depends on it; None if it does not tell."""
        constraint: OutputConstraint | None = constraint_of(request.constraint, request.params, request.extra_body)
        if not needs_version(task, constraint):
            return None
        if self._version is None:
            try:
                return parse_version((yield from self.version()))
            except ResponseError:
                return None
        return parse_version(self._version)


def _read_version(response: Response) -> str:
    version = decode_object(response, _VERSION).get("version")
    if not isinstance(version, str):
        raise unexpected(_VERSION, "it has no `version`", status=response.status)
    return version


def _read_nothing(response: Response) -> bool:
    return 200 <= response.status < 300
