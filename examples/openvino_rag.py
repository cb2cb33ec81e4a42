"""Question answering from OpenVINO Model Server alone: it embeds, ranks, and streams the answer.

    python examples/openvino_rag.py [--framework llamaindex] [--api v2] [--protocol grpc]
    python examples/openvino_rag.py --base-url https://ovms-demo.apps.example.com --api-key … \
        --model qwen3-8b --embedding-model bge --rerank-model bge-reranker
    python examples/openvino_rag.py --base-url https://ovms-demo.apps.example.com --api-key … --model qwen3-8b \
        --tensor-url grpcs://ovms-grpc-demo.apps.example.com:443 --embedding-model bge-ir --tokenizer bge/tokenizer.json

The server has two APIs. Models in a graph (`--task embeddings`, `--task rerank`, and all that write text) take text
under `/v3`. Any other model takes and gives tensors (`/v2`, or gRPC); embedding and ranking models are used that way
with `--api v2` or when `--tensor-url` names a gRPC address. Left out, the server is asked which of the two it is.

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from kserve_core.errors import KServeError

PASSAGES = [
    "OpenVINO Model Server takes its models from a folder, from a configuration file, or from a storage bucket.",
    "The REST port of OpenVINO Model Server is set by --rest_port, and its gRPC port by --port.",
    "The server turns text generation into continuous batches, so many users share one processor.",
    "A token that is read from a file is read again when the file changes.",
]


def with_langchain(settings: dict[str, dict[str, Any]], question: str) -> None:
    """Embeds, searches, ranks and streams the answer."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.vectorstores import InMemoryVectorStore

    from langchain_kserve import ChatOpenVINO, OpenVINOEmbeddings, OpenVINORerank

    embeddings = OpenVINOEmbeddings(**settings["embedding"])
    model = ChatOpenVINO(**settings["chat"], max_tokens=128, temperature=0)
    with embeddings, model:
        store = InMemoryVectorStore.from_texts(PASSAGES, embeddings)
        best = store.similarity_search(question, k=4 if "rerank" in settings else 2)
        if "rerank" in settings:
            with OpenVINORerank(**settings["rerank"], top_n=2) as reranker:
                best = list(reranker.compress_documents(best, question))
        prompt = ChatPromptTemplate.from_messages(
            [("user", "Answer from the context alone.\n\nContext:\n{context}\n\nQuestion: {question}")]
        )
        context = "\n\n".join(document.page_content for document in best)
        chain = prompt | model | StrOutputParser()
        for piece in chain.stream({"context": context, "question": question}):
            print(piece, end="", flush=True)
        print()
        for document in best:
            score = document.metadata.get("relevance_score")
            print(f"  {'' if score is None else f'{score:.2f}  '}{document.page_content}")


def with_llamaindex(settings: dict[str, dict[str, Any]], question: str) -> None:
    """The same as a query engine."""
    from llama_index.core import Document, VectorStoreIndex

    from llamaindex_kserve import OpenVINOEmbedding, OpenVINOLLM, OpenVINORerank

    embedding = OpenVINOEmbedding(**settings["embedding"])
    rerankers = [OpenVINORerank(**settings["rerank"], top_n=2)] if "rerank" in settings else []
    llm = OpenVINOLLM(**settings["chat"], temperature=0)
    with contextlib.ExitStack() as open_until_done:
        for part in (embedding, llm, *rerankers):
            open_until_done.enter_context(part)
        index = VectorStoreIndex.from_documents([Document(text=text) for text in PASSAGES], embed_model=embedding)
        engine = index.as_query_engine(
            llm=llm, streaming=True, similarity_top_k=4 if rerankers else 2, node_postprocessors=rerankers
        )
        response = engine.query(question)
        for token in response.response_gen:
            print(token, end="", flush=True)
        print()
        for hit in response.source_nodes:
            print(f"  {hit.score:.2f}  {hit.text}")


def main(argv: list[str] | None = None) -> int:
    """Answers one question; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--tensor-url", help="address of models that take tensors, where it is another one (gRPC)")
    parser.add_argument("--api", choices=["v3", "v2"], help="how models embed and rank; left out: the server is asked")
    parser.add_argument("--protocol", choices=["rest", "grpc"], default="rest", help="for tensors")
    parser.add_argument("--api-key", help="left out: KSERVE_API_KEY, or none")
    parser.add_argument("--ca-cert", help="left out: KSERVE_CA_CERT and the system's")
    parser.add_argument("--model", help="the model that writes")
    parser.add_argument("--embedding-model", help="the model that embeds")
    parser.add_argument("--tokenizer", help="its tokenizer.json, if it takes token ids")
    parser.add_argument("--rerank-model", help="the model that ranks; left out: no ranking")
    parser.add_argument("--rerank-tokenizer", help="its tokenizer.json, if it takes token ids")
    parser.add_argument("--question", default="How is the gRPC port set?")
    parser.add_argument("--framework", choices=["langchain", "llamaindex"], default="langchain")
    args = parser.parse_args(argv)
    if args.api == "v3" and args.protocol == "grpc":
        parser.error("the /v3 API has no gRPC: leave one of --api v3 and --protocol grpc out")
    with contextlib.ExitStack() as stack:
        if args.base_url is None:
            from kserve_core.devserver import DevServer

            args.model, args.embedding_model, args.rerank_model = "writer", "embedding", "reranker"
            models = [args.model, args.embedding_model, args.rerank_model]
            server = stack.enter_context(DevServer(runtime="openvino", models=models, v2_grpc=True, pace=0.02))
            args.base_url = server.url
            args.tensor_url = server.v2_grpc_url if args.protocol == "grpc" else None
        connection = {"api_key": args.api_key, "ca_cert": args.ca_cert}
        tensors: dict[str, Any] = {**connection, "base_url": args.tensor_url or args.base_url}
        if args.protocol == "grpc":
            tensors["protocol"] = "grpc"
        elif args.api:
            tensors["api"] = args.api
        settings = {
            "chat": {**connection, "base_url": args.base_url, "model": args.model},
            "embedding": {**tensors, "model": args.embedding_model, "tokenizer": args.tokenizer},
        }
        if args.rerank_model:
            settings["rerank"] = {**tensors, "model": args.rerank_model, "tokenizer": args.rerank_tokenizer}
        try:
            (with_langchain if args.framework == "langchain" else with_llamaindex)(settings, args.question)
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
