"""Runs the conformance suites and the contract tests against real inference servers on loopback.

    python -m runtimes                  all runtimes, one group after the other
    python -m runtimes vllm -- -k tool  one runtime, with arguments for pytest
    python -m runtimes --prepare        only install and make models
    python -m runtimes --serve          start the servers and wait; for pytest in another terminal

A server that cannot be installed or started is a failure, never a skip.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

# One group after the other; the servers of a group run at the same time and use each other.
GROUPS = (("vllm",), ("tgis", "caikit"), ("triton", "mlserver", "kserve"))
RUNTIMES = tuple(name for group in GROUPS for name in group)
ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "test-runtimes"
TESTS = ("tests/conformance", "tests/runtimes")
NOTHING_SELECTED = 5  # pytest's exit status


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    words = sys.argv[1:]
    cut = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(prog="python -m runtimes", description="Tests against real inference servers.")
    parser.add_argument("runtimes", nargs="*", metavar="RUNTIME", help="which runtimes; all if none is named")
    parser.add_argument("--prepare", action="store_true", help="only install servers and make models")
    parser.add_argument("--serve", action="store_true", help="start the servers and wait for an interrupt")
    options = parser.parse_args(words[:cut])
    unknown = set(options.runtimes) - set(RUNTIMES)
    if unknown:
        parser.error(f"no runtime called {', '.join(sorted(unknown))}; there is {', '.join(RUNTIMES)}")
    return options, words[cut + 1 :]


def _stop(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _work_folder() -> Path:
    """A folder of this process for logs, certificates and the targets file; those of ended processes are removed."""
    for old in WORK.glob("*"):
        if not Path("/proc", old.name).exists():
            shutil.rmtree(old, ignore_errors=True)
    work = WORK / str(os.getpid())
    work.mkdir(parents=True)
    return work


def _prepare(modules: Iterable[ModuleType]) -> None:
    """Installs and trains, side by side: one downloads while another computes."""
    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(module.prepare) for module in modules]:
            done.result()


def _wait(targets: Path) -> int:
    print(f"\nKSERVE_TEST_TARGETS={targets} python -m pytest {' '.join(TESTS)}\nInterrupt to stop.", flush=True)
    with suppress(KeyboardInterrupt):
        signal.pause()
    return 0


def _test(targets: Path, extra: list[str]) -> int:
    command = [sys.executable, "-m", "pytest", *TESTS, "--snapshot-warn-unused", *extra]  # others' are unused
    variables = {**os.environ, "KSERVE_TEST_TARGETS": str(targets)}
    status = subprocess.run(command, cwd=ROOT, env=variables, check=False).returncode
    return 0 if extra and status == NOTHING_SELECTED else status


def _serve(modules: Iterable[ModuleType], work: Path, use: Callable[[Path], int]) -> tuple[int, str]:
    """Starts servers, uses them, stops them; returns the status and how long it took."""
    began = time.monotonic()
    targets = work / "targets.json"
    targets.touch(mode=0o600)  # it holds the servers' key
    try:
        with ExitStack() as stack:
            entries: dict[str, Any] = {}
            for module in modules:
                entries.update(stack.enter_context(module.serving(work)))
            targets.write_text(json.dumps(entries, indent=1), encoding="utf-8")
            up = time.monotonic()
            status = use(targets)
            return status, f"started {up - began:.0f} s, used {time.monotonic() - up:.0f} s"
    except (RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1, "did not start"
    finally:
        targets.unlink()


def main() -> int:
    """Returns 0 if all runtimes passed, 1 if not."""
    options, extra = _arguments()
    signal.signal(signal.SIGTERM, _stop)
    modules = {name: importlib.import_module(f"runtimes.{name}.servers") for name in options.runtimes or RUNTIMES}
    began = time.monotonic()
    try:
        _prepare(modules.values())
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"FAILED: cannot be installed: {error}", file=sys.stderr)
        return 1
    table = [f"prepared in {time.monotonic() - began:.0f} s"]
    work = _work_folder()
    failed = False
    if options.serve:
        _serve(modules.values(), work, _wait)
    elif not options.prepare:
        for group in GROUPS:
            wanted = [name for name in group if name in modules]
            if not wanted:
                continue
            status, told = _serve([modules[name] for name in wanted], work, lambda targets: _test(targets, extra))
            failed = failed or status != 0
            table.append(f"{', '.join(wanted):<12} {'FAILED' if status else 'passed'}  {told}")
        table.append(f"logs in {work.relative_to(ROOT)}")
    print("", *table, sep="\n", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
