"""OpenVINO Model Server's OpenAI-style endpoints: chat, completions, embeddings, reranking, token counts.

They are vLLM's but for what is written in the modules here, from the server's documentation (2026): the server could
not be run for this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

from kserve_core import hints
from kserve_core._json import decode_object, encode, unexpected
from kserve_core.batching import joined, rerank_all
from kserve_core.calls import AnyCall, Call, ErrorReader, Exchange, Flow, Parallel, Response, StreamCall
from kserve_core.capabilities import ChatRequest, EmbeddingRequest, RerankRequest, TextRequest
from kserve_core.errors import ConfigurationError, KServeError, NotFoundError, ServerError, UnsupportedParameterError
from kserve_core.runtimes.model_names import find_model
from kserve_core.runtimes.open_inference.base import OpenInferenceRuntime
from kserve_core.runtimes.open_inference.dialects import OPENVINO
from kserve_core.runtimes.openvino.errors import Task, explain, model_not_found
from kserve_core.runtimes.openvino.params import wire_form, wire_params
from kserve_core.runtimes.openvino.paths import Paths
from kserve_core.runtimes.openvino.stream import WithoutStops
from kserve_core.runtimes.vllm.chat import chat_body, read_chat
from kserve_core.runtimes.vllm.chat_stream import ChatDecoder
from kserve_core.runtimes.vllm.completions import CompletionDecoder, completion_body, read_completion
from kserve_core.runtimes.vllm.embeddings import embeddings_body, read_embeddings
from kserve_core.runtimes.vllm.models import pick_served
from kserve_core.runtimes.vllm.paths import Paths as VLLMPaths
from kserve_core.runtimes.vllm.rerank import read_ranking, rerank_body
from kserve_core.runtimes.vllm.runtime import VLLMRuntime
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

MAX_INPUTS = 1024
"""Most texts of one embedding request, unless the server was told another number."""
MAX_DOCUMENTS = 100
"""Most documents of one reranking request, unless the server was told another number."""

_JSON = {"content-type": "application/json", "accept": "application/json"}
_EVENTS = {"content-type": "application/json", "accept": "text/event-stream"}
_WHAT = "a list of tokens"


class OpenVINOGenerative(VLLMRuntime):
    """Speaks to the `/v3` endpoints of an OpenVINO Model Server; over REST only.

    Answers have no id, and the server does not tell a model's context window.

    Args:
        base_path: The path of the base URL; see `kserve_core.runtimes.openvino.paths`.
        model: The model that requests go to when they name none. None asks the server once which one it has.
        strict_stream: As for `VLLMRuntime`.
        embedding_encoding: How vectors are asked for.
        about: What asks the server about itself, by the Open Inference Protocol.
    """

    name = "OpenVINO Model Server"
    supports_constraints = frozenset({"json_schema", "json_object"})

    def __init__(
        self,
        *,
        base_path: str = "",
        model: str | None = None,
        strict_stream: bool = True,
        embedding_encoding: Literal["base64", "float"] = "base64",
        about: OpenInferenceRuntime | None = None,
    ) -> None:
        own = Paths.of(base_path)
        super().__init__(
            base_path="",
            model=model,
            strict_stream=strict_stream,
            embedding_encoding=embedding_encoding,
        )
        self.paths = VLLMPaths(api=own.api, server=own.root)
        self._about = about or OpenInferenceRuntime(base_path=own.root, dialect=OPENVINO)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_path={self.paths.api!r}, model={self.model!r})"

    # --- chat ---------------------------------------------------------------------------------------------------

    def chat(self, request: ChatRequest) -> Flow[ChatResult]:
        """One whole answer."""
        model = yield from self.resolve_model(request.model)
        body = self._chat_body(request, model, stream=False)
        read = partial(read_chat, one_call=request.parallel_tool_calls is False)
        call = self._post("chat/completions", body, read, task="chat", model=model, headers=request.headers)
        result: ChatResult = yield from self._send(call, model)
        return result

    def stream_chat(self, request: ChatRequest) -> Flow[StreamCall[ChatDelta]]:
        """An answer in pieces, the same as a whole one."""
        model = yield from self.resolve_model(request.model)
        body = self._chat_body(request, model, stream=True)
        stops = _stops(body)
        strict, one_call = self.strict_stream, request.parallel_tool_calls is False

        def decoder() -> Any:
            inner = ChatDecoder(strict=strict, model=model, one_call=one_call)
            return WithoutStops(inner, stops) if stops else inner

        return self._stream("chat/completions", body, decoder, task="chat", model=model, headers=request.headers)

    def _chat_body(self, request: ChatRequest, model: str, *, stream: bool) -> dict[str, Any]:
        given = {
            **wire_params("chat", request.params, stream=stream),
            **wire_form("chat", request.constraint, request.params, request.extra_body),
            **request.extra_body,
        }
        plain = ChatRequest(
            messages=request.messages,
            tools=request.tools,
            tool_choice=request.tool_choice,
            # The server has no parallel_tool_calls: where one call is wanted the first one is kept here.
            include_usage=request.include_usage,
            extra_body=given,
        )
        return chat_body(plain, model=model, version=None, stream=stream)

    # --- text ---------------------------------------------------------------------------------------------------

    def generate(self, request: TextRequest) -> Flow[TextResult]:
        """All prompts of the request, sent side by side: the server takes one at a time."""
        model = yield from self.resolve_model(request.model)
        calls = [self._completion_call(request, prompt, model) for prompt in request.prompts]
        if not calls:
            msg = "At least one prompt is needed."
            raise ConfigurationError(msg)
        if len(calls) == 1:
            return (yield from self._send(calls[0], model))
        outcomes: list[TextResult | KServeError] = yield Parallel(calls=calls)
        answers: list[TextResult] = []
        for outcome in outcomes:
            if isinstance(outcome, KServeError):
                raise outcome
            answers.append(outcome)
        return joined(answers)

    def stream_generate(self, request: TextRequest) -> Flow[StreamCall[GenerationChunk]]:
        """One prompt's completion in pieces, the same as a whole one."""
        model = yield from self.resolve_model(request.model)
        body = self._completion_body(request, request.prompts, model, stream=True)
        stops, strict = _stops(body), self.strict_stream

        def decoder() -> Any:
            inner = CompletionDecoder(strict=strict, model=model)
            return WithoutStops(inner, stops) if stops else inner

        return self._stream("completions", body, decoder, task="completion", model=model, headers=request.headers)

    def _completion_call(self, request: TextRequest, prompt: str, model: str) -> Call[TextResult]:
        body = self._completion_body(request, [prompt], model, stream=False)
        read = partial(read_completion, prompts=1, n=body.get("n") or 1)
        return self._post("completions", body, read, task="completion", model=model, headers=request.headers)

    def _completion_body(
        self, request: TextRequest, prompts: Sequence[str], model: str, *, stream: bool
    ) -> dict[str, Any]:
        given = {
            **wire_params("completion", request.params, stream=stream),
            **wire_form("completion", request.constraint, request.params, request.extra_body),
            **request.extra_body,
        }
        plain = TextRequest(prompts=prompts, include_usage=request.include_usage, extra_body=given)
        return completion_body(plain, model=model, version=None, stream=stream)

    # --- embeddings and reranking -------------------------------------------------------------------------------

    def embed(self, request: EmbeddingRequest) -> Call[EmbeddingResult]:
        """One batch of vectors. The model must be known; see `resolve_model`.

        Raises:
            ConfigurationError: If it is not, there are more texts than `embedding_limit`, or something is no text.
            UnsupportedParameterError: If another vector length, or cutting, is asked for.
        """
        model = request.model or self.model
        if model is None:
            msg = f"{self.name} has to be told the model, and it is not known yet."
            raise ConfigurationError(msg, hint="Run resolve_model() first.")
        _refuse_truncate(request.truncate)
        if request.dimensions is not None:
            msg = f"{self.name} cannot shorten vectors."
            raise UnsupportedParameterError(msg, hint="Leave dimensions out.")
        if len(request.texts) > MAX_INPUTS:
            msg = f"{self.name} takes {MAX_INPUTS} texts in one request, not {len(request.texts)}."
            raise ConfigurationError(msg, hint="Send fewer at once; embed_all cuts longer lists.")
        body = embeddings_body(request, model=model, encoding=self.embedding_encoding)
        read = partial(read_embeddings, count=len(request.texts), dimensions=None)
        return self._post("embeddings", body, read, task="embedding", model=model, headers=request.headers)

    def embedding_limit(self, model: str | None = None) -> int | None:  # noqa: ARG002 - the same for all models
        """Most texts of one request."""
        return MAX_INPUTS

    def rerank(self, request: RerankRequest) -> Exchange[Ranking]:
        """One batch of documents, or several requests for more than `rerank_limit`; a plain call once it can be.

        Raises:
            UnsupportedParameterError: If documents are to be cut.
        """
        _refuse_truncate(request.truncate)
        documents = list(request.documents)
        model = request.model or self.model
        if not documents:
            return self._no_documents()
        if model is None or len(documents) > MAX_DOCUMENTS:
            return rerank_all(
                self,
                request.query,
                documents,
                model=request.model,
                top_n=request.top_n,
                batch_size=MAX_DOCUMENTS,
                extra_body=request.extra_body,
                headers=request.headers,
            )
        body = rerank_body(request, model=model, path="/rerank")
        read = partial(read_ranking, count=len(documents), top_n=request.top_n)
        return self._post("rerank", body, read, task="rerank", model=model, headers=request.headers)

    def rerank_limit(self, model: str | None = None) -> int | None:  # noqa: ARG002 - the same for all models
        """Most documents of one request."""
        return MAX_DOCUMENTS

    # --- tokens -------------------------------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True, token_strings: bool = False
    ) -> Flow[Tokenization]:
        """The tokens of a text; see `VLLMRuntime.tokenize`.

        Raises:
            UnsupportedParameterError: If the tokens' text is asked for.
        """
        if token_strings:
            msg = f"{self.name} tells the ids of tokens, not their text."
            raise UnsupportedParameterError(msg, hint="Leave token_strings out.")
        name = yield from self.resolve_model(model)
        body = {"model": name, "text": text, "add_special_tokens": add_special_tokens}
        call = self._post("tokenize", body, _read_tokens, task="tokenize", model=name, headers={})
        tokens: Tokenization = yield from self._send(call, name)
        return tokens

    def tokenize_messages(self, request: ChatRequest) -> Flow[Tokenization]:  # noqa: ARG002
        """Not possible: the server counts the tokens of texts only."""
        msg = f"{self.name} does not count the tokens of conversations."
        raise UnsupportedParameterError(msg, hint="Count the messages' texts with tokenize().")

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Flow[str]:  # noqa: ARG002
        """Not possible: the server has no such endpoint."""
        msg = f"{self.name} does not turn tokens back into text."
        raise UnsupportedParameterError(msg)

    # --- about the server ---------------------------------------------------------------------------------------

    def resolve_model(self, model: str | None = None) -> Flow[str]:
        """The name to send: the given one, the runtime's, or the only one the server has. One is always sent.

        Raises:
            ModelNotFoundError: If the server has none.
            ConfigurationError: If it has several, or does not tell.
        """
        name = yield from super().resolve_model(model)
        if name is None:
            if not (yield from self._about.is_there()):
                msg = f"No {self.name} seems to answer at this URL: it has neither a list of models nor /v2."
                raise ConfigurationError(msg, hint=f"{hints.DOCTOR} If it is one, give the model's name as model=....")
            msg = f"{self.name} does not list its models here, so `model` has to be given."
            raise ConfigurationError(msg, hint="Give the model's name as model=....")
        return name

    def model_info(self, model: str | None = None) -> Flow[ModelInfo]:
        """One model: the named one, or the one requests go to. A context window is not told.

        Raises:
            ModelNotFoundError: If the server lists no such model.
        """
        name = model or self.model
        return (yield from find_model(name, self._known, self.models, pick=pick_served, missing=model_not_found))

    def version(self) -> Flow[str]:
        """The server's version."""
        return (yield from self._about.version())

    def health(self) -> Flow[bool]:
        """Whether the model, or without one the server, can answer.

        Where the Open Inference Protocol is not routed or knows no graphs, the list of models stands in for it.
        """
        try:
            return bool((yield self.probe()))
        except NotFoundError:
            models = yield from self.models()
            return self.model is None or any(info.id == self.model for info in models)
        except ServerError:
            return False

    def probe(self) -> AnyCall[bool]:  # type: ignore[override]
        """Asks whether the model is there yet."""
        self._about.model = self.model
        return self._about.probe()

    # --- shared -------------------------------------------------------------------------------------------------

    def _post(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        read: Any,
        *,
        task: Task,
        model: str,
        headers: Mapping[str, str],
    ) -> Call[Any]:
        return Call(
            method="POST",
            path=f"{self.paths.api}/{endpoint}",
            body=encode(body),
            headers={**_JSON, **headers},
            read=read,
            explain=self._explain(task, model),
        )

    def _stream(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        decoder: Any,
        *,
        task: Task,
        model: str,
        headers: Mapping[str, str],
    ) -> StreamCall[Any]:
        return StreamCall(
            method="POST",
            path=f"{self.paths.api}/{endpoint}",
            body=encode(body),
            headers={**_EVENTS, **headers},
            decoder=decoder,
            explain=self._explain(task, model),
        )

    def _explain(self, task: Any, model: str | None) -> ErrorReader:
        return explain(task, model=model, known=[info.id for info in self._known])


def _stops(body: Mapping[str, Any]) -> tuple[str, ...]:
    """The stop texts to take off a stream; none if they are wanted in it."""
    if body.get("include_stop_str_in_output"):
        return ()
    stops = body.get("stop") or ()
    return (stops,) if isinstance(stops, str) else tuple(stops)


def _refuse_truncate(tokens: int | None) -> None:
    if tokens is not None:
        msg = "OpenVINO Model Server cuts no texts under /v3."
        raise UnsupportedParameterError(msg, hint="Leave truncate out and split long texts.")


def _read_tokens(response: Response) -> Tokenization:
    ids = decode_object(response, _WHAT).get("tokens")
    if not isinstance(ids, list) or not all(type(token) is int for token in ids):
        raise unexpected(_WHAT, "it has no `tokens`", status=response.status)
    return Tokenization(len(ids), ids)
