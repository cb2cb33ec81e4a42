"""Start: CPU of importing, and of constructing a model."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable, Iterator

from harness import Case, Contestant

from langchain_kserve import ChatVLLM
from llamaindex_kserve import VLLM


class ImportContestant(Contestant):
    """Imports in a fresh process; its cost is that process's CPU, not ours."""

    def __init__(self, name: str, statement: str) -> None:
        super().__init__(name, self.start)
        self.statement = statement
        self.child = 0.0

    def start(self) -> int:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", self.statement], check=True, stderr=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.child = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return 1

    def spent(self, own: float) -> float:
        return self.child


def imported(statements: dict[str, str], reference: str, bars: dict[str, tuple[tuple[str, ...], float]]) -> Case:
    """A case whose costs are those of child processes."""
    contestants: list[Contestant] = [ImportContestant(name, code) for name, code in statements.items()]
    return Case("Import: " + reference, "import", contestants, reference, 7, bars)


def constructed(make: Callable[[], object], count: int = 200) -> Callable[[], int]:
    def run() -> int:
        for _ in range(count):
            make()
        return count

    return run


def cases(url: str) -> Iterator[Case]:
    """Imports of either framework package, then constructors."""
    core = "langchain_core.language_models"
    yield imported(
        {
            core: f"import {core}",
            "langchain_kserve": "import langchain_kserve",
        },
        core,
        {"langchain_kserve": ((core,), 1.15)},
    )
    base = "langchain_core: BaseChatModel"  # the package itself loads its classes lazily
    yield imported(
        {
            base: "from langchain_core.language_models import BaseChatModel",
            "langchain_kserve: ChatVLLM": "from langchain_kserve import ChatVLLM",
            "langchain_openai: ChatOpenAI": "from langchain_openai import ChatOpenAI",
        },
        base,
        {"langchain_kserve: ChatVLLM": ((base,), 1.15)},
    )
    index = "llama_index.core.llms"
    yield imported(
        {
            index: f"import {index}",
            "llamaindex_kserve.VLLM": "from llamaindex_kserve import VLLM",
            "llama_index.llms.openai_like": "from llama_index.llms.openai_like import OpenAILike",
        },
        index,
        {"llamaindex_kserve.VLLM": ((index,), 1.15)},
    )
    yield Case(
        "Constructing a model",
        "object",
        [
            Contestant("ChatVLLM", constructed(lambda: ChatVLLM(base_url=url, api_key="x"))),
            Contestant("VLLM (LlamaIndex)", constructed(lambda: VLLM(base_url=url, api_key="x"))),
        ],
        "ChatVLLM",
        5,
    )
