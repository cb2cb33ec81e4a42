"""A LlamaIndex FunctionAgent with one tool on a KServe endpoint.

    python examples/agent_llamaindex.py [--base-url … --api-key … --model …]

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers. On vLLM the server has to be
started with `--enable-auto-tool-choice --tool-call-parser …`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys

from llama_index.core.agent.workflow import AgentStream, FunctionAgent, ToolCall, ToolCallResult

from kserve_core.errors import KServeError
from llamaindex_kserve import VLLM


def get_weather(city: str) -> str:
    """Current weather of a city."""
    return f"21 degrees and sunny in {city}"


async def ask(llm: VLLM, question: str) -> None:
    """Runs the agent on one question, printing tool calls and the answer as they come."""
    agent = FunctionAgent(llm=llm, tools=[get_weather], system_prompt="You are a helpful assistant.")
    run = agent.run(question)
    async for event in run.stream_events():
        if isinstance(event, ToolCallResult):
            print(f"tool: {event.tool_name}({event.tool_kwargs}) -> {event.tool_output.content}")
        elif isinstance(event, ToolCall):
            continue
        elif isinstance(event, AgentStream):
            print(event.delta, end="", flush=True)
    await run
    print()


def main() -> int:
    """Asks one question; returns the exit status."""
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
            llm = VLLM(**where, temperature=0)
            llm.load_metadata()  # the agent's memory is as long as the context window
            asyncio.run(ask(llm, args.question))
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
