"""Which runtimes the conformance suites run over: one entry each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CAPABILITIES = ("chat", "text", "embedding", "rerank")


@dataclass(frozen=True)
class Entry:
    """A runtime, the classes that speak to it and what it can do.

    Attributes:
        key: Names the runtime in test ids and in the targets file.
        langchain: Class names in `langchain_kserve`, by capability: `chat`, `llm`, `embeddings`, `rerank`.
        llamaindex: Class names in `llamaindex_kserve`, by capability: `llm`, `embedding`, `rerank`.
        features: What the runtime can do; a real target's own list goes before it.
        wire: Which of its wires the development server speaks at its own port (`vllm`, `caikit`, `triton`, ...).
        path: What the runtime's base URL has behind the development server's.
        models: The development server's models by capability, where they are not one and the same.
        grpc: The attribute of the development server that has the gRPC URL, where the runtime is reached by that.
        chat: What its chat classes have to be told besides the connection.
        vectors: The same for its classes of embeddings and reranking.
        example_url: A URL of the form it takes, for tests that never connect.
    """

    key: str
    langchain: Mapping[str, str] = field(default_factory=dict, hash=False)
    llamaindex: Mapping[str, str] = field(default_factory=dict, hash=False)
    features: frozenset[str] = frozenset()
    wire: str = "vllm"
    path: str = ""
    models: Mapping[str, str] = field(default_factory=dict, hash=False)
    grpc: str | None = None
    chat: Mapping[str, Any] = field(default_factory=dict, hash=False)
    vectors: Mapping[str, Any] = field(default_factory=dict, hash=False)
    example_url: str = "https://model.example.com/v1"

    def suite(self, class_name: str) -> str:
        """The name of the suite for one of the classes, which several entries may have."""
        which = "OfKServe" if self.key.startswith("kserve") else ""
        return f"Test{class_name}{which}{'OverGrpc' if self.key.endswith('-grpc') else ''}"


_CAIKIT_LANGCHAIN = {
    "chat": "ChatCaikit",
    "llm": "CaikitLLM",
    "embeddings": "CaikitEmbeddings",
    "rerank": "CaikitRerank",
}
_CAIKIT_LLAMAINDEX = {"llm": "CaikitLLM", "embedding": "CaikitEmbedding", "rerank": "CaikitRerank"}
_CAIKIT_FEATURES = frozenset(
    {
        "usage",
        "finish_reason",
        "stream_errors",
        "truncate",
        "logprobs",
        "stop",
        "tokenize",
        "tokenize_chat",
        "similarity",  # compares sentences without handing out vectors
        "model_names",
        "models",
        "scripted",
    }
)

_V2_MODELS = {"embedding": "tiny-embedding", "rerank": "tiny-rerank"}
_TEMPLATED = {"chat_template": "chatml", "max_tokens": 256}
_TRITON_LANGCHAIN = {
    "chat": "ChatTriton",
    "llm": "TritonLLM",
    "embeddings": "TritonEmbeddings",
    "rerank": "TritonRerank",
}
_TRITON_LLAMAINDEX = {"llm": "TritonLLM", "embedding": "TritonEmbedding", "rerank": "TritonRerank"}
_TRITON_FEATURES = frozenset(
    {
        "usage",
        "finish_reason",
        "stream_errors",
        "truncate",
        "logprobs",
        "choices",
        "stop",
        "model_names",
        "models",
        "scripted",
    }
)
_MLSERVER_LANGCHAIN = {
    "chat": "ChatMLServer",
    "llm": "MLServerLLM",
    "embeddings": "MLServerEmbeddings",
    "rerank": "MLServerRerank",
}
_MLSERVER_LLAMAINDEX = {"llm": "MLServerLLM", "embedding": "MLServerEmbedding", "rerank": "MLServerRerank"}
_MLSERVER_FEATURES = frozenset({"truncate", "stop", "model_names", "models", "scripted"})
_KSERVE_LANGCHAIN = {name: _MLSERVER_LANGCHAIN[name] for name in ("embeddings", "rerank")}
_KSERVE_LLAMAINDEX = {name: _MLSERVER_LLAMAINDEX[name] for name in ("embedding", "rerank")}

RUNTIMES: tuple[Entry, ...] = (
    Entry(
        key="vllm",
        path="/v1",
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
                "structured_text",  # completions in a form too, be it that the prompt asks for it
                "json_mode",
                "images",
                "usage",
                "usage_cached",
                "usage_reasoning",
                "finish_reason",  # tells why a completion ended
                "stream_errors",  # tells why a stream failed
                "other_forms",  # a regex, a choice, a grammar; and forms in text completion
                "truncate",  # cuts a text that is too long
                "tokenize_chat",  # counts the tokens of conversations
                "logprobs",
                "reasoning",
                "choices",  # n > 1
                "stop",
                "tokenize",
                "token_ids",  # tells the ids of tokens, not only how many there are
                "top_logprobs",  # tells the probabilities of tokens that were not chosen
                "model_names",  # knows its models by name
                "models",  # lists what it serves
                "text_batching",  # several prompts in one completion request
                "scripted",  # answers the scripted prompts word for word at temperature 0
            }
        ),
    ),
    Entry(
        key="caikit",
        langchain=_CAIKIT_LANGCHAIN,
        llamaindex=_CAIKIT_LLAMAINDEX,
        features=_CAIKIT_FEATURES,
        wire="caikit",
        chat={"chat_template": "chatml", "max_tokens": 256},
        example_url="https://model.example.com",
    ),
    Entry(
        key="caikit-grpc",
        langchain=_CAIKIT_LANGCHAIN,
        llamaindex=_CAIKIT_LLAMAINDEX,
        features=_CAIKIT_FEATURES,
        wire="caikit",
        grpc="caikit_grpc_url",
        chat={"chat_template": "chatml", "max_tokens": 256},
        example_url="grpcs://model.example.com:443",
    ),
    Entry(
        key="tgis",
        langchain={"chat": "ChatTGIS", "llm": "TGISLLM"},
        llamaindex={"llm": "TGISLLM"},
        features=frozenset(
            {
                "structured_output",
                "structured_text",
                "json_mode",
                "usage",
                "finish_reason",
                "stream_errors",
                "other_forms",
                "logprobs",
                "top_logprobs",
                "stop",
                "tokenize",
                "tokenize_chat",
                "text_batching",
                "scripted",
            }
        ),
        grpc="tgis_url",
        chat={"chat_template": "chatml", "max_tokens": 256},
        example_url="grpcs://model.example.com:443",
    ),
    Entry(
        key="triton",
        langchain=_TRITON_LANGCHAIN,
        llamaindex=_TRITON_LLAMAINDEX,
        features=_TRITON_FEATURES,
        wire="triton",
        models=_V2_MODELS,
        chat=_TEMPLATED,
        example_url="https://model.example.com",
    ),
    Entry(
        key="triton-grpc",
        langchain=_TRITON_LANGCHAIN,
        llamaindex=_TRITON_LLAMAINDEX,
        features=_TRITON_FEATURES,
        wire="triton",
        models=_V2_MODELS,
        grpc="v2_grpc_url",
        chat=_TEMPLATED,
        example_url="grpcs://model.example.com:443",
    ),
    Entry(
        key="mlserver",
        langchain=_MLSERVER_LANGCHAIN,
        llamaindex=_MLSERVER_LLAMAINDEX,
        features=_MLSERVER_FEATURES,
        wire="mlserver",
        models=_V2_MODELS,
        chat=_TEMPLATED,
        example_url="https://model.example.com",
    ),
    Entry(
        key="mlserver-grpc",
        langchain=_MLSERVER_LANGCHAIN,
        llamaindex=_MLSERVER_LLAMAINDEX,
        features=_MLSERVER_FEATURES | {"stream_errors"},
        wire="mlserver",
        models=_V2_MODELS,
        grpc="v2_grpc_url",
        chat=_TEMPLATED,
        example_url="grpcs://model.example.com:443",
    ),
    Entry(
        key="openvino",
        langchain={
            "chat": "ChatOpenVINO",
            "llm": "OpenVINOLLM",
            "embeddings": "OpenVINOEmbeddings",
            "rerank": "OpenVINORerank",
        },
        llamaindex={"llm": "OpenVINOLLM", "embedding": "OpenVINOEmbedding", "rerank": "OpenVINORerank"},
        features=frozenset(
            {
                "tools",
                "tool_choice",
                "parallel_tools",
                "structured_output",
                "structured_text",
                "json_mode",
                "images",
                "usage",
                "finish_reason",
                "stream_errors",
                "reasoning",
                "choices",
                "stop",
                "tokenize",
                "token_ids",
                "model_names",
                "models",
                "scripted",
            }
        ),
        wire="openvino",
        path="/v3",
        example_url="https://model.example.com/v3",
    ),
    Entry(
        key="openvino-grpc",  # tensors only
        langchain={"embeddings": "OpenVINOEmbeddings", "rerank": "OpenVINORerank"},
        llamaindex={"embedding": "OpenVINOEmbedding", "rerank": "OpenVINORerank"},
        features=frozenset({"model_names", "truncate"}),
        wire="openvino",
        models=_V2_MODELS,
        grpc="v2_grpc_url",
        example_url="grpcs://model.example.com:443",
    ),
    Entry(
        key="kserve",  # the server of KServe's SDK
        langchain=_KSERVE_LANGCHAIN,
        llamaindex=_KSERVE_LLAMAINDEX,
        features=frozenset({"model_names", "models", "truncate"}),
        wire="kserve",
        models=_V2_MODELS,
        vectors={"server": "kserve"},
        example_url="https://model.example.com",
    ),
    Entry(
        key="kserve-grpc",
        langchain=_KSERVE_LANGCHAIN,
        llamaindex=_KSERVE_LLAMAINDEX,
        features=frozenset({"model_names", "truncate"}),
        wire="kserve",
        models=_V2_MODELS,
        grpc="v2_grpc_url",
        vectors={"server": "kserve"},
        example_url="grpcs://model.example.com:443",
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
