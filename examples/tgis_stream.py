"""TGIS over gRPC: a conversation token by token, a batch in one request, answers held to a form.

    python examples/tgis_stream.py [--framework llamaindex]
    python examples/tgis_stream.py --base-url grpcs://granite-demo.apps.example.com:443 --api-key … \
        --chat-template granite

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers. Forms need the vLLM-backed server;
the classic one skips such a wish without a word.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from typing import Any

from kserve_core.errors import KServeError, StreamInterrupted


async def with_langchain(connection: dict[str, Any], args: argparse.Namespace) -> None:
    """Streams, batches, and asks for a choice."""
    from langchain_kserve import TGISLLM, ChatTGIS

    async with ChatTGIS(**connection, chat_template=args.chat_template, max_tokens=128) as model:
        profile = await model.aload_profile()
        print(f"context window: {profile.get('max_input_tokens')} tokens")
        usage = None
        try:
            async for chunk in model.astream(args.question):
                print(chunk.text, end="", flush=True)
                usage = chunk.usage_metadata or usage
        except StreamInterrupted as error:  # a stream is complete, or it raises
            print(f"\nonly this much came: {error.partial_text!r}")
            raise
        print(f"\nusage: {usage}")
        answer = await model.ainvoke("Is the sky blue?", guided_choice=["yes", "no"])
        print(f"held to a choice: {answer.text}")
    async with TGISLLM(**connection, max_tokens=16) as llm:
        texts = await llm.abatch(["Say hello.", "Count to ten."])  # one request
        print(f"a batch: {texts}")


async def with_llamaindex(connection: dict[str, Any], args: argparse.Namespace) -> None:
    """Streams."""
    from llama_index.core.llms import ChatMessage

    from llamaindex_kserve import TGISLLM

    async with TGISLLM(**connection, chat_template=args.chat_template) as llm:
        async for piece in await llm.astream_chat([ChatMessage(args.question)]):
            print(piece.delta, end="", flush=True)
        print()


def main(argv: list[str] | None = None) -> int:
    """Runs it once; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--api-key")
    parser.add_argument("--ca-cert")
    parser.add_argument("--chat-template", default="chatml", help="how the model wants conversations written")
    parser.add_argument("--question", default="Count to ten.")
    parser.add_argument("--framework", choices=["langchain", "llamaindex"], default="langchain")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        if args.base_url is None:
            from kserve_core.devserver import DevServer

            args.base_url = stack.enter_context(DevServer(tgis=True, pace=0.02)).tgis_url
        connection = {"base_url": args.base_url, "api_key": args.api_key, "ca_cert": args.ca_cert}
        try:
            asyncio.run((with_langchain if args.framework == "langchain" else with_llamaindex)(connection, args))
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
