"""The generative routes: what the vLLM wire answers, taken in and given out as OpenVINO's server does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any, NoReturn

import orjson

from kserve_core.devserver import tokens
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.settings import Settings
from kserve_core.devserver.wires.vllm.chat import Chat
from kserve_core.devserver.wires.vllm.chat_stream import DONE
from kserve_core.devserver.wires.vllm.completions import Completions
from kserve_core.devserver.wires.vllm.context import Context
from kserve_core.devserver.wires.vllm.embeddings import Embeddings
from kserve_core.devserver.wires.vllm.errors import ApiError
from kserve_core.devserver.wires.vllm.ranking import Ranking

MAX_STOPS, MAX_INPUTS, MAX_DOCUMENTS, MAX_BODY = 4, 1024, 100, 2_000_000

_SHARED = frozenset(
    {
        "model",
        "stream",
        "stream_options",
        "temperature",
        "top_p",
        "top_k",
        "max_tokens",
        "max_completion_tokens",
        "n",
        "seed",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "repetition_penalty",
        "ignore_eos",
        "include_stop_str_in_output",
        "logprobs",
    }
)
_CHAT = _SHARED | {
    "messages",
    "tools",
    "tool_choice",
    "response_format",
    "chat_template_kwargs",
}
_COMPLETION = _SHARED | {"prompt", "echo"}
_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


class Generative:
    """The generative routes of one server.

    Members of a request that the server does not know are left aside, as the server does.

    Args:
        settings: The server, with the version of the vLLM wire that answers behind it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context = context = Context(settings)
        self._chat, self._completions = Chat(context), Completions(context)
        self._embeddings, self._ranking = Embeddings(context), Ranking(context)

    def forget(self) -> None:
        """Forget cached prompts."""
        self._context.cache.clear()

    async def chat(self, request: Request) -> Reply | StreamReply:
        """POST /v3/chat/completions."""
        body = self._read(request, "generate", "messages")
        return await self._generated(self._chat, request, body, _CHAT)

    async def completions(self, request: Request) -> Reply | StreamReply:
        """POST /v3/completions."""
        body = self._read(request, "generate", "prompt")
        if not isinstance(body["prompt"], str):
            _refuse("prompt is not a string")
        return await self._generated(self._completions, request, body, _COMPLETION)

    async def embeddings(self, request: Request) -> Reply:
        """POST /v3/embeddings."""
        if len(request.body) > MAX_BODY:
            _refuse(f"The request body is larger than {MAX_BODY} bytes")
        body = self._read(request, "embed", "input")
        given = body["input"]
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
            _refuse("input should be string or array of strings")
        if len(texts) > MAX_INPUTS:
            _refuse(f"Number of inputs exceeds the limit of {MAX_INPUTS}")
        encoding = body.get("encoding_format", "float")
        if encoding not in {"float", "base64"}:
            _refuse("encoding_format should either be base64 or float")
        limit = self._context.model(body)[0].max_model_len
        longest = max(map(tokens.count, texts))
        if longest > limit:
            _refuse(f"Input length {longest} longer than allowed {limit}")
        kept = {"model": body["model"], "input": texts, "encoding_format": encoding}
        found = orjson.loads((await self._embeddings(_with(request, kept))).body)
        data = [{key: entry[key] for key in ("object", "embedding", "index")} for entry in found["data"]]
        used = found["usage"]["prompt_tokens"]
        usage = {"prompt_tokens": used, "total_tokens": used}
        return json_reply({"object": "list", "data": data, "usage": usage})

    async def rerank(self, request: Request) -> Reply:
        """POST /v3/rerank."""
        body = self._read(request, "score", "query", "documents")
        documents = body["documents"]
        if not isinstance(body["query"], str):
            _refuse("query is not a string")
        if not isinstance(documents, list) or not documents or not all(isinstance(text, str) for text in documents):
            _refuse("documents array is empty or holds something else than strings")
        if len(documents) > MAX_DOCUMENTS:
            _refuse(f"Number of documents exceeds the limit of {MAX_DOCUMENTS}")
        top = body.get("top_n")
        if top is not None and (not isinstance(top, int) or top < 1):
            _refuse("top_n accepts positive integer values")
        kept = {"model": body["model"], "query": body["query"], "documents": documents}
        found = orjson.loads((await self._ranking.rerank(_with(request, kept))).body)
        results = [{key: entry[key] for key in ("index", "relevance_score")} for entry in found["results"][:top]]
        if body.get("return_documents"):
            for entry in results:
                entry["document"] = {"text": documents[entry["index"]]}
        return json_reply({"results": results})

    async def tokenize(self, request: Request) -> Reply:
        """POST /v3/tokenize: the field is `text`, one or several."""
        body = self._read(request, "", "text")
        given = body["text"]
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            _refuse("text should be string or array of strings")
        limit, made = body.get("max_length"), []
        for text in texts:
            ids = tokens.encode(text)[:limit]
            if body.get("pad_to_max_length") and limit:
                padding = [tokens.END_OF_TEXT] * (limit - len(ids))
                ids = padding + ids if body.get("padding_side") == "left" else ids + padding
            made.append(ids)
        return json_reply({"tokens": made[0] if isinstance(given, str) else made})

    def _read(self, request: Request, task: str, *required: str) -> dict[str, Any]:
        """The body, with a model that is there.

        Raises:
            ApiError: It is refused.
        """
        try:
            body = orjson.loads(request.body)
        except orjson.JSONDecodeError as error:
            said = "Cannot parse JSON body"
            raise ApiError(said, status=412) from error
        if not isinstance(body, dict):
            _refuse("JSON body must be an object")
        name = body.get("model")
        if not isinstance(name, str):
            _refuse("model field is missing in JSON body" if name is None else "model field is not a string")
        if name not in self._settings.by_name or (task and task not in self._settings.tasks):
            said = "Mediapipe graph definition with requested name is not found"
            raise ApiError(said, status=404)
        for field in required:
            if body.get(field) is None:
                _refuse(f"{field} missing in request")
        return body

    async def _generated(
        self, handler: Chat | Completions, request: Request, body: dict[str, Any], known: frozenset[str]
    ) -> Reply | StreamReply:
        kept = {key: value for key, value in body.items() if key in known and value is not None}
        stops = kept.get("stop")
        if isinstance(stops, list) and len(stops) > MAX_STOPS:
            _refuse(f"stop array must have no more than {MAX_STOPS} strings")
        if kept.get("stream") and not kept.setdefault("include_stop_str_in_output", True):
            _refuse("include_stop_str_in_output cannot be set to false if streaming is used")
        if kept.get("response_format", {}).get("json_schema", {}).get("schema") == {"type": "object"}:
            kept["response_format"] = {"type": "json_object"}  # any object: one with something in it
        reply = await handler(_with(request, kept))
        if isinstance(reply, StreamReply):
            return StreamReply(_reshaped(reply.pieces), failure=_failure)
        return json_reply(_shaped(orjson.loads(reply.body)))


def _shaped(answer: Mapping[str, Any]) -> dict[str, Any]:
    """An answer, or an event of a stream, without what only vLLM has."""
    made: dict[str, Any] = {"choices": [_choice(choice) for choice in answer["choices"]]}
    made.update({key: answer[key] for key in ("created", "model", "object")})
    if answer.get("usage"):
        made["usage"] = {key: answer["usage"][key] for key in _USAGE}
    return made


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    made = {key: choice[key] for key in ("index", "finish_reason", "logprobs", "text") if key in choice}
    for key in ("message", "delta"):
        if key in choice:
            made[key] = _said(choice[key], streamed=key == "delta")
    return made


def _said(message: Mapping[str, Any], *, streamed: bool) -> dict[str, Any]:
    made = {key: message[key] for key in ("role", "content") if key in message}
    if streamed and made.get("role") and made.get("content") == "":
        made["content"] = None
    if message.get("reasoning"):
        made["reasoning_content"] = message["reasoning"]
    if not streamed or message.get("tool_calls"):
        made["tool_calls"] = message.get("tool_calls") or []
    return made


async def _reshaped(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for piece in pieces:
        if piece == DONE:
            yield piece
        else:
            yield b"data: " + orjson.dumps(_shaped(orjson.loads(piece.removeprefix(b"data: ")))) + b"\n\n"


def _failure(scripted: Mapping[str, Any] | None) -> bytes:
    """A scripted failure in the middle of a stream."""
    said = (scripted or {}).get("message") or "the engine failed in the middle of its answer"
    return b"data: " + orjson.dumps({"error": str(said)}) + b"\n\n"


def _with(request: Request, body: Mapping[str, Any]) -> Request:
    headers = {key: value for key, value in request.headers.items() if key != "content-type"}
    return replace(request, body=orjson.dumps(body), headers=headers)


def _refuse(said: str) -> NoReturn:
    raise ApiError(said)
