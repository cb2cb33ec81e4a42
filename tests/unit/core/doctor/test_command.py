"""The command: its exit status, what it prints, and that no secret is ever printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from kserve_core.devserver import DevServer
from kserve_core.doctor.__main__ import main
from tests.unit.core.doctor.conftest import CANARY

_ROOT = Path(__file__).parents[4]


def _run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user runs it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KSERVE_")}
    kept |= {"PYTHONPATH": str(_ROOT / "core"), "PYTHONIOENCODING": "utf-8", **environment}
    done = subprocess.run(
        [sys.executable, "-m", "kserve_core.doctor", *words],
        capture_output=True,
        text=True,
        timeout=60,
        env=kept,
        check=False,
    )
    assert CANARY not in done.stdout + done.stderr
    return done


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text(CANARY)
    return str(path)


def test_everything_works(token: str) -> None:
    with DevServer(api_key=CANARY, tls=True) as server:
        done = _run(server.url, "--ca-cert", str(server.ca_cert), "--token-file", token)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "Everything works." in done.stdout
    assert "from langchain_kserve import ChatVLLM" in done.stdout
    assert "from llamaindex_kserve import VLLM" in done.stdout
    assert "\x1b[" not in done.stdout


def test_the_token_comes_from_the_environment(token: str) -> None:
    with DevServer(api_key=CANARY) as server:
        by_text = _run(server.url, KSERVE_API_KEY=CANARY)
        by_file = _run(KSERVE_BASE_URL=server.url, KSERVE_API_KEY_FILE=token)
    assert by_text.returncode == by_file.returncode == 0
    assert "environment variable KSERVE_API_KEY" in by_text.stdout
    assert f'api_key=Path("{token}")' in by_file.stdout


def test_a_step_that_fails() -> None:
    with DevServer(api_key="something-else") as server:
        done = _run(server.url, KSERVE_API_KEY=CANARY)
    assert done.returncode == 1
    assert "Failed: Auth." in done.stdout
    assert "fix: " in done.stdout
    assert "langchain" not in done.stdout


def test_the_report_as_json(token: str) -> None:
    with DevServer(api_key=CANARY) as server:
        done = _run(server.url, "--token-file", token, "--json")
        failed = _run(server.url, "--json")
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert [step["step"] for step in report["steps"]][:3] == ["dns", "tcp", "tls"]
    assert {step["status"] for step in report["steps"]} <= {"ok", "skipped"}
    assert set(report["snippets"]) == {"langchain", "llamaindex"}
    refused = json.loads(failed.stdout)
    assert (failed.returncode, refused["ok"], refused["snippets"]) == (1, False, {})
    auth = next(step for step in refused["steps"] if step["step"] == "auth")
    assert auth["fix"]


@pytest.mark.parametrize("option", ["--token", "--api-key", "--bearer"])
def test_a_token_on_the_command_line_is_refused(option: str) -> None:
    for words in ((option, CANARY), (f"{option}={CANARY}",)):
        done = _run("http://127.0.0.1:1", *words)
        assert done.returncode == 2
        assert "--token-file" in done.stderr
        assert done.stdout == ""


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("http://127.0.0.1:1", CANARY),
        ("http://127.0.0.1:1", "--isvc", "m"),
        ("http://127.0.0.1:1", "--unknown", CANARY),
        ("http://127.0.0.1:1", f"--unknown={CANARY}"),
        ("http://127.0.0.1:1", "--timeout", CANARY),
        ("http://127.0.0.1:1", "--protocol", CANARY),
        ("http://127.0.0.1:1", "-n", "demo"),
        ("http://127.0.0.1:1", "--client-key", "k"),
        ("http://127.0.0.1:1", "--runtime", "nothing"),
        ("http://127.0.0.1:1", "--token-file", "/nothing/here"),
        ("https://127.0.0.1:1", "--ca-cert", "/nothing/here"),
        (f"http://user:{CANARY}@127.0.0.1:1",),
        ("ftp://127.0.0.1:1",),
        ("--isvc", "Not_A_Name"),
    ],
)
def test_what_cannot_be_used_is_told_without_repeating_it(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KSERVE_BASE_URL", raising=False)
    try:
        status = main(words)
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    printed = capsys.readouterr()
    assert status == 2
    assert printed.err.startswith("kserve-doctor: ")
    assert CANARY not in printed.out + printed.err


def test_help_names_the_ways_to_give_a_token(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert "--token-file" in text
    assert "KSERVE_API_KEY_FILE" in text
    assert "--bearer" not in text


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")
@pytest.mark.parametrize(("environment", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_are_for_terminals(environment: dict[str, str], coloured: bool) -> None:
    import pty

    with DevServer() as server:
        main_end, other_end = pty.openpty()
        kept = {**os.environ, "PYTHONPATH": str(_ROOT / "core"), "TERM": "xterm", **environment}
        done = subprocess.Popen(
            [sys.executable, "-m", "kserve_core.doctor", server.url], stdout=other_end, stderr=other_end, env=kept
        )
        os.close(other_end)
        text = b""
        try:
            while data := os.read(main_end, 65536):
                text += data
        except OSError:
            pass  # the other end was closed
        os.close(main_end)
        assert done.wait(30) == 0
    assert (b"\x1b[" in text) is coloured


def test_the_installed_command_is_this_one() -> None:
    text = (_ROOT / "pyproject.toml").read_text()
    assert 'kserve-doctor = "kserve_core.doctor.__main__:main"' in text
