"""The examples do what they say, and explain what went wrong when something does."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from kserve_core.devserver import DevServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.needs("devserver")


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    (tmp_path / "gateway.md").write_text("# Gateway\n\nThe gateway uses port 8443. It was built in May.\n", "utf-8")
    (tmp_path / "garden.md").write_text("# Garden\n\nTomatoes want sun and water every day.\n", "utf-8")
    return tmp_path


@pytest.fixture
def quickstart(notes: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    module = example("quickstart")

    def run(*arguments: str) -> tuple[int, str]:
        question = ["--docs", str(notes), "--question", "Which port does the gateway use?", "--max-retries", "0"]
        status = module.main([*question, *arguments])
        return status, capsys.readouterr().out

    return run


@pytest.fixture(scope="module")
def secure() -> Iterator[DevServer]:
    with DevServer(api_key="right", tls=True) as server:
        yield server


def test_quickstart_answers_in_both_frameworks_with_sources(quickstart: Callable[..., tuple[int, str]]) -> None:
    status, printed = quickstart()
    assert status == 0
    assert printed.count("The gateway uses port 8443.") >= 2
    first_sources = re.findall(r"\[1\].*", printed)
    assert len(first_sources) == 2
    assert all("gateway.md" in line for line in first_sources)


@pytest.mark.parametrize("runtime", ["caikit", "tgis"])
def test_quickstart_on_other_runtimes(quickstart: Callable[..., tuple[int, str]], runtime: str) -> None:
    status, printed = quickstart("--runtime", runtime)
    assert status == 0
    assert printed.count("The gateway uses port 8443.") >= 2
    assert len(re.findall(r"\[1\].*gateway\.md", printed)) == 2


def test_quickstart_says_that_tgis_has_no_embeddings(quickstart: Callable[..., tuple[int, str]]) -> None:
    with pytest.raises(SystemExit, match="--embedding-base-url"):
        quickstart("--runtime", "tgis", "--base-url", "grpc://127.0.0.1:9")


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
def test_quickstart_over_tls_with_a_token(
    quickstart: Callable[..., tuple[int, str]], secure: DevServer, framework: str
) -> None:
    status, printed = quickstart(
        "--framework", framework, "--base-url", secure.url, "--api-key", "right", "--ca-cert", str(secure.ca_cert)
    )
    assert status == 0
    assert "The gateway uses port 8443." in printed
    assert "No --base-url" not in printed


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"--base-url": "http://127.0.0.1:9"}, "refused"),
        ({"--api-key": "wrong"}, "401|token"),
        ({"--model": "no-such-model"}, "no-such-model"),
        ({"--ca-cert": None}, "ca_cert"),
    ],
)
def test_quickstart_explains_a_failure(
    quickstart: Callable[..., tuple[int, str]],
    secure: DevServer,
    framework: str,
    change: dict[str, str | None],
    said: str,
) -> None:
    options = {"--base-url": secure.url, "--api-key": "right", "--ca-cert": str(secure.ca_cert), **change}
    if change.keys() == {"--base-url"}:
        del options["--ca-cert"]
    arguments = [word for name, value in options.items() if value is not None for word in (name, value)]
    status, printed = quickstart("--framework", framework, *arguments)
    assert status == 1
    assert re.search(said, printed)
    assert "Hint:" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            "agent_langchain",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("langchain") is None,
                reason="langchain is not in the oldest-versions run: it asks for newer packages than those",
            ),
        ),
        "agent_llamaindex",
    ],
)
def test_agents_call_their_tool(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    assert example(name).main() == 0
    printed = capsys.readouterr().out
    assert "21 degrees and sunny in Paris" in printed
    assert printed.rstrip().endswith("It is 21 degrees in Paris.") or "21 degrees" in printed.rstrip().splitlines()[-1]


@pytest.mark.parametrize("runtime", ["caikit", "tgis"])
def test_an_agent_without_tool_calls_uses_its_tool(runtime: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example("react_langchain").main(["--runtime", runtime]) == 0
    printed = capsys.readouterr().out
    assert 'Action: get_weather\nAction Input: {"city": "Paris"}\nObservation: 21 degrees and sunny in Paris' in printed
    assert "Final Answer: 21 degrees" in printed.rstrip().splitlines()[-1]


def test_such_an_agent_is_told_its_mistakes() -> None:
    module = example("react_langchain")
    tools = {"get_weather": module.get_weather}
    assert "get_weather" in module.run(tools, "I would rather talk.")
    assert "get_weather" in module.run(tools, "Action: fly\nAction Input: {}")
    assert "not a JSON object" in module.run(tools, "Action: get_weather\nAction Input: Paris")


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
def test_rag_from_caikit_alone(framework: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example("caikit_rag").main(["--framework", framework]) == 0
    answer, best, *_ = capsys.readouterr().out.splitlines()
    assert answer == "The REST port of Caikit is 8080, and its gRPC port is 8085."
    assert best.endswith(answer)


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
def test_streaming_from_tgis(framework: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example("tgis_stream").main(["--framework", framework]) == 0
    assert "one two three four five six seven eight nine ten." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["caikit_rag", "react_langchain"])
def test_a_failure_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with DevServer(runtime="caikit", api_key="right") as server:
        assert example(name).main(["--base-url", server.url, "--api-key", "wrong"]) == 1
    printed = capsys.readouterr().out
    assert "Failed:" in printed
    assert "Hint:" in printed
