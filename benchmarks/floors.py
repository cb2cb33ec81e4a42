"""The floors: the wire alone, the frameworks alone, and the smallest class that joins the two.

`wire`: httpx, bytes split into lines, orjson; what any client over httpx pays. `framework`: a model that does nothing
but hand out ready chunks. `smallest`: the least code that makes a LangChain or LlamaIndex model of the wire; it has no
errors, no options, no retries, no usage, and is here only to be compared with.
"""

from __future__ import annotations

import base64
from array import array
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import orjson
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from llama_index.core.base.llms.types import ChatMessage, ChatResponse, LLMMetadata, MessageRole
from llama_index.core.llms import CustomLLM
from llama_index.core.llms.callbacks import llm_chat_callback

JSON = {"content-type": "application/json"}


class Wire:
    """Chat and embeddings over httpx and orjson, nothing else."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = httpx.Client(timeout=60)
        self._async: httpx.AsyncClient | None = None

    def fresh_async(self, limit: int = 200) -> httpx.AsyncClient:
        """A client for the running event loop; every measured run has a loop of its own."""
        limits = httpx.Limits(max_connections=limit, max_keepalive_connections=limit)
        self._async = httpx.AsyncClient(timeout=60, limits=limits)
        return self._async

    @staticmethod
    def body(model: str, *, stream: bool) -> bytes:
        return orjson.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream})

    @property
    def path(self) -> str:
        return f"{self.url}/v1/chat/completions"

    def call(self, model: str) -> str:
        answer = self.client.post(self.path, content=self.body(model, stream=False), headers=JSON)
        return orjson.loads(answer.content)["choices"][0]["message"]["content"]

    async def acall(self, model: str) -> str:
        answer = await self._async.post(self.path, content=self.body(model, stream=False), headers=JSON)
        return orjson.loads(answer.content)["choices"][0]["message"]["content"]

    def stream(self, model: str) -> Iterator[str]:
        rest = b""
        with self.client.stream("POST", self.path, content=self.body(model, stream=True), headers=JSON) as answer:
            for data in answer.iter_bytes():
                *lines, rest = (rest + data).split(b"\n\n")
                for line in lines:
                    if (text := piece(line)) is not None:
                        yield text

    async def astream(self, model: str) -> AsyncIterator[str]:
        rest = b""
        body = self.body(model, stream=True)
        async with self._async.stream("POST", self.path, content=body, headers=JSON) as answer:
            async for data in answer.aiter_bytes():
                *lines, rest = (rest + data).split(b"\n\n")
                for line in lines:
                    if (text := piece(line)) is not None:
                        yield text

    def embed(self, texts: list[str], model: str) -> list[list[float]]:
        body = orjson.dumps({"model": model, "input": texts, "encoding_format": "base64"})
        answer = orjson.loads(self.client.post(f"{self.url}/v1/embeddings", content=body, headers=JSON).content)
        return [array("f", base64.b64decode(row["embedding"])).tolist() for row in answer["data"]]


def piece(line: bytes) -> str | None:
    """The text of one event, None for one without."""
    if line.startswith(b"data: {"):
        choices = orjson.loads(line[6:])["choices"]
        return choices[0]["delta"].get("content") if choices else None
    return None


class LangChainFloor(BaseChatModel):
    """langchain-core by itself: ready chunks, no network."""

    count: int = 100

    @property
    def _llm_type(self) -> str:
        return "floor"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(" word" * self.count))])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        for _ in range(self.count):
            yield ChatGenerationChunk(message=AIMessageChunk(content=" word"))

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        for _ in range(self.count):
            yield ChatGenerationChunk(message=AIMessageChunk(content=" word"))


class LangChainSmallest(LangChainFloor):
    """The smallest LangChain model over the wire."""

    wire: Any
    name_: str = ""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(self.wire.call(self.name_)))])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage(await self.wire.acall(self.name_)))])

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Iterator[Any]:
        for text in self.wire.stream(self.name_):
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        async for text in self.wire.astream(self.name_):
            yield ChatGenerationChunk(message=AIMessageChunk(content=text))


def _answer(text: str, delta: str | None = None) -> ChatResponse:
    return ChatResponse(message=ChatMessage(role=MessageRole.ASSISTANT, content=text), delta=delta)


class LlamaIndexFloor(CustomLLM):
    """llama-index-core by itself: ready pieces, no network."""

    count: int = 100

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(is_chat_model=True)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        raise NotImplementedError

    def pieces(self) -> Iterator[str]:
        for _ in range(self.count):
            yield " word"

    async def apieces(self) -> AsyncIterator[str]:
        for _ in range(self.count):
            yield " word"

    def whole(self) -> str:
        return " word" * self.count

    async def awhole(self) -> str:
        return " word" * self.count

    @llm_chat_callback()
    def chat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return _answer(self.whole())

    @llm_chat_callback()
    async def achat(self, messages: Any, **kwargs: Any) -> ChatResponse:
        return _answer(await self.awhole())

    @llm_chat_callback()
    def stream_chat(self, messages: Any, **kwargs: Any) -> Any:
        def gen() -> Iterator[ChatResponse]:
            text = ""
            for delta in self.pieces():
                text += delta
                yield _answer(text, delta)

        return gen()

    @llm_chat_callback()
    async def astream_chat(self, messages: Any, **kwargs: Any) -> Any:
        async def gen() -> AsyncIterator[ChatResponse]:
            text = ""
            async for delta in self.apieces():
                text += delta
                yield _answer(text, delta)

        return gen()


class LlamaIndexSmallest(LlamaIndexFloor):
    """The smallest LlamaIndex model over the wire."""

    wire: Any
    name_: str = ""

    def pieces(self) -> Iterator[str]:
        return self.wire.stream(self.name_)

    def apieces(self) -> AsyncIterator[str]:
        return self.wire.astream(self.name_)

    def whole(self) -> str:
        return self.wire.call(self.name_)

    async def awhole(self) -> str:
        return await self.wire.acall(self.name_)
