"""A LangChain agent with one tool on a KServe endpoint.

    python examples/agent_langchain.py [--base-url … --api-key … --model …]

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers. On vLLM the server has to be
started with `--enable-auto-tool-choice --tool-call-parser …`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from langchain.agents import create_agent
from langchain_core.tools import tool

from kserve_core.errors import KServeError
from langchain_kserve import ChatVLLM


@tool
def get_weather(city: str) -> str:
    """Current weather of a city."""
    return f"21 degrees and sunny in {city}"


def main() -> int:
    """Asks one question and prints every step; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--api-key")
    parser.add_argument("--ca-cert")
    parser.add_argument("--model")
    parser.add_argument("--question", default="Weather in Paris?")
    args = parser.parse_args()
    with contextlib.ExitStack() as stack:
        base_url = args.base_url
        if base_url is None:
            from kserve_core.devserver import DevServer

            base_url = stack.enter_context(DevServer()).url
        where = {"base_url": base_url, "api_key": args.api_key, "ca_cert": args.ca_cert, "model": args.model}
        try:
            model = stack.enter_context(ChatVLLM(**where, temperature=0))
            agent = create_agent(model, tools=[get_weather], system_prompt="You are a helpful assistant.")
            for step in agent.stream({"messages": [("user", args.question)]}, stream_mode="values"):
                step["messages"][-1].pretty_print()
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
