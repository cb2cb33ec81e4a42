"""Looks into a running vLLM engine."""

from __future__ import annotations

import re
import subprocess
import time

import httpx


class Watch:
    """Tells whether an engine stopped early, by how many tokens it has generated since this was made.

    Asking takes as long as a second or more while the engine works, so nothing here depends on when it is asked.

    Args:
        origin: Where the server's metrics are.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._wait()
        self._before = self._value("vllm:generation_tokens_total")

    def tokens(self) -> int:
        """How many tokens were generated, once the engine has nothing more to do."""
        self._wait()
        return self._value("vllm:generation_tokens_total") - self._before

    def _wait(self) -> None:
        end = time.monotonic() + 60
        while self._value("vllm:num_requests_running"):
            assert time.monotonic() < end, "the engine does not come to an end"
            time.sleep(0.05)

    def _value(self, name: str) -> int:
        text = httpx.get(f"{self._origin}/metrics", timeout=60).raise_for_status().text
        return round(sum(map(float, re.findall(rf"^{name}\{{.*\}} (\S+)$", text, re.MULTILINE))))


def engine_of(server: int) -> int:
    """The process that runs the model, by its name among the server's children."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    (engine,) = [int(pid) for pid, parent, args in rows if int(parent) == server and "EngineCore" in args]
    return engine
