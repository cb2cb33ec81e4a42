"""Looks into a running vLLM engine."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable

import httpx


def running_requests(origin: str, **headers: str) -> int:
    """How many requests the engine is working on, as its metrics tell."""
    text = httpx.get(f"{origin}/metrics", headers=headers).raise_for_status().text
    found = re.findall(r"^vllm:num_requests_running\{.*\} (\S+)$", text, re.MULTILINE)
    return round(sum(map(float, found)))


def falls_to_zero(count: Callable[[], int], seconds: float = 5.0) -> bool:
    """Whether a count gets there in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if count() == 0:
            return True
        time.sleep(0.05)
    return False


def engine_of(server: int) -> int:
    """The process that runs the model, by its name among the server's children."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()]
    (engine,) = [int(pid) for pid, parent, args in rows if int(parent) == server and "EngineCore" in args]
    return engine
