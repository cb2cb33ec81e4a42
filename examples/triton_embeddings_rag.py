"""Question answering from Triton alone: one model embeds, one ranks, one writes the answer, which is streamed.

    python examples/triton_embeddings_rag.py [--framework llamaindex] [--protocol grpc] [--embed token-ids]
    python examples/triton_embeddings_rag.py --base-url https://triton-demo.apps.example.com --api-key … \
        --model llama --chat-template llama3 --embedding-model e5 --rerank-model bge-reranker
    python examples/triton_embeddings_rag.py --base-url grpcs://triton-demo.apps.example.com:443 --api-key … \
        --model llama --chat-template llama3 --embedding-model minilm-onnx --tokenizer minilm/tokenizer.json

An embedding model may take texts, or token ids as models exported to ONNX do. For the second kind name the model's
`tokenizer.json`: texts become ids here, and the states that come back are pooled into vectors. Everything else about a
model's tensors is read from the server.

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers. Triton has a port for REST and one
for gRPC; the answers are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from kserve_core.errors import KServeError

PASSAGES = [
    "Triton serves models from a repository: a folder for each model, and in it one for each version.",
    "The REST port of Triton is 8000, and its gRPC port is 8001.",
    "Triton joins requests that arrive together into one batch, if a model allows it.",
    "A token that is read from a file is read again when the file changes.",
]


def with_langchain(connection: dict[str, Any], args: argparse.Namespace) -> None:
    """Embeds, searches, ranks and streams the answer."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.vectorstores import InMemoryVectorStore

    from langchain_kserve import ChatTriton, TritonEmbeddings, TritonRerank

    embeddings = TritonEmbeddings(**connection, model=args.embedding_model, tokenizer=args.tokenizer)
    model = ChatTriton(**connection, model=args.model, chat_template=args.chat_template, max_tokens=128, temperature=0)
    with embeddings, model:
        store = InMemoryVectorStore.from_texts(PASSAGES, embeddings)
        best = store.similarity_search(args.question, k=4 if args.rerank_model else 2)
        if args.rerank_model:
            ranking = {**connection, "model": args.rerank_model, "tokenizer": args.rerank_tokenizer}
            with TritonRerank(**ranking, top_n=2) as reranker:
                best = list(reranker.compress_documents(best, args.question))
        prompt = ChatPromptTemplate.from_messages(
            [("user", "Answer from the context alone.\n\nContext:\n{context}\n\nQuestion: {question}")]
        )
        context = "\n\n".join(document.page_content for document in best)
        chain = prompt | model | StrOutputParser()
        for piece in chain.stream({"context": context, "question": args.question}):
            print(piece, end="", flush=True)
        print()
        for document in best:
            score = document.metadata.get("relevance_score")
            print(f"  {'' if score is None else f'{score:.2f}  '}{document.page_content}")


def with_llamaindex(connection: dict[str, Any], args: argparse.Namespace) -> None:
    """The same as a query engine."""
    from llama_index.core import Document, VectorStoreIndex

    from llamaindex_kserve import TritonEmbedding, TritonLLM, TritonRerank

    embedding = TritonEmbedding(**connection, model=args.embedding_model, tokenizer=args.tokenizer)
    ranking = {**connection, "model": args.rerank_model, "tokenizer": args.rerank_tokenizer}
    rerankers = [TritonRerank(**ranking, top_n=2)] if args.rerank_model else []
    llm = TritonLLM(**connection, model=args.model, chat_template=args.chat_template, temperature=0)
    with contextlib.ExitStack() as open_until_done:
        for part in (embedding, llm, *rerankers):
            open_until_done.enter_context(part)
        index = VectorStoreIndex.from_documents([Document(text=text) for text in PASSAGES], embed_model=embedding)
        engine = index.as_query_engine(
            llm=llm, streaming=True, similarity_top_k=4 if rerankers else 2, node_postprocessors=rerankers
        )
        response = engine.query(args.question)
        for token in response.response_gen:
            print(token, end="", flush=True)
        print()
        for hit in response.source_nodes:
            print(f"  {hit.score:.2f}  {hit.text}")


def embedded(args: argparse.Namespace, stack: contextlib.ExitStack) -> str:
    """Starts the stand-in endpoint, fills in the names of its models, and returns its URL."""
    from kserve_core.devserver import DevServer
    from kserve_core.devserver.tokens import tokenizer_json

    args.model, args.rerank_model = "writer", "reranker"
    args.embedding_model = "embedding" if args.embed == "text" else "embedding-ids"
    if args.embed == "token-ids":
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        args.tokenizer = folder / "tokenizer.json"
        args.tokenizer.write_text(tokenizer_json(), "utf-8")
    models = [args.model, args.embedding_model, args.rerank_model]
    server = stack.enter_context(DevServer(runtime="triton", models=models, v2_grpc=True, pace=0.02))
    return server.v2_grpc_url if args.protocol == "grpc" else server.url


def main(argv: list[str] | None = None) -> int:
    """Answers one question; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--protocol", choices=["rest", "grpc"], help="left out: as the URL says (grpc://, grpcs://)")
    parser.add_argument("--api-key", help="left out: KSERVE_API_KEY, or none")
    parser.add_argument("--ca-cert", help="left out: KSERVE_CA_CERT and the system's")
    parser.add_argument("--model", help="the model that writes")
    parser.add_argument("--embedding-model", help="the model that embeds")
    parser.add_argument("--tokenizer", help="its tokenizer.json, if it takes token ids")
    parser.add_argument("--rerank-model", help="the model that ranks; left out: no ranking")
    parser.add_argument("--rerank-tokenizer", help="its tokenizer.json, if it takes token ids")
    parser.add_argument("--embed", choices=["text", "token-ids"], default="text", help="for the embedded endpoint")
    parser.add_argument("--chat-template", default="chatml", help="how the model wants conversations written")
    parser.add_argument("--question", default="Which port does gRPC use?")
    parser.add_argument("--framework", choices=["langchain", "llamaindex"], default="langchain")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        if args.base_url is None:
            args.base_url = embedded(args, stack)
        connection = {"base_url": args.base_url, "api_key": args.api_key, "ca_cert": args.ca_cert}
        if args.protocol:
            connection["protocol"] = args.protocol
        try:
            (with_langchain if args.framework == "langchain" else with_llamaindex)(connection, args)
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
