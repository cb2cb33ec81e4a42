"""The text generation service of TGIS as a runtime: the classic server and the vLLM-backed one, over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from kserve_core.calls import Exchange, Flow, GrpcCall, GrpcStreamCall
from kserve_core.capabilities import ChatRequest, TextRequest
from kserve_core.errors import ConfigurationError, NotFoundError, ServerError, UnsupportedParameterError
from kserve_core.grpc_health import health_call
from kserve_core.protos import messages
from kserve_core.runtimes.checks import check_texts
from kserve_core.runtimes.tgis.constraints import KINDS, constraint_of
from kserve_core.runtimes.tgis.errors import explain
from kserve_core.runtimes.tgis.generate import read_generations
from kserve_core.runtimes.tgis.info import read_model_info, read_tokens, tokenize_request
from kserve_core.runtimes.tgis.params import checked, to_message
from kserve_core.runtimes.tgis.stream import GenerationDecoder
from kserve_core.types import GenerationChunk, ModelInfo, TextResult, Tokenization

T = TypeVar("T")

SERVICE = "fmaas.GenerationService"


class TGISRuntime:
    """Speaks to a server with TGIS's gRPC service: the classic one, or vLLM with the TGIS adapter.

    It completes text. A conversation needs a chat template (`kserve_core.templated.TemplatedChat`), and there are no
    tools. Without any sampling parameter the server decodes greedily; `temperature`, `top_k`, `top_p`, `typical_p` or
    `seed` make it sample, `temperature=0` makes it greedy whatever else is set.

    Answers can be constrained, but the classic server does not know guided decoding and skips it without a word.

    It holds no connection. Instances pickle, and may be shared between threads.

    Args:
        model: The model's name. The server itself serves one model and ignores the name; it is sent for what stands
            in front of it (`mm-model-id` is what ModelMesh routes by), and is the name on results.
        adapter_id: The adapter (LoRA, prompt tuning) requests use when they name none (parameter `adapter_id`).
        prefix_id: The same for the classic server's prompt prefixes (parameter `prefix_id`).
        protocol: There is `grpc` only.
        base_path: The path of the base URL; gRPC has none.

    Raises:
        ConfigurationError: If another protocol, or a path, is given.
    """

    name: str = "TGIS"
    supports_constraints: frozenset[str] = KINDS

    def __init__(
        self,
        *,
        model: str | None = None,
        adapter_id: str | None = None,
        prefix_id: str | None = None,
        protocol: str = "grpc",
        base_path: str = "",
    ) -> None:
        if protocol != "grpc":
            msg = f"TGIS speaks gRPC, not {protocol!r}."
            hint = "Leave `protocol` out. The vLLM-backed server speaks vLLM's REST API as well: see the vLLM classes."
            raise ConfigurationError(msg, hint=hint)
        if base_path.strip("/"):
            msg = f"TGIS speaks gRPC, which has no paths: {base_path!r} does not belong into the base URL."
            raise ConfigurationError(msg, hint="Give base_url='grpcs://host:port', or grpc:// without TLS.")
        self.model = model
        self.adapter_id = adapter_id
        self.prefix_id = prefix_id
        self._info: dict[str | None, ModelInfo] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(model={self.model!r})"

    # --- text ---------------------------------------------------------------------------------------------------

    def generate(self, request: TextRequest) -> GrpcCall[TextResult]:
        """All prompts of the request, in one batch."""
        prompts = request.prompts
        check_texts("prompt", prompts)
        given = checked(request.params)
        body = messages.fmaas.BatchedGenerationRequest(
            requests=[messages.fmaas.GenerationRequest(text=prompt) for prompt in prompts],
            params=_parameters(given, request),
        )
        model = self._address(body, request.model, given)
        return self._call(
            "Generate",
            body,
            messages.fmaas.BatchedGenerationResponse,
            partial(
                read_generations,
                prompts=len(prompts),
                stops=tuple(body.params.stopping.stop_sequences),
                keep_stop=body.params.stopping.include_stop_sequence,
                model=model,
            ),
            model=model,
            headers=request.headers,
        )

    def stream_generate(self, request: TextRequest) -> GrpcStreamCall[GenerationChunk]:
        """One prompt's completion in pieces."""
        prompts = request.prompts
        check_texts("prompt", prompts)
        if len(prompts) != 1:
            msg = f"A stream takes one prompt, not {len(prompts)}."
            raise ConfigurationError(msg)
        given = checked(request.params)
        params = _parameters(given, request)
        body = messages.fmaas.SingleGenerationRequest(
            request=messages.fmaas.GenerationRequest(text=prompts[0]), params=params
        )
        model = self._address(body, request.model, given)
        return GrpcStreamCall(
            method=f"/{SERVICE}/GenerateStream",
            request=body,
            response_type=messages.fmaas.GenerationResponse,
            decoder=partial(
                GenerationDecoder,
                model=model,
                stops=tuple(params.stopping.stop_sequences),
                keep_stop=params.stopping.include_stop_sequence,
                details=params.response.generated_tokens or params.response.input_tokens,
                include_usage=request.include_usage,
            ),
            metadata=_metadata(model, request.headers),
            explain=explain,
        )

    # --- tokens -------------------------------------------------------------------------------------------------

    def tokenize(
        self, text: str, *, model: str | None = None, add_special_tokens: bool = True
    ) -> GrpcCall[Tokenization]:
        """How many tokens a text is, and their texts (vocabulary pieces); the service gives no token ids.

        Args:
            text: The text.
            model: The model whose tokenizer is meant.
            add_special_tokens: Whether to count what the tokenizer puts around a text; if not, the tokens of an empty
                text are asked for as well, and taken off.
        """
        name = model or self.model
        texts = [text] if add_special_tokens else [text, ""]
        body = tokenize_request(texts, model=name, adapter_id=self.adapter_id, prefix_id=self.prefix_id)
        read = partial(read_tokens, bare=not add_special_tokens)
        return self._call("Tokenize", body, messages.fmaas.BatchedTokenizeResponse, read, model=name)

    def tokenize_messages(self, request: ChatRequest) -> Exchange[Tokenization]:  # noqa: ARG002
        """A conversation has tokens only with a chat template; see `kserve_core.templated.TemplatedChat`.

        Raises:
            UnsupportedParameterError: Always.
        """
        msg = "TGIS completes text and knows no conversations."
        raise UnsupportedParameterError(msg, hint="Give a chat_template=... to count a conversation's tokens.")

    def detokenize(self, token_ids: Sequence[int], *, model: str | None = None) -> Exchange[str]:  # noqa: ARG002
        """The service has no token ids.

        Raises:
            UnsupportedParameterError: Always.
        """
        msg = "TGIS has no token ids, so it cannot turn them into text."
        raise UnsupportedParameterError(msg, hint="Use the model's own tokenizer.")

    # --- about the server ---------------------------------------------------------------------------------------

    def models(self) -> Flow[list[ModelInfo]]:
        """The one model served; its `id` is the name this was made with, because the server does not tell."""
        info = yield from self.model_info()
        return [info]

    def model_info(self, model: str | None = None) -> Flow[ModelInfo]:
        """The model's context window and token limit; asked once."""
        name = model or self.model
        known = self._info.get(name)
        if known is not None:
            return known
        info: ModelInfo = yield self._model_info(name)
        self._info[name] = info
        return info

    def resolve_model(self, model: str | None = None) -> Flow[str | None]:
        """The name to send, which may be none; nothing is asked."""
        return model or self.model
        yield  # a flow that asks nothing

    def version(self) -> Exchange[str]:
        """The service does not tell its version.

        Raises:
            UnsupportedParameterError: Always.
        """
        msg = "TGIS does not tell its version."
        raise UnsupportedParameterError(msg, hint="See the image of its pod.")

    def health(self) -> Flow[bool]:
        """Whether the server can answer requests.

        The classic server has no health service; being told about the model stands in for it. Anything else than a
        plain no, such as a refused connection or token, is raised.
        """
        metadata = _metadata(self.model, {})
        try:
            return bool((yield health_call(SERVICE, metadata=metadata)))
        except NotFoundError:
            yield self._model_info(self.model)
        except ServerError:
            return False
        return True

    def probe(self) -> GrpcCall[bool]:
        """Asks for the model's facts, which both kinds of server tell as soon as they can answer."""
        body = messages.fmaas.ModelInfoRequest(model_id=self.model or "")
        return self._call("ModelInfo", body, messages.fmaas.ModelInfoResponse, _is_there, model=self.model)

    # --- shared -------------------------------------------------------------------------------------------------

    def _model_info(self, model: str | None) -> GrpcCall[ModelInfo]:
        body = messages.fmaas.ModelInfoRequest(model_id=model or "")
        read = partial(read_model_info, model=model)
        return self._call("ModelInfo", body, messages.fmaas.ModelInfoResponse, read, model=model)

    def _address(self, body: Any, model: str | None, given: Mapping[str, Any]) -> str | None:
        """Writes into a request what it is for, and returns the model's name."""
        name = model or self.model
        if name:
            body.model_id = name
        adapter_id, prefix_id = given.get("adapter_id", self.adapter_id), given.get("prefix_id", self.prefix_id)
        if adapter_id:
            body.adapter_id = adapter_id
        if prefix_id:
            body.prefix_id = prefix_id
        return name

    def _call(
        self,
        method: str,
        body: Any,
        response_type: Any,
        read: Callable[[Any], T],
        *,
        model: str | None,
        headers: Mapping[str, str] | None = None,
    ) -> GrpcCall[T]:
        return GrpcCall(
            method=f"/{SERVICE}/{method}",
            request=body,
            response_type=response_type,
            read=read,
            metadata=_metadata(model, headers or {}),
            explain=explain,
        )


def _is_there(_: Any) -> bool:
    return True


def _parameters(given: Mapping[str, Any], request: TextRequest) -> messages.fmaas.Parameters:
    return to_message(given, constraint_of(request.constraint, request.params), request.extra_body)


def _metadata(model: str | None, headers: Mapping[str, str]) -> dict[str, str]:
    """The metadata of a request; its id is also what the server's log calls the request by."""
    metadata = {name.lower(): value for name, value in headers.items()}
    if "x-request-id" in metadata:
        metadata.setdefault("x-correlation-id", metadata["x-request-id"])
    if model and model.isascii() and model.isprintable():
        metadata.setdefault("mm-model-id", model)
    return metadata
