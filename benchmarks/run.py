"""Runs every benchmark and prints Markdown: `python benchmarks/run.py [--quick] [--only WORD] [--out FILE]`.

Ratios are the result; the microseconds move with the machine. Other clients take part where they are installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata as metadata
import platform
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import cases_chat
import cases_embeddings
import cases_grpc
import cases_start
import cases_v2
from harness import measure, report, stub_server

VERSIONS = [
    "httpx",
    "langchain-core",
    "langchain-openai",
    "llama-index-core",
    "llama-index-llms-openai-like",
    "openai",
    "tritonclient",
]


def version(name: str) -> str:
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"{name} not installed"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", default="", help="cases whose title holds this word")
    parser.add_argument("--out", type=Path, help="write the report there as well")
    args = parser.parse_args()
    lines = [
        "# Benchmark results",
        "",
        "CPU of the client process against one loopback stub, medians of interleaved rounds. Compare the ratios;",
        "the microseconds belong to one machine. A bar is a promise about our row: its cost over the named floors.",
        "",
        f"Python {platform.python_version()}; " + ", ".join(version(name) for name in VERSIONS),
        "",
    ]
    print("\n".join(lines), flush=True)
    with stub_server() as (url, grpc_port):
        every = (
            *cases_chat.cases(url),
            *cases_embeddings.cases(url),
            *cases_grpc.cases(url, grpc_port),
            *cases_v2.cases(url, grpc_port),
            *cases_start.cases(url),
        )
        for case in every:
            if args.only.lower() in case.title.lower():
                if args.quick:
                    case.rounds = 3
                measure(case)
                table = report(case)
                print("\n".join(table), flush=True)
                lines += table
    if args.out:
        args.out.write_text("\n".join(lines).rstrip() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
