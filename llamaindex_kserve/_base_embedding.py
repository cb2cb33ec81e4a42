"""The base class of embedding models: it drives any runtime."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import Any, ClassVar

from llama_index.core.base.embeddings.base import BaseEmbedding, Embedding
from llama_index.core.storage.kvstore.types import BaseKVStore
from pydantic import Field, PrivateAttr

from kserve_core.batching import embed_all
from kserve_core.calls import Flow
from kserve_core.capabilities import EmbeddingRequest
from kserve_core.errors import ConfigurationError
from kserve_core.types import EmbeddingResult
from llamaindex_kserve._bounded import RunState, run_together, task_scope
from llamaindex_kserve._connection import ConnectionMixin
from llamaindex_kserve._embedding_cache import ScopedCache, query_lookup, scope

_UNNAMED = "unknown"
"""What the framework calls a model without a name."""

_MAKES_THE_VECTOR = frozenset(
    {"base_url", "model", "dimensions", "truncate", "query_instruction", "text_instruction", "extra_body"}
)


def _undecorated(method: Callable[..., Any]) -> Callable[..., Any]:
    """The framework's method without its span, so that an override calling it makes one span and not two."""
    raw: Callable[..., Any] = getattr(method, "__wrapped__", method)
    return raw


_get_query_embedding = _undecorated(BaseEmbedding.get_query_embedding)
_aget_query_embedding = _undecorated(BaseEmbedding.aget_query_embedding)
_aget_text_embedding_batch = _undecorated(BaseEmbedding.aget_text_embedding_batch)


class KServeEmbedding(ConnectionMixin, BaseEmbedding):
    """Embeds texts with any runtime that has embeddings; use the class of your runtime.

    The framework hands over `embed_batch_size` texts at a time: one pair of events, one step of a progress bar.
    They are sent in requests of `request_batch_size` texts, `max_concurrency` of them in flight, blocking and
    async alike; async batches share that bound, however many of them the framework starts at once.
    A request the server finds too large is halved. When one request fails for good, the rest are not sent.

    For large ingestions use `IngestionPipeline.arun`: it needs no worker processes to keep the endpoint busy.
    `run(num_workers=...)` works too, with every setting of this object in each worker. Where the Internet is out of
    reach, set `TIKTOKEN_CACHE_DIR` to the `_static/tiktoken_cache` folder of the installed `llama_index/core` first:
    the framework's splitters otherwise look for their vocabulary there, and the pipeline waits for ever.
    """

    model: str | None = Field(
        default=None,
        exclude=True,
        description="The model's name, when the endpoint serves several; `model_name` is the same thing.",
    )
    truncate: int | None = Field(
        default=None,
        ge=-1,
        description="Cut longer texts to this many tokens; -1 for the model's own limit. Without it they are errors.",
    )
    query_instruction: str = Field(default="", description="Put in front of every query, exactly as given.")
    text_instruction: str = Field(default="", description="Put in front of every passage, exactly as given.")
    extra_body: Mapping[str, Any] = Field(
        default_factory=dict, description="Sent along with every request as given, over everything else."
    )
    embed_batch_size: int = Field(
        default=512, gt=0, le=2048, exclude=True, description="Texts per step: one pair of events, then the next."
    )
    request_batch_size: int = Field(
        default=64, gt=0, exclude=True, description="Texts per request; never more than `embed_batch_size`."
    )
    max_concurrency: int = Field(
        default=8,
        gt=0,
        exclude=True,
        description="Requests in flight at once: per call when blocking, per event loop when async.",
    )
    num_workers: int | None = Field(
        default=None, exclude=True, description="Steps the framework starts at once when async; no need to set it."
    )
    embeddings_cache: Any = Field(
        default=None,
        exclude=True,
        repr=False,
        description="A key-value store that keeps vectors. Models, settings, queries and passages are told apart.",
    )

    _state: RunState = PrivateAttr(default_factory=RunState)

    _vector_fields: ClassVar[tuple[str, ...]] = ()
    """Further fields of a runtime's class that the vectors depend on."""

    def __init__(self, *args: Any, **data: Any) -> None:
        model, model_name = data.get("model"), data.get("model_name")
        if model_name == _UNNAMED:
            model_name = None
        if model and model_name and model != model_name:
            msg = f"model={model!r} and model_name={model_name!r} are two names for the same thing; give one."
            raise ConfigurationError(msg)
        name = model or model_name
        super().__init__(*args, **{**data, "model": name, "model_name": name or _UNNAMED})
        self._scope_cache()

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "model_name":
            name, value = "model", None if value == _UNNAMED else value
        super().__setattr__(name, value)
        if name == "model":
            super().__setattr__("model_name", value or _UNNAMED)
        if name in _MAKES_THE_VECTOR or name in self._vector_fields or name == "embeddings_cache":
            self._scope_cache()

    @property
    def _length(self) -> int | None:
        """The length asked for, where the runtime's class has a field for it."""
        length: int | None = getattr(self, "dimensions", None)
        return length

    def _scope_cache(self) -> None:
        cache = self.__dict__.get("embeddings_cache")
        if cache is None:
            return
        store: BaseKVStore = cache.store if isinstance(cache, ScopedCache) else cache
        source = self.model or f"served by {self.base_url}"
        identity = [source, self._length, self.truncate, dict(self.extra_body)]
        if self._vector_fields:
            identity.append(self.model_dump(include=set(self._vector_fields)))
        self.__dict__["embeddings_cache"] = ScopedCache(
            store,
            query_scope=scope([*identity, self.query_instruction]),
            text_scope=scope([*identity, self.text_instruction]),
        )

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps and events."""
        return cls.__name__

    def to_payload(self) -> dict[str, Any]:
        """What events and callbacks are told about this model; never a credential or a header."""
        payload = super().to_payload()
        client = self._cell.client
        model = self.model or (client.runtime.model if client is not None else None)
        payload["model_name"] = payload["model"] = model or _UNNAMED
        if self._length is not None:
            payload["dimensions"] = self._length
        return payload

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """What makes this model's vectors what they are, and nothing else: no credential, no connection setting.

        The ingestion cache hashes it. A model without a name is told by its endpoint's URL.
        """
        data = super().to_dict(**kwargs)
        if self.model is None:
            data["base_url"] = self.base_url
        return data

    # -- requests -----------------------------------------------------------------------------------------

    def _flow(self, texts: Sequence[str], concurrency: int) -> Flow[EmbeddingResult]:
        batch_size = min(self.request_batch_size, self._state.largest_batch or self.request_batch_size)
        answered: list[int] = []
        result = yield from embed_all(
            self.client.runtime,
            texts,
            model=self.model,
            dimensions=self._length,
            truncate=self.truncate,
            batch_size=batch_size,
            concurrency=concurrency,
            on_progress=answered.append,
            extra_body=self.extra_body,
        )
        largest = max(answered, default=batch_size)
        if largest < min(batch_size, len(texts)):
            self._state.largest_batch = largest  # larger ones were refused: the next requests need not try
        return result

    def _about(self, texts: Sequence[str]) -> EmbeddingRequest:
        return EmbeddingRequest(texts=texts, model=self.model, dimensions=self._length)

    def _embed(self, texts: Sequence[str], *, concurrency: int = 1) -> list[Embedding]:
        return self.client.run(self._flow(texts, concurrency), about=self._about(texts)).embeddings

    async def _aembed(self, texts: Sequence[str], *, acquire: bool = False) -> list[Embedding]:
        gate, once = self._state.gate(self.max_concurrency)
        async with gate:
            if acquire and self.rate_limiter is not None:
                await self.rate_limiter.async_acquire()
            client = self.client
            if self.model is None and client.runtime.model is None:
                async with once:
                    await client.arun(client.runtime.resolve_model())
            return (await client.arun(self._flow(texts, 1), about=self._about(texts))).embeddings

    def _slices(self, texts: Sequence[str]) -> list[Sequence[str]]:
        size = self.request_batch_size
        return [texts[start : start + size] for start in range(0, len(texts), size)]

    def _embed_rate_limited(self, texts: Sequence[str]) -> list[Embedding]:
        # The framework has asked the limiter for the first request already.
        futures: list[Future[list[Embedding]]] = []
        with ThreadPoolExecutor(self.max_concurrency, thread_name_prefix="kserve-embed") as pool:
            try:
                for position, part in enumerate(self._slices(texts)):
                    if position:
                        self.rate_limiter.acquire()  # type: ignore[union-attr]
                    if any(future.done() and future.exception() for future in futures):
                        break
                    futures.append(pool.submit(copy_context().run, self._embed, part))
                return [vector for future in futures for vector in future.result()]
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    # -- what the framework calls -------------------------------------------------------------------------

    def _get_query_embedding(self, query: str) -> Embedding:
        return self._embed([self.query_instruction + query])[0]

    async def _aget_query_embedding(self, query: str) -> Embedding:
        return (await self._aembed([self.query_instruction + query]))[0]

    def _get_text_embedding(self, text: str) -> Embedding:
        return self._embed([self.text_instruction + text])[0]

    async def _aget_text_embedding(self, text: str) -> Embedding:
        return (await self._aembed([self.text_instruction + text]))[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        prefixed = [self.text_instruction + text for text in texts]
        if self.rate_limiter is not None and len(prefixed) > self.request_batch_size:
            return self._embed_rate_limited(prefixed)
        return self._embed(prefixed, concurrency=self.max_concurrency)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[Embedding]:
        # The framework has asked the limiter for the first request already, unless it came here through the cache.
        asked = 0 if self.embeddings_cache else 1
        jobs: list[Callable[[], Awaitable[list[Embedding]]]] = [
            partial(self._aembed, part, acquire=position >= asked)
            for position, part in enumerate(self._slices([self.text_instruction + text for text in texts]))
        ]
        parts = await run_together(jobs)
        return [vector for part in parts for vector in part]

    def get_query_embedding(self, query: str) -> Embedding:
        """Embeds a query, with `query_instruction` in front.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        with query_lookup():
            vector: Embedding = _get_query_embedding(self, query)
        return vector

    async def aget_query_embedding(self, query: str) -> Embedding:
        """Embeds a query, with `query_instruction` in front.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        with query_lookup():
            vector: Embedding = await _aget_query_embedding(self, query)
        return vector

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[Embedding]:
        """Embeds passages, `max_concurrency` requests at a time; the first failure stops the rest.

        Raises:
            KServeError: If the endpoint cannot be reached or refuses.
        """
        async with task_scope():
            vectors: list[Embedding] = await _aget_text_embedding_batch(self, texts, show_progress, **kwargs)
        return vectors
