"""Every use of every class that reads an answer, and what the development server answers to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from typing import Any

from fuzz.replay import Recording, recording

TEXTS = ["The tower is in Paris.", "Bananas are yellow."]
QUESTION = "Where is the tower?"


def _everything() -> Iterator[tuple[str, str, dict[str, Any], Callable[[Any], Any]]]:
    """Name, class, arguments (with the server named by `{...}`) and use."""
    from llama_index.core.base.llms.types import ChatMessage
    from llama_index.core.schema import NodeWithScore, TextNode

    tool = {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    }
    vllm = {"base_url": "{vllm}/v1", "model": "dev-model"}
    caikit = {"base_url": "{caikit}", "model": "dev-model"}
    over_grpc = {**caikit, "base_url": "{caikit-grpc}"}
    nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
    chat = [ChatMessage(QUESTION)]

    def lc(name: str, cls: str, fields: dict[str, Any], use: Any) -> tuple[str, str, dict[str, Any], Any]:
        return f"langchain {name}", f"langchain_kserve.{cls}", fields, use

    def li(name: str, cls: str, fields: dict[str, Any], use: Any) -> tuple[str, str, dict[str, Any], Any]:
        return f"llamaindex {name}", f"llamaindex_kserve.{cls}", fields, use

    invoke = lambda model: model.invoke(QUESTION)  # noqa: E731
    stream = lambda model: list(model.stream(QUESTION))  # noqa: E731
    embed = lambda model: model.embed_documents(TEXTS)  # noqa: E731
    complete = lambda model: model.complete(QUESTION)  # noqa: E731
    stream_complete = lambda model: list(model.stream_complete(QUESTION))  # noqa: E731
    li_embed = lambda model: model.get_text_embedding_batch(TEXTS)  # noqa: E731
    li_rank = lambda model: model.postprocess_nodes(nodes, query_str=QUESTION)  # noqa: E731

    yield lc("vllm chat", "ChatVLLM", {**vllm, "logprobs": True, "top_logprobs": 2}, invoke)
    yield lc("vllm chat, streamed", "ChatVLLM", {**vllm, "logprobs": True}, stream)
    asks = "What is the weather in Paris?"
    yield lc("vllm tools", "ChatVLLM", vllm, lambda m: m.bind_tools([tool], tool_choice="any").invoke(asks))
    yield lc(
        "vllm tools, streamed", "ChatVLLM", vllm, lambda m: list(m.bind_tools([tool], tool_choice="any").stream(asks))
    )
    yield lc("vllm text", "VLLM", {**vllm, "logprobs": 1}, invoke)
    yield lc("vllm text, streamed", "VLLM", vllm, stream)
    yield lc("vllm embeddings", "VLLMEmbeddings", vllm, embed)
    yield lc("vllm tokens", "ChatVLLM", vllm, lambda model: model.get_num_tokens(QUESTION))
    yield li("vllm chat", "VLLM", vllm, lambda model: model.chat(chat))
    yield li("vllm chat, streamed", "VLLM", vllm, lambda model: list(model.stream_chat(chat)))
    yield li("vllm embedding", "VLLMEmbedding", vllm, li_embed)
    yield li("vllm rerank", "VLLMRerank", vllm, li_rank)
    yield lc("openvino chat", "ChatOpenVINO", {"base_url": "{openvino}", "model": "tiny"}, invoke)
    yield lc("openvino chat, streamed", "ChatOpenVINO", {"base_url": "{openvino}", "model": "tiny"}, stream)
    yield lc("openvino embeddings", "OpenVINOEmbeddings", {"base_url": "{openvino}", "model": "tiny-embedding"}, embed)
    for name, fields in (("caikit", caikit), ("caikit over gRPC", over_grpc)):
        yield lc(f"{name} text", "CaikitLLM", fields, invoke)
        yield lc(f"{name} text, streamed", "CaikitLLM", fields, stream)
        yield lc(f"{name} embeddings", "CaikitEmbeddings", fields, embed)
        yield li(f"{name} rerank", "CaikitRerank", fields, li_rank)
        yield li(f"{name} text", "CaikitLLM", fields, complete)
    yield lc("tgis text", "TGISLLM", {"base_url": "{tgis}", "max_tokens": 20}, invoke)
    yield lc("tgis text, streamed", "TGISLLM", {"base_url": "{tgis}", "max_tokens": 20}, stream)
    yield li("tgis text, streamed", "TGISLLM", {"base_url": "{tgis}", "max_tokens": 20}, stream_complete)
    for server, cls in (
        ("triton", "Triton"),
        ("triton-grpc", "Triton"),
        ("mlserver", "MLServer"),
        ("mlserver-grpc", "MLServer"),
    ):
        model = "tiny-hf" if server.startswith("mlserver") else "tiny"
        text = {"base_url": f"{{{server}}}", "model": model, "max_tokens": 20}
        yield lc(f"{server} text", f"{cls}LLM", text, invoke)
        yield lc(f"{server} text, streamed", f"{cls}LLM", text, stream)
        vectors = {"base_url": f"{{{server}}}", "model": "tiny-embedding"}
        yield lc(f"{server} embeddings", f"{cls}Embeddings", vectors, embed)
        yield li(f"{server} rerank", f"{cls}Rerank", {**vectors, "model": "tiny-rerank"}, li_rank)


NAMES: tuple[str, ...] = tuple(name for name, *_ in _everything())
_USES = {name: (cls, fields, use) for name, cls, fields, use in _everything()}


def use(name: str) -> tuple[Callable[[], Any], Recording]:
    """Something to call that makes an instance and uses it once, and what the server answered to that."""
    return _recorded()[name]


@cache
def _recorded() -> dict[str, tuple[Callable[[], Any], Recording]]:
    """All uses, recorded with servers that are gone afterwards."""
    from kserve_core.devserver import DevServer

    models = ("tiny", "tiny-embedding", "tiny-rerank", "tiny-hf")
    with ExitStack() as stack:
        vllm = stack.enter_context(DevServer(tgis=True))
        caikit = stack.enter_context(DevServer(runtime="caikit", caikit_grpc=True))
        triton = stack.enter_context(DevServer(runtime="triton", models=models, v2_grpc=True))
        mlserver = stack.enter_context(DevServer(runtime="mlserver", models=models, v2_grpc=True))
        openvino = stack.enter_context(DevServer(runtime="openvino", models=models))
        places = {
            "{vllm}": vllm.url,
            "{tgis}": vllm.tgis_url,
            "{caikit}": caikit.url,
            "{caikit-grpc}": caikit.caikit_grpc_url,
            "{triton}": triton.url,
            "{triton-grpc}": triton.v2_grpc_url,
            "{mlserver}": mlserver.url,
            "{mlserver-grpc}": mlserver.v2_grpc_url,
            "{openvino}": openvino.url,
        }
        recorded = {}
        for name, (cls, fields, using) in _USES.items():
            url = fields["base_url"]
            for mark, place in places.items():
                url = url.replace(mark, place)
            run = _runner(cls, {**fields, "base_url": url, "max_retries": 0}, using)
            with recording() as kept:
                run()
            recorded[name] = (run, kept)
    return recorded


def _runner(cls: str, fields: dict[str, Any], using: Callable[[Any], Any]) -> Callable[[], Any]:
    def run() -> Any:
        import langchain_kserve
        import llamaindex_kserve

        module, _, name = cls.partition(".")
        package = langchain_kserve if module == "langchain_kserve" else llamaindex_kserve
        model = getattr(package, name)(**fields)
        try:
            return using(model)
        finally:
            model.close()

    return run
