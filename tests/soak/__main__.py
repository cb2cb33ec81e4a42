"""A steady 200 concurrent streams against development servers, 5 % of them with a fault.

    python -m soak [--seconds 600] [--seed 1] [--faults 0.05] [--pace 80]

It fails if anything leaks (sockets, tasks, threads, memory: the middle of the run is compared with its end), if a
question ends otherwise than it has to, or if the servers counted other requests than were sent.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from soak.load import Kind, Tally, blocking, kinds, looping

EVERY = 2.0
"""Seconds between two samples."""


@dataclass(frozen=True)
class Sample:
    """The process at one moment."""

    at: float
    memory: float
    sockets: int
    tasks: int
    threads: int
    streams: int


class Server:
    """A development server in a process of its own."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "kserve_core.devserver", "--json", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        out = self.process.stdout
        line = ""
        while out is not None and not line.startswith("{"):
            line = out.readline()
            if not line:
                msg = "the development server did not start"
                raise RuntimeError(msg)
        self.ready: dict[str, Any] = json.loads(line)

    def control(self, what: str, method: str = "GET") -> Any:
        """Asks its control routes."""
        request = urllib.request.Request(f"{self.ready['url']}/_devserver/{what}", method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            return json.load(answer)

    def settled(self, seconds: float = 10.0) -> dict[str, int]:
        """Its counts, when no request is open any more."""
        end = time.monotonic() + seconds
        while True:
            counts: dict[str, int] = self.control("counts")
            if counts["opened"] == counts["finished"] + counts["cancelled"] or time.monotonic() > end:
                return counts
            time.sleep(0.1)

    def stop(self) -> None:
        """Ends it."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


class Soak:
    """One run.

    Args:
        options: The command line's.
        servers: The servers that speak vLLM with TGIS, and Triton.
    """

    def __init__(self, options: argparse.Namespace, servers: list[Server]) -> None:
        self.options = options
        self.servers = servers
        self.tally = Tally()
        self.stop = threading.Event()
        self.samples: list[Sample] = []
        vllm, triton = servers
        self.mix = kinds(vllm.ready["url"], vllm.ready["tgis_url"], triton.ready["v2_grpc_url"])
        self.streams = sum(count for group in self.mix.values() for _, count in group)
        self.descriptions = 0

    async def run(self) -> None:
        """Asks for the time that was given."""
        options, seeds = self.options, random.Random(self.options.seed)
        for group in self.mix.values():
            for kind, count in group:
                kind.prepare()
                if "V2" in kind.name:
                    self.descriptions += len(kind.instances) * count
        threads, tasks = [], []
        for kind, count in self.mix["threads"]:
            for _ in range(count):
                rng = random.Random(seeds.random())
                arguments = (kind, rng, self.tally, self.stop, options.faults)
                threads.append(threading.Thread(target=blocking, args=arguments, daemon=True))
                threads[-1].start()
        for kind, count in self.mix["tasks"]:
            for _ in range(count):
                rng = random.Random(seeds.random())
                tasks.append(asyncio.create_task(looping(kind, rng, self.tally, self.stop, options.faults)))
        began = time.monotonic()
        try:
            while (passed := time.monotonic() - began) < options.seconds:
                await asyncio.sleep(min(EVERY, options.seconds - passed))
                await self._sample(time.monotonic() - began)
        finally:
            self.stop.set()
        late = await asyncio.wait(tasks, timeout=75)
        if late[1]:
            self.tally.wrong.append(f"{len(late[1])} tasks hang")
        for task in late[0]:
            task.result()
        await asyncio.to_thread(self._join, threads)
        for group in self.mix.values():
            for kind, _ in group:
                await _close(kind)

    def _join(self, threads: list[threading.Thread]) -> None:
        end = time.monotonic() + 75
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if hanging := sum(thread.is_alive() for thread in threads):
            self.tally.wrong.append(f"{hanging} threads hang")

    async def _sample(self, at: float) -> None:
        counts = [await asyncio.to_thread(server.control, "counts") for server in self.servers]
        for server in self.servers:  # the servers' memory is not what is tested
            await asyncio.to_thread(server.control, "requests", "DELETE")
        gc.collect()
        sample = Sample(
            at,
            memory(),
            sockets(),
            len(asyncio.all_tasks()),
            threading.active_count(),
            sum(count["in_flight"] for count in counts),
        )
        self.samples.append(sample)
        if len(self.samples) % 15 == 0:
            print(
                f"  {at:4.0f} s: {self.tally.asked} questions, {sample.streams} streams, {sample.memory:.0f} MiB, "
                f"{sample.sockets} sockets, {sample.tasks} tasks",
                flush=True,
            )

    def judge(self, before: tuple[int, int]) -> list[str]:
        """What is wrong; prints the summary.

        Args:
            before: Sockets and threads before the run.
        """
        tally = self.tally
        problems = list(tally.wrong)
        counts = [server.settled() for server in self.servers]
        seen = sum(count["opened"] for count in counts)
        finished, cancelled = (sum(count[key] for count in counts) for key in ("finished", "cancelled"))
        failed = sum(tally.failed.values())
        if tally.asked != tally.finished + tally.left + failed:
            problems.append(f"{tally.asked} questions, {tally.finished + tally.left + failed} accounted for")
        probes = counts[1]["opened"] - tally.expected["triton"]  # an instance asks what a V2 model takes, at first
        if counts[0]["opened"] != tally.expected["vllm"] or not 0 <= probes <= 2 * self.descriptions:
            problems.append(f"{dict(tally.expected)} requests were sent, the servers counted {seen}")
        if seen != finished + cancelled:
            problems.append(f"the servers still answer {seen - finished - cancelled} requests")
        problems += self._leaks(before)
        errors = ", ".join(f"{name} {count}" for name, count in sorted(tally.failed.items()))
        streams = statistics.median(sample.streams for sample in self.samples)
        print(f"{tally.asked} questions in {self.samples[-1].at:.0f} s: {tally.finished} whole answers, ", end="")
        print(f"{failed} typed errors ({100 * failed / max(1, tally.asked):.1f} %), {tally.left} left early")
        print(f"errors: {errors or 'none'}")
        print(f"the servers counted {seen} requests: {finished} answered, {cancelled} given up by the client; ", end="")
        print(f"{sum(tally.expected.values())} with a question, {probes} for a model's description")
        print(f"streams at once: {streams:.0f} (median) of {self.streams}")
        return problems

    def _leaks(self, before: tuple[int, int]) -> list[str]:
        half = len(self.samples) // 2
        middle = self.samples[max(1, half // 2) : max(2, half)]
        end = self.samples[-max(1, len(middle)) :]
        problems = []
        limits = {"memory": (1.05, 8.0), "sockets": (1.1, 20), "tasks": (1.05, 5), "threads": (1.05, 5)}
        for name, (factor, plus) in limits.items():
            first = statistics.median(getattr(sample, name) for sample in middle)
            last = statistics.median(getattr(sample, name) for sample in end)
            unit = " MiB" if name == "memory" else ""
            print(f"{name}: {first:.0f}{unit} in the middle, {last:.0f}{unit} at the end")
            if last > first * factor + plus:
                problems.append(f"{name} grew from {first:.0f} to {last:.0f}{unit}")
        for name, count, now in (("sockets", before[0], sockets), ("threads", before[1], threading.active_count)):
            left = _until_gone(now, count)
            print(f"{name} left when all is closed: {left}")
            if left > 0:
                problems.append(f"{left} {name} are left")
        return problems


async def _close(kind: Kind) -> None:
    for instance in kind.instances:
        await instance.model.aclose()
    kind.instances.clear()


def _until_gone(now: Any, allowed: int, seconds: float = 10.0) -> int:
    end = time.monotonic() + seconds
    while (left := now() - allowed) > 0 and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    return max(0, left)


def memory() -> float:
    """Resident memory in MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def sockets() -> int:
    """Sockets this process has open."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        try:
            count += str(link.readlink()).startswith("socket:")
        except OSError:
            continue
    return count


def _grpc_ready() -> None:
    """Has gRPC start what stays for the life of a process, so that it is not taken for a leak."""
    import grpc

    async def once() -> None:
        channel = grpc.aio.insecure_channel("127.0.0.1:1")
        await channel.close()

    asyncio.run(once())
    gc.collect()


def main() -> int:
    """Runs it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long to ask (default: 600)")
    parser.add_argument("--seed", type=int, default=1, help="of the random mix (default: 1)")
    parser.add_argument("--faults", type=float, default=0.05, help="share of questions with a fault (default: 0.05)")
    parser.add_argument("--pace", type=float, default=80.0, help="milliseconds per token (default: 80)")
    options = parser.parse_args()
    _grpc_ready()
    before = (sockets(), threading.active_count())
    servers: list[Server] = []
    try:
        servers.append(Server("--tgis", "--pace", str(options.pace)))
        servers.append(Server("--runtime", "triton", "--model", "dev-model", "--v2-grpc", "--pace", str(options.pace)))
        soak = Soak(options, servers)
        print(f"soak: {soak.streams} streams, {options.faults:.0%} with a fault, seed {options.seed}", flush=True)
        asyncio.run(soak.run())
        problems = soak.judge(before)
    finally:
        for server in servers:
            server.stop()
    for problem in problems:
        print(f"error: {problem}")
    print(f"soak {'FAILED' if problems else 'passed'}: {soak.tally.asked} questions in {options.seconds:.0f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
