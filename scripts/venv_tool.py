"""Makes and keeps up to date the virtual environments of the Makefile.

Usage: python scripts/venv_tool.py .venv --extra all --group test --group lint [--lowest]

Nothing happens when the environment already fits `pyproject.toml`, the arguments and this Python. The package goes
in as an editable install. uv installs when it can be had, else pip does.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROJECT = ROOT / "pyproject.toml"


def _read_project() -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        from pip._vendor import tomli as tomllib
    with PROJECT.open("rb") as file:
        content: dict[str, Any] = tomllib.load(file)
    return content


def group_requirements(name: str) -> Iterator[str]:
    """The requirements of a dependency group, those of included groups first.

    Raises:
        KeyError: If there is no such group.
    """
    for item in _read_project()["dependency-groups"][name]:
        if isinstance(item, str):
            yield item
        else:
            yield from group_requirements(item["include-group"])


def pip_setting(name: str) -> list[str]:
    """The values of one of pip's global settings, from its variable or its configuration."""
    own = os.environ.get(f"PIP_{name.upper().replace('-', '_')}")
    if own is None:
        command = [sys.executable, "-m", "pip", "config", "get", f"global.{name}"]
        asked = subprocess.run(command, capture_output=True, text=True, check=False)
        own = asked.stdout if asked.returncode == 0 else ""
    return own.split()


def uv_environment() -> dict[str, str]:
    """This process's variables, with pip's settings added under the names uv reads.

    uv takes no notice of pip's configuration, which is where a mirror or a folder of wheels is usually set.
    Hard links are not used: some packages refuse data files that have more than one name.
    """
    found = dict(os.environ)
    found.setdefault("UV_LINK_MODE", "copy")
    settings = {"UV_DEFAULT_INDEX": "index-url", "UV_INDEX": "extra-index-url", "UV_FIND_LINKS": "find-links"}
    for variable, setting in settings.items():
        values = [value for value in pip_setting(setting) if _is_there(value)]
        if values and variable not in found:
            found[variable] = (" " if variable == "UV_INDEX" else ",").join(values)
            if variable == "UV_INDEX":
                found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # as pip does it
    return found


def _is_there(place: str) -> bool:
    path = place.removeprefix("file://")
    return Path(path).exists() if path.startswith("/") else "://" in path


def _run(command: list[str], *, env: dict[str, str] | None = None) -> bool:
    return subprocess.run(command, check=False, cwd=ROOT, env=env).returncode == 0


class Installer:
    """Installs into one environment with uv, or with pip where uv cannot be had."""

    def __init__(self, folder: Path) -> None:
        self.python = str(folder / "bin" / "python")
        self.uv = folder / "bin" / "uv"
        self.has_uv = _run([self.python, "-m", "pip", "install", "--quiet", "uv"]) and self.uv.exists()

    def install(self, *arguments: str, lowest: bool = False) -> None:
        """Installs what pip's command line would install for these arguments.

        Raises:
            SystemExit: If it does not work.
        """
        if self.has_uv:
            resolution = ["--resolution", "lowest-direct"] if lowest else []
            command = [str(self.uv), "pip", "install", "--quiet", "--python", self.python, *resolution, *arguments]
            done = _run(command, env=uv_environment())
        elif lowest:
            sys.exit("the lowest versions can only be worked out by uv, which could not be installed")
        else:
            done = _run([self.python, "-m", "pip", "install", "--quiet", *arguments])
        if not done:
            sys.exit(f"could not install {' '.join(arguments)}")

    def freeze(self, out: Path) -> None:
        """Writes down what is installed, without the package itself."""
        command = [str(self.uv), "pip", "freeze", "--quiet", "--exclude-editable", "--python", self.python]
        listed = subprocess.run(command, check=True, capture_output=True, text=True, env=uv_environment()).stdout
        out.write_text(listed, encoding="utf-8")


def main() -> None:
    """Makes the environment if what is there does not fit."""
    parser = argparse.ArgumentParser(description="Makes a virtual environment with this package in it.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--extra", action="append", default=[], help="an extra of the package")
    parser.add_argument("--group", action="append", default=[], help="a dependency group of pyproject.toml")
    parser.add_argument("--lowest", action="store_true", help="the oldest versions the package says it works with")
    options = parser.parse_args()
    folder: Path = options.folder.absolute()
    facts = [sys.version, str(options.extra), str(options.group), str(options.lowest), str(folder)]
    content = PROJECT.read_bytes() + Path(__file__).read_bytes()
    wanted = hashlib.sha256("\0".join(facts).encode() + content).hexdigest()
    stamp = folder / ".made-for"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return
    print(f"making {folder.name}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    installer = Installer(folder)
    package = f"{ROOT}[{','.join(options.extra)}]" if options.extra else str(ROOT)
    requirements = [requirement for group in options.group for requirement in group_requirements(group)]
    if options.lowest:
        installer.install("--editable", package, lowest=True)
        pins = folder / "lowest.txt"
        installer.freeze(pins)
        installer.install("--constraint", str(pins), *requirements)
    else:
        installer.install("--editable", package, *requirements)
    stamp.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
