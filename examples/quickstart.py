"""Ask questions of a folder of Markdown: embed, retrieve, rerank, and stream the answer with its sources.

The same pipeline twice, first as a LangChain chain and then as a LlamaIndex query engine. Without arguments it
runs offline: an embedded stand-in endpoint answers, and the documents are this project's own.

    python examples/quickstart.py
    python examples/quickstart.py --docs ~/notes --question "How do I rotate the token?"
    python examples/quickstart.py --runtime triton          # or caikit, tgis, mlserver, openvino
    python examples/quickstart.py --base-url https://llm-demo.apps.example.com --api-key-file token --ca-cert ca.crt \
        --embedding-base-url https://minilm-demo.apps.example.com --rerank-base-url https://bge-demo.apps.example.com
    python examples/quickstart.py --runtime triton --base-url https://triton-demo.apps.example.com \
        --model llama --chat-template llama3 --embedding-model e5 --rerank-model bge-reranker
    python examples/quickstart.py --runtime tgis --base-url grpcs://granite-demo.apps.example.com:443 \
        --chat-template granite --embedding-runtime caikit --embedding-base-url https://minilm-demo.apps.example.com

TGIS generates text only, so with it embeddings and reranking come from another runtime.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kserve_core.errors import KServeError

PROJECT = Path(__file__).resolve().parent.parent
QUESTION = "How is a rotated token picked up?"
SYSTEM = "Answer the question from the context alone, in one or two sentences. If it is not there, say so."
TOP_K, TOP_N = 10, 3

# How class names spell the runtimes.
CLASSES = {
    "vllm": "VLLM",
    "caikit": "Caikit",
    "tgis": "TGIS",
    "triton": "Triton",
    "mlserver": "MLServer",
    "openvino": "OpenVINO",
}
COMPLETE_TEXT = ("caikit", "tgis", "triton", "mlserver")  # a conversation is written as one text for these
ONE_TASK_PER_MODEL = ("triton", "mlserver", "openvino")

COLOR = sys.stdout.isatty() and "NO_COLOR" not in os.environ


def paint(text: str, code: str) -> str:
    """Wraps text in an ANSI color when the output is a terminal."""
    return f"\033[{code}m{text}\033[0m" if COLOR else text


def say(text: str = "") -> None:
    """Prints a line at once."""
    print(text, flush=True)


@dataclass
class Endpoints:
    """Whose classes to use, and constructor arguments for each of the three models."""

    chat_runtime: str
    embedding_runtime: str
    chat: dict[str, Any]
    embedding: dict[str, Any]
    rerank: dict[str, Any] | None


def load_markdown(folder: Path) -> list[tuple[str, str]]:
    """Reads every Markdown file under a folder.

    Returns:
        Pairs of the path relative to the folder and the text.

    Raises:
        SystemExit: If there is none.
    """
    if folder == PROJECT:  # our own documentation, not whatever else lies in a checkout
        paths = [*sorted(folder.glob("*.md")), *sorted((folder / "docs").glob("**/*.md"))]
    else:
        paths = sorted(folder.glob("**/*.md"))
    texts = [(str(path.relative_to(folder)), path.read_text("utf-8", "replace")) for path in paths]
    if not texts:
        sys.exit(f"No Markdown files under {folder}. Name another folder with --docs.")
    return texts


def with_langchain(endpoints: Endpoints, texts: list[tuple[str, str]], question: str) -> None:
    """The pipeline as a LangChain chain."""
    from langchain_core.documents import Document
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableLambda, RunnablePassthrough
    from langchain_core.vectorstores import InMemoryVectorStore
    from langchain_text_splitters import MarkdownTextSplitter

    import langchain_kserve

    chat_class = getattr(langchain_kserve, f"Chat{CLASSES[endpoints.chat_runtime]}")
    embeddings_class = getattr(langchain_kserve, f"{CLASSES[endpoints.embedding_runtime]}Embeddings")
    rerank_class = getattr(langchain_kserve, f"{CLASSES[endpoints.embedding_runtime]}Rerank")

    splitter = MarkdownTextSplitter(chunk_size=700, chunk_overlap=0)
    chunks = splitter.split_documents([Document(text, metadata={"source": name}) for name, text in texts])
    store = InMemoryVectorStore(embeddings_class(**endpoints.embedding, show_progress_bar=True))
    store.add_documents(chunks)
    say(f"{len(chunks)} passages from {len(texts)} files embedded.")

    reranker = rerank_class(**endpoints.rerank, top_n=TOP_N) if endpoints.rerank else None

    def find(query: str) -> list[Document]:
        found = store.similarity_search(query, k=TOP_K if reranker else TOP_N)
        return list(reranker.compress_documents(found, query)) if reranker else found

    def as_context(found: list[Document]) -> str:
        return "\n\n".join(document.page_content for document in found)

    model = chat_class(**endpoints.chat, temperature=0)
    prompt = ChatPromptTemplate.from_messages(
        [("system", SYSTEM), ("human", "Context:\n{context}\n\nQuestion: {question}")]
    )
    answer = (
        RunnablePassthrough.assign(context=lambda row: as_context(row["documents"]))
        | prompt
        | model
        | StrOutputParser()
    )
    chain = {"question": RunnablePassthrough(), "documents": RunnableLambda(find)} | RunnablePassthrough.assign(
        answer=answer
    )

    sources: list[Document] = []
    with model:
        for piece in chain.stream(question):
            sources = piece.get("documents", sources)
            print(piece.get("answer", ""), end="", flush=True)
    say()
    show_sources(
        (str(found.metadata["source"]), found.metadata.get("relevance_score"), found.page_content) for found in sources
    )


def with_llamaindex(endpoints: Endpoints, texts: list[tuple[str, str]], question: str) -> None:
    """The pipeline as a LlamaIndex query engine."""
    from llama_index.core import Document, VectorStoreIndex
    from llama_index.core.node_parser import MarkdownNodeParser

    import llamaindex_kserve

    name, embedding_name = CLASSES[endpoints.chat_runtime], CLASSES[endpoints.embedding_runtime]
    llm_class = getattr(llamaindex_kserve, "VLLM" if name == "VLLM" else f"{name}LLM")
    embedding_class = getattr(llamaindex_kserve, f"{embedding_name}Embedding")
    rerank_class = getattr(llamaindex_kserve, f"{embedding_name}Rerank")

    index = VectorStoreIndex.from_documents(
        [Document(text=text, metadata={"source": name}) for name, text in texts],
        embed_model=embedding_class(**endpoints.embedding),
        transformations=[MarkdownNodeParser()],
        show_progress=True,
    )
    llm = llm_class(**endpoints.chat, temperature=0)
    llm.load_metadata()  # engines pack prompts for the context window that is known when they are made
    engine = index.as_query_engine(
        llm=llm,
        streaming=True,
        similarity_top_k=TOP_K if endpoints.rerank else TOP_N,
        node_postprocessors=[rerank_class(**endpoints.rerank, top_n=TOP_N)] if endpoints.rerank else [],
    )
    with llm:
        response = engine.query(question)
        for token in response.response_gen:
            print(token, end="", flush=True)
    say()
    show_sources((str(hit.metadata["source"]), hit.score, hit.text) for hit in response.source_nodes)


def show_sources(rows: Any) -> None:
    """Prints each source's file, score and first words."""
    for number, (name, score, text) in enumerate(rows, 1):
        start = " ".join(text.split())[:70]
        mark = f"{score:.2f}" if isinstance(score, float) else "    "
        say(f"  {paint(f'[{number}]', '36')} {mark}  {name}  {paint(start + ' …', '2')}")


@contextlib.contextmanager
def endpoints_for(args: argparse.Namespace) -> Iterator[Endpoints]:
    """The endpoints the arguments name, or an embedded one for as long as the context lasts."""
    connection = {
        "api_key": Path(args.api_key_file) if args.api_key_file else args.api_key,
        "ca_cert": args.ca_cert,
        "verify": not args.insecure,
        "max_retries": args.max_retries,
    }
    runtimes = {"chat_runtime": args.runtime, "embedding_runtime": embedding_runtime_of(args)}
    chat_options = {}
    if args.runtime in COMPLETE_TEXT:  # and stop after about 20 tokens unless told otherwise
        chat_options = {"chat_template": args.chat_template or "chatml", "max_tokens": 256}
    elif args.chat_template:
        chat_options = {"chat_template": args.chat_template, "max_tokens": 256}
    if args.base_url or os.environ.get("KSERVE_BASE_URL"):
        say(f"Endpoint: {args.base_url or os.environ['KSERVE_BASE_URL']}\n")
        embedding_url = args.embedding_base_url or args.base_url
        yield Endpoints(
            **runtimes,
            chat={**connection, "base_url": args.base_url, "model": args.model, **chat_options},
            embedding={
                **connection,
                "base_url": embedding_url,
                "model": args.embedding_model,
                **({"tokenizer": args.embedding_tokenizer} if args.embedding_tokenizer else {}),
            },
            rerank=None
            if args.no_rerank
            else {
                **connection,
                "base_url": args.rerank_base_url or embedding_url,
                "model": args.rerank_model,
                **({"tokenizer": args.rerank_tokenizer} if args.rerank_tokenizer else {}),
            },
        )
        return
    from kserve_core.devserver import DevServer

    with contextlib.ExitStack() as stack:
        servers = {
            runtime: stack.enter_context(
                DevServer(
                    runtime="vllm" if runtime == "tgis" else runtime,
                    tgis=runtime == "tgis",
                    models=["writer", "embedding", "reranker"] if runtime in ONE_TASK_PER_MODEL else ["dev-model"],
                    pace=0.02,
                )
            )
            for runtime in dict.fromkeys(runtimes.values())
        }
        url = servers[args.runtime].tgis_url if args.runtime == "tgis" else servers[args.runtime].url
        say(f"No --base-url: an embedded stand-in endpoint answers at {url} (rules, no weights).\n")
        beside = {"base_url": servers[runtimes["embedding_runtime"]].url, "api_key": "not-needed-here"}
        named = runtimes["embedding_runtime"] in ONE_TASK_PER_MODEL
        model = {"model": "writer"} if args.runtime in ONE_TASK_PER_MODEL else {}
        yield Endpoints(
            **runtimes,
            chat={**beside, "base_url": url, **model, **chat_options},
            embedding={**beside, **({"model": "embedding"} if named else {})},
            rerank=None if args.no_rerank else {**beside, **({"model": "reranker"} if named else {})},
        )


def embedding_runtime_of(args: argparse.Namespace) -> str:
    """Whose embeddings and reranking to use: the same runtime's, unless that is TGIS, which has none.

    Raises:
        SystemExit: If a real TGIS is to be used and no endpoint for embeddings was named, or a tokenizer was named for
            a runtime that takes text.
    """
    runtime = args.embedding_runtime or ("vllm" if args.runtime == "tgis" else args.runtime)
    if args.runtime == "tgis" and args.base_url and not args.embedding_base_url:
        sys.exit("TGIS has no embeddings: name an endpoint that has, with --embedding-base-url.")
    if (args.embedding_tokenizer or args.rerank_tokenizer) and runtime not in ONE_TASK_PER_MODEL:
        sys.exit(f"{CLASSES[runtime]} takes text: a tokenizer is for {', '.join(ONE_TASK_PER_MODEL)} only.")
    return str(runtime)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--docs", type=Path, default=PROJECT, help="folder of Markdown (default: this project's own)")
    parser.add_argument("--question", default=QUESTION)
    parser.add_argument("--framework", choices=["langchain", "llamaindex", "both"], default="both")
    parser.add_argument("--runtime", choices=list(CLASSES), default="vllm", help="what serves the model")
    parser.add_argument(
        "--embedding-runtime",
        choices=[name for name in CLASSES if name != "tgis"],
        help="what serves embeddings and reranking, if not the same",
    )
    parser.add_argument(
        "--chat-template",
        help="format of conversations, where models complete text (caikit, tgis, triton, mlserver): a built-in one's "
        "name (default: chatml) or a file",
    )
    group = parser.add_argument_group("a real endpoint (default: an embedded one)")
    group.add_argument("--base-url", help="chat endpoint; KSERVE_BASE_URL")
    group.add_argument("--embedding-base-url", help="embedding endpoint, where it is another one")
    group.add_argument("--rerank-base-url", help="rerank endpoint, where it is another one")
    group.add_argument("--model", help="left out: the one the endpoint serves")
    group.add_argument("--embedding-model")
    group.add_argument("--rerank-model")
    group.add_argument("--embedding-tokenizer", help="tokenizer.json of an embedding model that takes token ids")
    group.add_argument("--rerank-tokenizer", help="the same for a rerank model")
    group.add_argument("--api-key", help="bearer token; KSERVE_API_KEY")
    group.add_argument("--api-key-file", help="file that holds the token, read again when it changes")
    group.add_argument("--ca-cert", help="certificate authority of the endpoint (PEM file); KSERVE_CA_CERT")
    group.add_argument("--insecure", action="store_true", help="do not check the certificate")
    group.add_argument("--no-rerank", action="store_true")
    group.add_argument("--max-retries", type=int, default=2)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Runs the pipelines; returns the exit status."""
    args = parse(argv)
    try:
        texts = load_markdown(args.docs.expanduser().resolve())
        with endpoints_for(args) as endpoints:
            for name, run in (("LangChain", with_langchain), ("LlamaIndex", with_llamaindex)):
                if args.framework not in {"both", name.lower()}:
                    continue
                began = time.perf_counter()
                say(paint(f"── {name} " + "─" * (60 - len(name)), "1;34"))
                say(f"{paint('Question:', '1')} {args.question}")
                run(endpoints, texts, args.question)
                say(paint(f"  {time.perf_counter() - began:.1f} s\n", "2"))
    except KServeError as error:
        say(f"\n{paint('Failed:', '1;31')} {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
