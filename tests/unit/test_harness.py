"""What the tests themselves stand on: the network guard, the cache of servers, starting and stopping them."""

from __future__ import annotations

import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from runtimes.environments import once
from runtimes.processes import Server, Servers, free_ports


def test_no_address_but_loopback_can_be_reached():
    with pytest.raises(OSError, match="loopback only"), socket.socket() as sock:
        sock.connect(("192.0.2.1", 80))


def test_no_name_can_be_resolved():
    with pytest.raises(urllib.error.URLError, match="resolve no names"):
        urllib.request.urlopen("http://models.example.com", timeout=5)


class TestOnce:
    def test_it_is_made_once(self, tmp_path: Path):
        made = [once(tmp_path / "thing", lambda folder: (folder / "file").touch()) for _ in range(2)]
        assert [path.name for path in (tmp_path / "thing").iterdir()] == ["file"]
        assert made == [tmp_path / "thing"] * 2

    def test_what_failed_half_way_is_made_again(self, tmp_path: Path):
        def fail(folder: Path) -> None:
            (folder / "half").touch()
            raise ValueError

        with pytest.raises(ValueError):
            once(tmp_path / "thing", fail)
        assert not (tmp_path / "thing").exists()
        once(tmp_path / "thing", lambda folder: (folder / "whole").touch())
        assert [path.name for path in (tmp_path / "thing").iterdir()] == ["whole"]


def file_server(tmp_path: Path) -> Server:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    return Server("files", command, f"http://127.0.0.1:{port}/", tmp_path / "files.log")


class TestServers:
    def test_they_answer_inside_and_are_gone_after(self, tmp_path: Path):
        server = file_server(tmp_path)
        with Servers([server]):
            assert server.ready()
        assert server.ended
        assert not server.ready()

    def test_one_that_ends_while_starting_takes_the_others_along(self, tmp_path: Path):
        good = file_server(tmp_path)
        bad = Server(
            "bad", [sys.executable, "-c", "raise SystemExit('no model')"], "http://127.0.0.1:9/", tmp_path / "bad.log"
        )
        with pytest.raises(RuntimeError, match="bad ended while starting:\nno model"), Servers([good, bad]):
            pytest.fail("it must not come up")
        assert good.ended

    def test_one_that_never_answers_is_given_up(self, tmp_path: Path):
        silent = Server(
            "silent", [sys.executable, "-c", "import time; time.sleep(60)"], "http://127.0.0.1:9/", tmp_path / "log"
        )
        with pytest.raises(RuntimeError, match="not ready after 1 s"), Servers([silent], patience=1):
            pytest.fail("it must not come up")
        assert silent.ended
