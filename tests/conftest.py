"""Shared by all tests: no network but loopback, and tests that a target cannot answer are left out."""

from __future__ import annotations

import errno
import importlib.util
import ipaddress
import os
import socket
import sys
from pathlib import Path

import pytest
import targets

for _name in [name for name in os.environ if name.startswith("KSERVE_") and not name.startswith("KSERVE_TEST_")]:
    del os.environ[_name]  # a developer's own settings must not reach the tests

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # servers that stop before their clients are no news here

collect_ignore = [] if targets.real_targets() is not None else ["runtimes"]


_WITHOUT = [] if importlib.util.find_spec("langchain_tests") else ["langchain_tests"]


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves out LangChain's own suites where the oldest versions are tested, which those suites do not run on."""
    if _WITHOUT and collection_path.match("test_*.py") and "langchain_tests" in collection_path.read_text("utf-8"):
        return True
    return None


def pytest_report_header() -> list[str]:
    """Says what the tests run against."""
    real = targets.real_targets()
    against = "the development server" if real is None else ", ".join(one["name"] for one in real.values())
    return [f"against: {against}", *(f"left out: what needs {name}, which is not installed" for name in _WITHOUT)]


def _text(host: object) -> str:
    return host.decode() if isinstance(host, bytes) else str(host)


def _is_address(host: object) -> bool:
    try:
        ipaddress.ip_address(_text(host).partition("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(host: object) -> bool:
    if not host or _text(host) == "localhost":
        return True
    return _is_address(host) and ipaddress.ip_address(_text(host).partition("%")[0]).is_loopback


def _loopback_only(event: str, args: tuple[object, ...]) -> None:
    """Makes every host but this one unreachable and unresolvable.

    An audit hook sees the sockets of every library, and no plugin can take it off between two tests.
    """
    if event == "socket.connect":
        sock, address = args
        if sock.family in {socket.AF_INET, socket.AF_INET6} and not _is_loopback(address[0]):
            raise OSError(errno.ENETUNREACH, f"tests may reach loopback only, not {address!r}")
    elif event == "socket.getaddrinfo" and not _is_loopback(args[0]) and not _is_address(args[0]):
        raise socket.gaierror(socket.EAI_NONAME, f"tests resolve no names, asked for {args[0]!r}")


sys.addaudithook(_loopback_only)


def _runtime_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    if callspec is not None and "target" in callspec.params:
        return str(callspec.params["target"])
    named = getattr(getattr(item, "cls", None), "runtime", None)
    if isinstance(named, str):
        return named
    marker = item.get_closest_marker("runtime")
    return str(marker.args[0]) if marker else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out tests that need what their target lacks, or that belong to a runtime this run has no server for."""
    active = [entry.key for entry in targets.active_entries()]
    kept, left_out = [], []
    for item in items:
        needed = {feature for marker in item.iter_markers("needs") for feature in marker.args}
        runtime = _runtime_of(item)
        if runtime is not None:
            fits = runtime in active and needed <= targets.features(runtime)
        else:
            fits = not needed or any(needed <= targets.features(key) for key in active)
        (kept if fits else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs a test that takes `target` once per runtime that has a server."""
    if "target" in metafunc.fixturenames:
        own = getattr(metafunc.cls, "runtime", None)
        keys = [own] if isinstance(own, str) else [entry.key for entry in targets.active_entries()]
        metafunc.parametrize("target", keys, indirect=True, scope="session")


@pytest.fixture(scope="session")
def target(request: pytest.FixtureRequest) -> targets.Target:
    """The server that stands for the runtime under test."""
    return targets.get_target(request.param)


def pytest_sessionfinish() -> None:
    targets.stop_development_servers()
