"""Keeps what is slow to make (environments, models) outside the work tree, each whole or not there at all."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from venv_tool import uv_environment

CACHE_VARIABLE = "KSERVE_TEST_CACHE"
LINKS_VARIABLE = "TORCH_LINKS"  # where wheels are that no index has; else what pip is configured to look at


def cache_root() -> Path:
    """Where cached things live: `KSERVE_TEST_CACHE`, or a folder in the user's cache."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own).expanduser().resolve()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "kserve-integrations"


def fingerprint(*parts: str | Path) -> str:
    """A short hash of texts and of files' contents."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()[:12]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def once(path: Path, make: Callable[[Path], None]) -> Path:
    """Makes a folder if it is not there.

    `make` is given an empty folder beside it, which becomes the folder only when `make` has returned. Another
    process that wants the same folder waits.
    """
    with _alone(path):
        if path.exists():
            return path
        unfinished = path.with_name(f".{path.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        began = time.monotonic()
        print(f"making {path}", flush=True)
        make(unfinished)
        unfinished.rename(path)
        print(f"made {path.name} in {time.monotonic() - began:.0f} s", flush=True)
    return path


@dataclass(frozen=True)
class Environment:
    """A virtual environment for a server.

    Attributes:
        name: The runtime's name.
        requirements: File of pinned requirements.
        overrides: File of requirements that go before what packages ask for, or None.
        bare: Requirements installed without their dependencies.
        finish: A script to run in the finished environment, or None.
    """

    name: str
    requirements: Path
    overrides: Path | None = None
    bare: Sequence[str] = ()
    finish: Path | None = None

    def python(self) -> Path:
        """The environment's interpreter, made at the first call for these pins and this Python.

        Raises:
            subprocess.CalledProcessError: If it cannot be installed.
        """
        files = [path for path in (self.requirements, self.overrides, self.finish) if path]
        key = fingerprint(sys.version, platform.machine(), *self.bare, *files)
        return once(cache_root() / f"{self.name}-{key}", self._build) / "bin" / "python"

    def _build(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        python = folder / "bin" / "python"
        variables = uv_environment()
        if os.environ.get(LINKS_VARIABLE):
            variables["UV_FIND_LINKS"] = ",".join(os.environ[LINKS_VARIABLE].split())
        install = [_uv(), "pip", "install", "--quiet", "--python", str(python)]
        overrides = ["--override", str(self.overrides)] if self.overrides else []
        subprocess.run([*install, *overrides, "--requirement", str(self.requirements)], check=True, env=variables)
        if self.bare:
            subprocess.run([*install, "--no-deps", *self.bare], check=True, env=variables)
        if self.finish:
            subprocess.run([str(python), str(self.finish)], check=True)
        # A server starts several processes of thousands of modules each; compiled they start in half the time.
        compile_all = [str(python), "-m", "compileall", "-q", "-j", "0", str(folder / "lib")]
        subprocess.run(compile_all, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _uv() -> str:
    """The uv that stands beside this interpreter, or on the path.

    Raises:
        FileNotFoundError: If there is none.
    """
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        msg = "uv is needed to install a server; it comes with the test environment (make test)"
        raise FileNotFoundError(msg)
    return found
