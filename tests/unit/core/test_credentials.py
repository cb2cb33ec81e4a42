"""Tokens from everywhere they can come from."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from kserve_core.credentials import CallableToken, EnvToken, FileToken, StaticToken, as_token_source
from kserve_core.errors import ConfigurationError

TOKEN = "canary-token"


def token_of(value: Any, *, refresh: bool = False) -> str:
    source = as_token_source(value)
    assert source is not None
    blocking = source.token(refresh=refresh)
    assert asyncio.run(source.atoken(refresh=refresh)) == blocking
    return blocking


def test_text_in_its_forms() -> None:
    assert token_of(TOKEN) == TOKEN
    assert token_of(SecretStr(TOKEN)) == TOKEN
    assert token_of(f"  {TOKEN}\n") == TOKEN
    assert token_of(f"Bearer {TOKEN}") == TOKEN
    assert as_token_source(None) is None
    assert as_token_source("EMPTY") is None
    assert as_token_source(SecretStr("EMPTY")) is None


def test_source_is_passed_through() -> None:
    source = EnvToken("X")
    assert as_token_source(source) is source


@pytest.mark.parametrize(
    "value", ["", "  ", "Bearer ", "canary token", "canary\r\nX-Evil: 1", "canary\x00", "canaryä", "Bearer"]
)
def test_text_that_cannot_be_a_token(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(value)
    makers: list[Any] = [lambda: as_token_source(value), FileToken(path).token, CallableToken(lambda: value).token]
    if value and "\x00" not in value:
        monkeypatch.setenv("SOME_TOKEN", value)
        makers.append(EnvToken("SOME_TOKEN").token)
    for make in makers:
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert "canary" not in str(caught.value)
        assert caught.value.hint


def test_other_types_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="bytes"):
        as_token_source(b"canary")  # type: ignore[arg-type]


def test_environment_is_read_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    source = EnvToken("SOME_TOKEN")
    monkeypatch.setenv("SOME_TOKEN", "one")
    assert source.token() == "one"
    monkeypatch.setenv("SOME_TOKEN", "two")
    assert source.token() == "two"
    monkeypatch.delenv("SOME_TOKEN")
    with pytest.raises(ConfigurationError, match="SOME_TOKEN"):
        source.token()


def test_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text("one\n")
    source = FileToken(path)
    assert source.token() == "one"
    path.write_text("three\n")
    assert source.token() == "three"


def test_file_swapped_by_a_link_as_the_kubelet_does(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(f"{name}-token")
        os.utime(tmp_path / name / "token", (1, 1))
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "old")
    source = FileToken(link / "token")
    assert source.token() == "old-token"
    fresh = tmp_path / "fresh"
    fresh.symlink_to(tmp_path / "new")
    fresh.replace(link)
    assert source.token() == "new-token"


def test_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text("one")
    source = FileToken(path)
    reads: list[Path] = []
    original = Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda self, *args: reads.append(self) or original(self, *args))
    assert [source.token() for _ in range(3)] == ["one"] * 3
    assert len(reads) == 1
    assert source.token(refresh=True) == "one"
    assert len(reads) == 2


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file") as caught:
        FileToken(tmp_path / "absent").token()
    assert str(tmp_path) in str(caught.value)
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="not text"):
        FileToken(binary).token()


def test_function_is_asked_every_time() -> None:
    counter = iter(range(10))
    source = as_token_source(lambda: f"token-{next(counter)}")
    assert source is not None
    assert [source.token(), source.token()] == ["token-0", "token-1"]


def test_function_may_return_a_wrapped_secret() -> None:
    assert token_of(lambda: SecretStr(TOKEN)) == TOKEN


def test_coroutine_function_and_function_returning_an_awaitable() -> None:
    async def fetch() -> str:
        await asyncio.sleep(0)
        return TOKEN

    assert token_of(fetch) == TOKEN
    assert token_of(lambda: asyncio.wait_for(fetch(), 5)) == TOKEN


def test_blocking_function_does_not_block_the_event_loop() -> None:
    names: list[str] = []

    def fetch() -> str:
        names.append(threading.current_thread().name)
        return TOKEN

    source = CallableToken(fetch)
    assert asyncio.run(source.atoken()) == TOKEN
    assert names[0] != threading.main_thread().name


def test_function_that_fails_or_returns_something_else() -> None:
    async def broken() -> str:
        msg = "vault is sealed"
        raise OSError(msg)

    with pytest.raises(OSError, match="sealed"):
        CallableToken(broken).token()

    async def inside() -> str:
        return CallableToken(broken).token()

    with pytest.raises(OSError, match="sealed"):
        asyncio.run(inside())
    with pytest.raises(ConfigurationError, match="NoneType"):
        CallableToken(lambda: None).token()


def test_only_text_cannot_be_refreshed() -> None:
    assert not StaticToken(TOKEN).refreshable
    assert EnvToken("X").refreshable
    assert FileToken("x").refreshable
    assert CallableToken(str).refreshable


def fixed() -> str:
    return TOKEN


def test_sources_show_nothing_and_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "token"
    path.write_text(TOKEN)
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    for source in (StaticToken(TOKEN), EnvToken("SOME_TOKEN"), FileToken(path), CallableToken(fixed)):
        assert source.token() == TOKEN
        copy = pickle.loads(pickle.dumps(source))
        assert copy == source
        assert hash(copy) == hash(source)
        assert copy.token() == TOKEN
        assert TOKEN not in repr(source) + str(source)
        if not isinstance(source, StaticToken):
            assert TOKEN.encode() not in pickle.dumps(source)
