"""A completion request that was checked and answered, waiting to be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kserve_core.devserver.wires.vllm.context import Context
from kserve_core.devserver.wires.vllm.output import Output
from kserve_core.devserver.wires.vllm.sampling import Sampling
from kserve_core.devserver.wires.vllm.usage import running, usage


@dataclass(slots=True)
class Job:
    """One completion exchange; `outputs` has prompt after prompt, `n` of each."""

    id: str
    name: str
    body: dict[str, Any]
    sampling: Sampling
    prompts: list[list[int]]
    cached: int
    outputs: list[Output]
    created: int
    context: Context

    @property
    def echo(self) -> bool:
        """Whether the prompt is repeated in front of the text."""
        return bool(self.body.get("echo"))

    @property
    def wants_ids(self) -> bool:
        """Whether token ids are asked for."""
        return bool(self.body.get("return_token_ids"))

    def prompt_of(self, index: int) -> list[int]:
        """The prompt a choice belongs to."""
        return self.prompts[index // self.sampling.n]

    def usage(self) -> dict[str, Any]:
        """The `usage` object of the whole answer."""
        cached = self.cached if self.context.settings.cached_tokens else None
        return usage(sum(map(len, self.prompts)), sum(output.token_count for output in self.outputs), cached=cached)

    def running_usage(self, completion: int) -> dict[str, Any]:
        """The `usage` object in the middle of a stream."""
        return running(sum(map(len, self.prompts)), completion)
