"""Question answering from Caikit alone: its embeddings find passages, its reranker sorts them, its model answers.

    python examples/caikit_rag.py [--framework llamaindex]
    python examples/caikit_rag.py --base-url https://caikit-demo.apps.example.com --api-key … \
        --embedding-model minilm --model flan-t5 --chat-template plain

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers. A `grpcs://` URL is spoken to in
gRPC; the answers are the same.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import Any

from kserve_core.errors import KServeError

PASSAGES = [
    "Caikit serves models from a folder; the folder's name is the model's name.",
    "The REST port of Caikit is 8080, and its gRPC port is 8085.",
    "TGIS batches requests continuously, so many users share one accelerator.",
    "A token that is read from a file is read again when the file changes.",
]


def with_langchain(connection: dict[str, Any], args: argparse.Namespace) -> None:
    """Embeds, searches, reranks and streams the answer."""
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.vectorstores import InMemoryVectorStore

    from langchain_kserve import CaikitEmbeddings, CaikitRerank, ChatCaikit

    embeddings = CaikitEmbeddings(**connection, model=args.embedding_model, truncate=True)
    reranker = CaikitRerank(**connection, model=args.embedding_model, top_n=2)
    model = ChatCaikit(**connection, model=args.model, chat_template=args.chat_template, max_tokens=128, temperature=0)
    with embeddings, reranker, model:
        store = InMemoryVectorStore.from_texts(PASSAGES, embeddings)
        best = reranker.compress_documents(store.similarity_search(args.question, k=4), args.question)
        prompt = ChatPromptTemplate.from_messages(
            [("user", "Answer from the context alone.\n\nContext:\n{context}\n\nQuestion: {question}")]
        )
        context = "\n\n".join(document.page_content for document in best)
        chain = prompt | model | StrOutputParser()
        for piece in chain.stream({"context": context, "question": args.question}):
            print(piece, end="", flush=True)
        print()
        for document in best:
            print(f"  {document.metadata['relevance_score']:.2f}  {document.page_content}")
        # The server compares sentences without handing out vectors.
        scores = embeddings.similarity(args.question, PASSAGES)
        print(f"nearest to the question: {PASSAGES[scores.index(max(scores))]}")


def with_llamaindex(connection: dict[str, Any], args: argparse.Namespace) -> None:
    """The same as a query engine."""
    from llama_index.core import Document, VectorStoreIndex

    from llamaindex_kserve import CaikitEmbedding, CaikitLLM, CaikitRerank

    embedding = CaikitEmbedding(**connection, model=args.embedding_model)
    reranker = CaikitRerank(**connection, model=args.embedding_model, top_n=2)
    llm = CaikitLLM(**connection, model=args.model, chat_template=args.chat_template, temperature=0)
    with embedding, reranker, llm:
        index = VectorStoreIndex.from_documents([Document(text=text) for text in PASSAGES], embed_model=embedding)
        engine = index.as_query_engine(llm=llm, streaming=True, similarity_top_k=4, node_postprocessors=[reranker])
        response = engine.query(args.question)
        for token in response.response_gen:
            print(token, end="", flush=True)
        print()
        for hit in response.source_nodes:
            print(f"  {hit.score:.2f}  {hit.text}")


def main(argv: list[str] | None = None) -> int:
    """Answers one question; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--api-key")
    parser.add_argument("--ca-cert")
    parser.add_argument("--model", help="the model that generates; left out: the only one there is")
    parser.add_argument("--embedding-model", help="the model that embeds and reranks")
    parser.add_argument("--chat-template", default="chatml", help="how the model wants conversations written")
    parser.add_argument("--question", default="Which port does gRPC use?")
    parser.add_argument("--framework", choices=["langchain", "llamaindex"], default="langchain")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        if args.base_url is None:
            from kserve_core.devserver import DevServer

            args.base_url = stack.enter_context(DevServer(runtime="caikit", models=["embed-model", "gen-model"])).url
            args.embedding_model, args.model = "embed-model", "gen-model"
        connection = {"base_url": args.base_url, "api_key": args.api_key, "ca_cert": args.ca_cert}
        try:
            (with_langchain if args.framework == "langchain" else with_llamaindex)(connection, args)
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
