"""Measures CPU per unit of several contestants in one interleaved run, and prints ratios.

CPU is user + system time of this process, all threads. Every round runs each contestant once, in a rotating order,
so that whatever else the machine does falls on all of them alike; the median over the rounds counts.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Contestant:
    """Something that does the same work as the others: `run()` returns how many units it did."""

    name: str
    run: Callable[[], int]
    costs: list[float] = field(default_factory=list)
    failed: str = ""

    def spent(self, own: float) -> float:
        """The CPU seconds of the last run; `own` is what this process used."""
        return own

    @property
    def cost(self) -> float:
        """Median CPU seconds per unit."""
        return statistics.median(self.costs) if self.costs else float("nan")


@dataclass
class Case:
    """One table: contestants, the one the others are divided by, and the bar for ours.

    `bars` maps a contestant to the contestants whose costs add up to its floor, and the factor allowed over that.
    """

    title: str
    unit: str
    contestants: list[Contestant]
    reference: str
    rounds: int = 7
    bars: dict[str, tuple[tuple[str, ...], float]] = field(default_factory=dict)


def measure(case: Case) -> None:
    """Runs every round of a case; a contestant that raises is left out, with its reason."""
    for contestant in case.contestants:  # once unmeasured: connections, caches, imports
        try:
            contestant.run()
        except Exception as error:
            contestant.failed = f"{type(error).__name__}: {error}"[:120]
    alive = [c for c in case.contestants if not c.failed]
    for number in range(case.rounds):
        shift = number % len(alive)
        for contestant in alive[shift:] + alive[:shift]:
            gc.collect()
            began = time.process_time()
            units = contestant.run()
            contestant.costs.append(contestant.spent(time.process_time() - began) / units)


def report(case: Case) -> list[str]:
    """The case as lines of a Markdown table."""
    costs = {c.name: c.cost for c in case.contestants}
    lines = [f"### {case.title}", "", f"| client | µs per {case.unit} | ratio | bar |", "|---|---:|---:|---|"]
    for contestant in case.contestants:
        if contestant.failed:
            lines.append(f"| {contestant.name} | – | – | did not run: {contestant.failed} |")
            continue
        bar = ""
        if contestant.name in case.bars:
            floors, factor = case.bars[contestant.name]
            ratio = contestant.cost / sum(costs[name] for name in floors)
            verdict = "met" if ratio <= factor else "**missed**"
            bar = f"{ratio:.2f} × ({' + '.join(floors)}), aim {factor}: {verdict}"
        ratio_to_reference = contestant.cost / costs[case.reference]
        lines.append(f"| {contestant.name} | {contestant.cost * 1e6:.1f} | {ratio_to_reference:.2f} | {bar} |")
    return [*lines, ""]


@contextlib.contextmanager
def stub_server() -> Iterator[tuple[str, int]]:
    """Starts the stub endpoint in a process of its own; yields its URL and its gRPC port."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("stub_server.py"))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port, grpc_port = map(int, process.stdout.readline().split())
        yield f"http://127.0.0.1:{port}", grpc_port
    finally:
        process.terminate()
        process.wait(10)
