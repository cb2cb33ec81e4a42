"""Which runtimes the conformance suites run over: one entry each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

CAPABILITIES = ("chat", "text", "embedding", "rerank")


@dataclass(frozen=True)
class Entry:
    """A runtime, the classes that speak to it and what it can do.

    Attributes:
        key: Names the runtime in test ids and in the targets file.
        langchain: Class names in `langchain_kserve`, by capability: `chat`, `llm`, `embeddings`, `rerank`.
        llamaindex: Class names in `llamaindex_kserve`, by capability: `llm`, `embedding`, `rerank`.
        features: What the runtime can do; a real target's own list goes before it.
    """

    key: str
    langchain: Mapping[str, str] = field(default_factory=dict, hash=False)
    llamaindex: Mapping[str, str] = field(default_factory=dict, hash=False)
    features: frozenset[str] = frozenset()


RUNTIMES: tuple[Entry, ...] = (
    Entry(
        key="vllm",
        langchain={
            "chat": "ChatVLLM",
            "llm": "VLLM",
            "embeddings": "VLLMEmbeddings",
            "rerank": "VLLMRerank",
        },
        llamaindex={"llm": "VLLM", "embedding": "VLLMEmbedding", "rerank": "VLLMRerank"},
        features=frozenset(
            {
                "tools",  # tool calls, streamed and whole
                "tool_choice",  # auto, none, required and a named tool
                "parallel_tools",  # two calls in one answer
                "structured_output",  # json_schema, regex, choice, grammar
                "json_mode",
                "images",
                "usage",
                "usage_cached",
                "usage_reasoning",
                "logprobs",
                "reasoning",
                "choices",  # n > 1
                "stop",
                "tokenize",
                "models",  # lists what it serves
                "text_batching",  # several prompts in one completion request
                "scripted",  # answers the scripted prompts word for word at temperature 0
            }
        ),
    ),
)


def entry(key: str) -> Entry:
    """The entry of a runtime.

    Raises:
        KeyError: If the matrix has no such runtime.
    """
    for candidate in RUNTIMES:
        if candidate.key == key:
            return candidate
    msg = f"no runtime {key!r} in the matrix; known: {', '.join(e.key for e in RUNTIMES)}"
    raise KeyError(msg)
