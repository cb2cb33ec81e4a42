"""A model by the name of its service: the cluster is asked where it is, and which class it needs.

    python examples/from_cluster.py NAME [-n NAMESPACE] [--task llm|embeddings|reranker] [--framework langchain]

Nothing of the runtime is in this program: it runs the same when the service moves to another one. Without a name an
embedded stand-in endpoint is asked which runtime it is instead.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kserve_core.errors import KServeError

QUESTION = "Why is the sky blue?"
TEXTS = ["Air scatters blue light more than red light.", "Bread needs yeast, water and time."]
TEXT_ONLY = ("caikit", "tgis", "triton", "mlserver")
"""Runtimes that only complete text: conversations are written for them, in the format of the model's family."""


def langchain(task: str, chat_format: str, where: dict[str, Any]) -> Any:
    """Makes the LangChain model, and has it do something."""
    from langchain_core.documents import Document

    import langchain_kserve as kserve

    if task == "embeddings":
        vectors = kserve.embeddings(**where)
        print(f"{len(vectors.embed_query(QUESTION))} dimensions")
        return vectors
    if task == "reranker":
        ranker = kserve.reranker(**where)
        for found in ranker.compress_documents([Document(text) for text in TEXTS], QUESTION):
            print(f"{found.metadata['relevance_score']:.3f} {found.page_content}")
        return ranker
    text_only = {runtime: {"chat_template": chat_format} for runtime in TEXT_ONLY}
    model = kserve.chat_model(**where, max_tokens=200, for_runtime=text_only)
    for chunk in model.stream(QUESTION):
        print(chunk.text, end="", flush=True)
    print()
    return model


def llamaindex(task: str, chat_format: str, where: dict[str, Any]) -> Any:
    """The same with LlamaIndex."""
    from llama_index.core.schema import NodeWithScore, TextNode

    import llamaindex_kserve as kserve

    if task == "embeddings":
        vectors = kserve.embedding(**where)
        print(f"{len(vectors.get_query_embedding(QUESTION))} dimensions")
        return vectors
    if task == "reranker":
        ranker = kserve.reranker(**where)
        nodes = [NodeWithScore(node=TextNode(text=text)) for text in TEXTS]
        for found in ranker.postprocess_nodes(nodes, query_str=QUESTION):
            print(f"{found.score:.3f} {found.text}")
        return ranker
    text_only = {runtime: {"chat_template": chat_format} for runtime in TEXT_ONLY}
    llm = kserve.llm(**where, max_tokens=200, for_runtime=text_only)
    for piece in llm.stream_complete(QUESTION):
        print(piece.delta, end="", flush=True)
    print()
    return llm


def main(arguments: Sequence[str] | None = None) -> int:
    """Asks for the service, uses it and shows what was found; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("name", nargs="?", help="the InferenceService's or LLMInferenceService's name")
    parser.add_argument("-n", "--namespace", help="its namespace; else the context's or the pod's own")
    parser.add_argument("--kubeconfig", type=Path)
    parser.add_argument("--context", help="a context of the kubeconfig")
    parser.add_argument("--api-key-file", type=Path, help="a file with the token for the model")
    parser.add_argument("--use-cluster-token", action="store_true", help="send the cluster's token to the model")
    parser.add_argument("--model", help="its name, where the endpoint serves several")
    parser.add_argument("--task", choices=["llm", "embeddings", "reranker"], default="llm")
    parser.add_argument("--chat-format", default="chatml", help="for runtimes that only complete text")
    parser.add_argument("--framework", choices=["langchain", "llamaindex"], default="langchain")
    args = parser.parse_args(arguments)
    run: Callable[[str, str, dict[str, Any]], Any] = langchain if args.framework == "langchain" else llamaindex
    where = {"api_key": args.api_key_file, "model": args.model}
    with contextlib.ExitStack() as stack:
        if args.name is not None:
            where |= {"inference_service": args.name, "namespace": args.namespace}
            where |= {"kubeconfig": args.kubeconfig, "context": args.context}
            where["use_cluster_token"] = args.use_cluster_token
        else:
            from kserve_core.devserver import DevServer

            where["base_url"] = stack.enter_context(DevServer()).origin
        try:
            made = run(args.task, args.chat_format, where)
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
        print(f"\n{type(made).__name__} for\n{made.describe()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
