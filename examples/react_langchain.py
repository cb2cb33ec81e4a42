"""An agent without tool calls: the model writes what it wants done, and a loop does it (ReAct).

    python examples/react_langchain.py [--runtime tgis|triton|mlserver]
    python examples/react_langchain.py --runtime caikit --base-url https://granite-demo.apps.example.com \
        --api-key … --chat-template granite

Caikit, TGIS, Triton and MLServer complete text and know no tools, so agents that need `bind_tools` cannot use them;
this loop of thirty lines can. Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
from collections.abc import Sequence

from langchain_core.language_models import BaseLanguageModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import PromptTemplate
from langchain_core.tools import BaseTool, render_text_description, tool

from kserve_core.errors import KServeError
from langchain_kserve import ChatCaikit, ChatMLServer, ChatTGIS, ChatTriton

CLASSES = {"caikit": ChatCaikit, "tgis": ChatTGIS, "triton": ChatTriton, "mlserver": ChatMLServer}

PROMPT = PromptTemplate.from_template(
    """Answer the question. You have these tools:

{tools}

Write nothing but this form:

Thought: what to do next
Action: one of [{names}]
Action Input: the tool's arguments, as a JSON object
Observation: what the tool returned
(any number of times, and then)
Thought: I know the answer.
Final Answer: the answer

Question: {question}
{steps}"""
)
ACTION = re.compile(r"Action:\s*(\w+)\s*\nAction Input:\s*(.*)", re.DOTALL)


def react(model: BaseLanguageModel, tools: Sequence[BaseTool], question: str, *, max_steps: int = 5) -> str:
    """Has a model answer a question with tools.

    Args:
        model: A chat model or a text-completion model; it needs no tool calls.
        tools: What it may use.
        question: What to answer.
        max_steps: Most uses of tools.

    Returns:
        The answer.

    Raises:
        RuntimeError: If there is none after so many steps.
    """
    by_name = {tool.name: tool for tool in tools}
    # The stop text keeps the model from making up what the tool returned.
    step = PROMPT | model.bind(stop=["\nObservation:"]) | StrOutputParser()
    steps = ""
    for _ in range(max_steps):
        wrote = step.invoke(
            {
                "tools": render_text_description(list(tools)),
                "names": ", ".join(by_name),
                "question": question,
                "steps": steps,
            }
        ).strip()
        print(wrote)
        if "Final Answer:" in wrote:
            return wrote.rpartition("Final Answer:")[2].strip()
        observed = run(by_name, wrote)
        print(f"Observation: {observed}")
        steps += f"{wrote}\nObservation: {observed}\n"
    msg = f"no answer after {max_steps} steps"
    raise RuntimeError(msg)


def run(tools: dict[str, BaseTool], wrote: str) -> str:
    """Runs what the model asked for; a mistake of its own is told to it, so that it can do better."""
    found = ACTION.search(wrote)
    if found is None or found[1] not in tools:
        return f"Write an Action, which is one of {', '.join(tools)}, and an Action Input."
    try:
        arguments = json.loads(found[2])
    except ValueError as error:
        return f"The Action Input is not a JSON object: {error}"
    return str(tools[found[1]].invoke(arguments))


@tool
def get_weather(city: str) -> str:
    """Current weather of a city."""
    return f"21 degrees and sunny in {city}"


def main(argv: list[str] | None = None) -> int:
    """Asks one question and prints every step; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runtime", choices=list(CLASSES), default="caikit")
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--api-key")
    parser.add_argument("--ca-cert")
    parser.add_argument("--model")
    parser.add_argument("--chat-template", default="chatml", help="how the model wants conversations written")
    parser.add_argument("--question", default="Weather in Paris?")
    args = parser.parse_args(argv)
    with contextlib.ExitStack() as stack:
        base_url = args.base_url
        if base_url is None:
            from kserve_core.devserver import DevServer

            tgis = args.runtime == "tgis"
            server = stack.enter_context(DevServer(runtime="vllm" if tgis else args.runtime, tgis=tgis))
            base_url = server.tgis_url if tgis else server.url
        try:
            model = CLASSES[args.runtime](
                base_url=base_url,
                api_key=args.api_key,
                ca_cert=args.ca_cert,
                model=args.model,
                chat_template=args.chat_template,
                max_tokens=256,
                temperature=0,
            )
            react(stack.enter_context(model), [get_weather], args.question)
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
