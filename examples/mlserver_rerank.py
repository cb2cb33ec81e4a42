"""Ranking by a cross-encoder on MLServer, or on a server made with KServe's Python SDK.

    python examples/mlserver_rerank.py [--framework llamaindex] [--protocol grpc] [--server kserve]
    python examples/mlserver_rerank.py --base-url https://bge-demo.apps.example.com --api-key … --model bge-reranker
    python examples/mlserver_rerank.py --base-url https://bge-demo.apps.example.com --api-key … --model bge-onnx \
        --tokenizer bge/tokenizer.json --sigmoid

The model takes the question and the passages as text, or pairs of them as token ids; those need its `tokenizer.json`.
Scores are shown as the model makes them; `--sigmoid` puts logits between 0 and 1.

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers. Over REST MLServer speaks JSON only,
so gRPC is faster for long lists.
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
    "MLServer listens for REST on port 8080 and for gRPC on port 8081.",
    "TGIS batches requests continuously, so many users share one accelerator.",
    "A token that is read from a file is read again when the file changes.",
]


def with_langchain(settings: dict[str, Any], question: str) -> None:
    """Ranks texts, then documents."""
    from langchain_core.documents import Document

    from langchain_kserve import MLServerRerank

    documents = [Document(text, metadata={"row": row}) for row, text in enumerate(PASSAGES)]
    with MLServerRerank(**settings) as reranker:
        for result in reranker.rerank(PASSAGES, question):  # every passage: its place in the list, and a score
            print(f"  {result['relevance_score']:.2f}  {PASSAGES[result['index']]}")
        best = reranker.compress_documents(documents, question)  # what retrievers and chains call
        print(f"best: row {best[0].metadata['row']}, {best[0].page_content}")


def with_llamaindex(settings: dict[str, Any], question: str) -> None:
    """Ranks nodes, as a query engine does with `node_postprocessors=[reranker]`."""
    from llama_index.core.schema import NodeWithScore, TextNode

    from llamaindex_kserve import MLServerRerank

    nodes = [NodeWithScore(node=TextNode(text=text, metadata={"row": row})) for row, text in enumerate(PASSAGES)]
    with MLServerRerank(**settings, top_n=len(nodes)) as reranker:
        ranked = reranker.postprocess_nodes(nodes, query_str=question)
        for hit in ranked:
            print(f"  {hit.score:.2f}  {hit.text}")
        print(f"best: row {ranked[0].metadata['row']}, {ranked[0].text}")


def main(argv: list[str] | None = None) -> int:
    """Ranks the passages for one question; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--protocol", choices=["rest", "grpc"], help="left out: as the URL says (grpc://, grpcs://)")
    parser.add_argument("--server", choices=["mlserver", "kserve"], default="mlserver", help="what serves the model")
    parser.add_argument("--api-key", help="left out: KSERVE_API_KEY, or none")
    parser.add_argument("--ca-cert", help="left out: KSERVE_CA_CERT and the system's")
    parser.add_argument("--model", help="left out: the one the endpoint serves")
    parser.add_argument("--tokenizer", help="the model's tokenizer.json, if it takes token ids")
    parser.add_argument("--sigmoid", action="store_true", help="put scores between 0 and 1")
    parser.add_argument("--question", default="Which port does MLServer use for gRPC?")
    parser.add_argument("--framework", choices=["langchain", "llamaindex"], default="langchain")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        if args.base_url is None:
            from kserve_core.devserver import DevServer

            server = stack.enter_context(DevServer(runtime=args.server, models=["reranker"], v2_grpc=True))
            args.model = "reranker"
            args.base_url = server.v2_grpc_url if args.protocol == "grpc" else server.url
        settings = {
            "base_url": args.base_url,
            "api_key": args.api_key,
            "ca_cert": args.ca_cert,
            "model": args.model,
            "tokenizer": args.tokenizer,
            "sigmoid": args.sigmoid or None,
            "server": args.server,
        }
        if args.protocol:
            settings["protocol"] = args.protocol
        try:
            (with_langchain if args.framework == "langchain" else with_llamaindex)(settings, args.question)
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
