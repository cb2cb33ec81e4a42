"""Tokens of texts and conversations, counted by the served model's own tokenizer."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.base.llms.types import ChatMessage

from kserve_core.types import Tokenization
from llamaindex_kserve._connection import ConnectionMixin

if TYPE_CHECKING:
    from kserve_core.calls import Exchange


class TokenCounting(ConnectionMixin):
    """Counts tokens with what `_tokenization` asks for."""

    def tokenize(self, text: str) -> list[int]:
        """The text's tokens as the served model sees them; one request.

        Fits where LlamaIndex wants a tokenizer: `Settings.tokenizer = llm.tokenize`.

        Raises:
            UnsupportedParameterError: If the runtime cannot tell.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return _ids(self.client.run(self._tokenization(text)))

    async def atokenize(self, text: str) -> list[int]:
        """Like `tokenize`.

        Raises:
            UnsupportedParameterError: If the runtime cannot tell.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return _ids(await self.client.arun(self._tokenization(text)))

    def count_tokens(self, content: str | Sequence[ChatMessage], **kwargs: Any) -> int:
        """How many tokens a text or a conversation takes, the chat template's own included.

        Args:
            content: The text or the messages.
            **kwargs: Arguments a call would get, `tools` among them: tools take tokens too.

        Raises:
            UnsupportedParameterError: If the runtime cannot tell.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return self.client.run(self._tokenization(content, kwargs)).count

    async def acount_tokens(self, content: str | Sequence[ChatMessage], **kwargs: Any) -> int:
        """Like `count_tokens`.

        Raises:
            UnsupportedParameterError: If the runtime cannot tell.
            KServeError: If the endpoint cannot be reached or refuses.
        """
        return (await self.client.arun(self._tokenization(content, kwargs))).count

    def _tokenization(
        self, content: str | Sequence[ChatMessage], kwargs: Mapping[str, Any] | None = None
    ) -> "Exchange[Tokenization]":
        """What asks for the tokens of a text or of a conversation."""
        raise NotImplementedError


def _ids(tokens: Tokenization) -> list[int]:
    return tokens.token_ids or list(range(tokens.count))
