"""Every runtime's server examined as a user would, and the programs that are printed at the end, run."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

import pytest

from kserve_core.devserver import DevServer, Model
from kserve_core.doctor import Report, aexamine, examine
from kserve_core.doctor.snippets import Made, quoted, snippets
from kserve_core.doctor.tasks import Tried
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError
from tests.unit.core.doctor.conftest import CANARY

_THREE = ("tiny", "tiny-embedding", "tiny-rerank")
SERVERS: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "vllm": ({}, "url", ("generate", "embed", "rerank")),
    "vllm under a path": ({"base_path": "/openai"}, "url", ("generate", "embed", "rerank")),
    "vllm that embeds": ({"tasks": ("embed",)}, "url", ("embed", "rerank")),
    "vllm that ranks": ({"tasks": ("score",)}, "url", ("rerank",)),
    "caikit": ({"runtime": "caikit"}, "url", ("generate", "embed", "rerank")),
    "caikit over gRPC": ({"caikit_grpc": True}, "caikit_grpc_url", ("generate", "embed", "rerank")),
    "tgis": ({"tgis": True}, "tgis_url", ("generate",)),
    "triton": ({"runtime": "triton", "models": _THREE}, "url", ("generate", "embed", "rerank")),
    "triton over gRPC": (
        {"runtime": "triton", "models": _THREE, "v2_grpc": True},
        "v2_grpc_url",
        ("generate", "embed", "rerank"),
    ),
    "mlserver": ({"runtime": "mlserver", "models": _THREE}, "url", ("generate", "embed", "rerank")),
    "openvino": ({"runtime": "openvino", "models": ("tiny",)}, "url", ("generate", "embed", "rerank")),
    "kserve": ({"runtime": "kserve", "models": ("tiny-embedding",)}, "url", ("embed",)),
}


def _run(program: str) -> str:
    """Runs a program as pasted; what it prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "<snippet>", "exec"), {})
    return printed.getvalue()


@pytest.mark.parametrize("name", SERVERS)
def test_every_server_is_known_and_its_programs_run(name: str, tmp_path: Path) -> None:
    settings, attribute, works = SERVERS[name]
    token = tmp_path / "token"
    token.write_text(CANARY)
    with DevServer(api_key=CANARY, tls=True, **settings) as server:
        url = getattr(server, attribute)
        report = examine(url, api_key=token, ca_cert=str(server.ca_cert), timeout=30)
        assert report.ok, str(report)
        for task in ("generate", "embed", "rerank"):
            finding = report.finding(task)
            assert finding is not None
            assert finding.status == ("ok" if task in works else "skipped"), str(report)
        assert CANARY not in f"{report}{report.to_dict()}"
        assert set(report.snippets) == {"langchain", "llamaindex"}
        for program in report.snippets.values():
            assert f'Path("{token}")' in program
            assert _run(program).strip()


def test_the_context_window_and_the_version_are_told() -> None:
    with DevServer(max_model_len=1234) as server:
        report = examine(server.url, timeout=10)
    models, runtime = report.finding("models"), report.finding("runtime")
    assert models is not None
    assert "context window 1234 tokens" in models.title
    assert models.facts["models"][0]["context_window"] == 1234
    assert runtime is not None
    assert "vLLM 0.32.0" in runtime.title


def test_a_model_that_is_not_served_is_told_with_the_nearest_one() -> None:
    with DevServer(models=["granite-8b", "other"]) as server:
        report = examine(server.url, model="granite8b", timeout=10)
    finding = report.finding("models")
    assert finding is not None
    assert finding.status == "failed"
    assert "--model granite-8b" in finding.fix


def test_the_model_that_was_named_is_the_one_that_is_tried() -> None:
    with DevServer(models=["a", Model(name="b")]) as server:
        report = examine(server.url, model="b", timeout=10)
        bodies = [item.json for item in server.requests if item.method == "POST"]
    assert report.ok
    assert {body["model"] for body in bodies} == {"b"}
    assert 'model="b"' in report.snippets["langchain"]


def test_a_server_that_fails_to_answer_is_a_failure() -> None:
    with DevServer() as server:
        server.fault(status=500, method="POST", times=None)
        report = examine(server.url, timeout=10)
    assert report.exit_code == 1
    failed = [item.step for item in report if item.status == "failed"]
    assert failed == ["generate", "embed", "rerank"]
    assert report.snippets == {} or "langchain" not in report.snippets


def test_text_is_not_generated_if_it_is_not_to_be() -> None:
    with DevServer() as server:
        report = examine(server.url, generate=False, timeout=10)
        paths = [item.path for item in server.requests]
    finding = report.finding("generate")
    assert finding is not None
    assert finding.status == "skipped"
    assert not [path for path in paths if "completions" in path]
    with DevServer(tasks=("generate",)) as server:
        report = examine(server.url, generate=False, timeout=10)
        assert report.ok, str(report)
        assert "ChatVLLM" in report.snippets["langchain"]


def test_the_runtime_can_be_named_and_a_wrong_name_is_told() -> None:
    with DevServer() as server:
        assert examine(server.url, runtime="vllm", timeout=10).ok
        report = examine(server.url, runtime="caikit", timeout=10)
    finding = report.finding("runtime")
    assert finding is not None
    assert finding.status in {"warning", "skipped"}


@pytest.mark.parametrize(
    "options", [{"runtime": "nothing"}, {"protocol": "soap"}, {"protocol": "rest", "runtime": "tgis"}]
)
def test_what_cannot_be_used_is_said_before_anything_is_sent(options: dict[str, Any]) -> None:
    with DevServer() as server:
        with pytest.raises(ConfigurationError):
            examine(server.url, timeout=10, **options)
        assert len(server.requests) == 0


async def test_from_an_event_loop() -> None:
    with DevServer() as server:
        report = await aexamine(server.url, timeout=10)
    assert report.ok


def test_findings_are_told_as_they_come() -> None:
    seen: list[str] = []
    with DevServer() as server:
        report = examine(server.url, timeout=10, on_finding=lambda finding: seen.append(finding.step))
    assert seen == [finding.step for finding in report]


def test_time_that_is_over_is_a_failure_and_ends_it() -> None:
    with DevServer() as server:
        server.fault(delay=30, times=None)
        report = examine(server.url, timeout=2)
    finding = report.finding("ready")
    assert finding is not None
    assert finding.status == "failed", str(report)
    assert report.exit_code == 1


def test_answers_that_are_each_in_time_but_not_together_end_too() -> None:
    with DevServer() as server:
        server.fault(body="empty", delay=0.4, times=None)  # every question of many is answered, and tells nothing
        report = examine(server.url, timeout=1.0)
        asked = len(server.requests)
    assert report.exit_code == 1
    assert "time" in str(report)
    assert asked <= 4


@pytest.mark.parametrize("runtime", ["triton", "mlserver", "openvino", "kserve"])
def test_models_that_take_tensors_only_are_for_the_inference_client(runtime: str) -> None:
    endpoint = Endpoint.create("http://127.0.0.1:1")
    refused = tuple(Tried(task=task, outcome="refused") for task in ("generate", "embed", "rerank"))
    made = Made(endpoint=endpoint, base_url=endpoint.base_url, runtime=runtime, tried=refused, model="resnet")
    program = snippets(made)["kserve_core"]
    with pytest.raises(Exception, match=r"127\.0\.0\.1"):
        _run(program)  # it is whole, but nothing listens there
    assert program.count(f'server="{runtime}"') == 1


def test_names_from_a_server_cannot_leave_their_quotes() -> None:
    nasty = 'a"); __import__("os").system("x") #\n\\'
    assert eval(quoted(nasty)) == nasty
    endpoint = Endpoint.create("http://127.0.0.1:1")
    tried = (Tried(task="generate", outcome="works", model=nasty, chat=True),)
    made = Made(endpoint=endpoint, base_url=endpoint.base_url, runtime="vllm", tried=tried, several=True)
    for program in snippets(made).values():
        compile(program, "<snippet>", "exec")
        assert repr(nasty) in program


@pytest.mark.parametrize("colour", [False, True])
def test_the_report_as_text(colour: bool) -> None:
    from kserve_core.doctor.render import render

    with DevServer(api_key=CANARY) as server:
        report: Report = examine(server.url, timeout=10)
    text = render(report, colour=colour, width=80, unicode=False)
    assert ("\x1b[" in text) is colour
    assert text.isascii()
    assert "not tried  Ready, Runtime" in text
    assert "fix: " in text
    plain = render(report, width=80)
    assert all(len(line) <= 80 for line in plain.splitlines() if "oc create" not in line)
