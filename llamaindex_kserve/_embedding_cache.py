"""Keys for `embeddings_cache` that cannot mix up models, settings, queries and passages."""

import contextlib
import hashlib
import logging
import pickle
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import orjson
from llama_index.core.storage.kvstore.types import DEFAULT_COLLECTION, BaseKVStore

logger = logging.getLogger(__name__)

_embedding_a_query: ContextVar[bool] = ContextVar("kserve_embedding_a_query", default=False)


@contextlib.contextmanager
def query_lookup() -> Iterator[None]:
    """Within it, cache look-ups are for a query's vector instead of a passage's."""
    token = _embedding_a_query.set(True)
    try:
        yield
    finally:
        _embedding_a_query.reset(token)


def scope(identity: Any) -> bytes:
    """Everything besides the text that a vector depends on, as bytes to hash."""
    return orjson.dumps(identity, default=str, option=orjson.OPT_SORT_KEYS)


class ScopedCache(BaseKVStore):
    """A view of the user's store in which a key names what made the vector, not the bare text.

    LlamaIndex looks vectors up by the text alone, so that two models sharing a store, or a query and a passage of
    the same words, get each other's vectors. Here the key is a digest of the model, its settings, the instruction
    and the text. Nothing else changes: values and the collection are the framework's own.

    Attributes:
        store: The store as the user gave it.
    """

    def __init__(self, store: BaseKVStore, *, query_scope: bytes, text_scope: bytes) -> None:
        self.store = store
        self._query_scope = query_scope
        self._text_scope = text_scope

    def _key(self, text: str) -> str:
        prefix = self._query_scope if _embedding_a_query.get() else self._text_scope
        return hashlib.sha256(prefix + b"\0" + text.encode("utf-8", "surrogatepass")).hexdigest()

    def get(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[Any, Any] | None:
        """The cached vector of a text."""
        return self.store.get(self._key(key), collection=collection)

    async def aget(self, key: str, collection: str = DEFAULT_COLLECTION) -> dict[Any, Any] | None:
        """The cached vector of a text."""
        return await self.store.aget(self._key(key), collection=collection)

    def put(self, key: str, val: dict[Any, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Keeps the vector of a text."""
        self.store.put(self._key(key), val, collection=collection)

    async def aput(self, key: str, val: dict[Any, Any], collection: str = DEFAULT_COLLECTION) -> None:
        """Keeps the vector of a text."""
        await self.store.aput(self._key(key), val, collection=collection)

    def delete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Forgets the vector of a text."""
        return self.store.delete(self._key(key), collection=collection)

    async def adelete(self, key: str, collection: str = DEFAULT_COLLECTION) -> bool:
        """Forgets the vector of a text."""
        return await self.store.adelete(self._key(key), collection=collection)

    def get_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[Any, Any]]:
        """All that is kept, by digest."""
        return self.store.get_all(collection=collection)

    async def aget_all(self, collection: str = DEFAULT_COLLECTION) -> dict[str, dict[Any, Any]]:
        """All that is kept, by digest."""
        return await self.store.aget_all(collection=collection)

    def __deepcopy__(self, memo: dict[int, Any]) -> "ScopedCache":
        return ScopedCache(self.store, query_scope=self._query_scope, text_scope=self._text_scope)

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickle.dumps(self.store)
        except Exception as error:  # noqa: BLE001 - anything may be raised by a store's own reducer
            logger.warning("embeddings_cache is left out of the pickle: %s", type(error).__name__)
            return (_no_cache, ())
        return (_rebuild, (self.store, self._query_scope, self._text_scope))


def _rebuild(store: BaseKVStore, query_scope: bytes, text_scope: bytes) -> ScopedCache:
    return ScopedCache(store, query_scope=query_scope, text_scope=text_scope)


def _no_cache() -> None:
    return None
