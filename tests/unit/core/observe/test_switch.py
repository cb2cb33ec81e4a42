"""How recording is switched on, and what it loads."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from kserve_core import telemetry
from kserve_core.devserver import DevServer
from tests.unit.core.observe.calls import CHAT, client
from tests.unit.core.tracing import Kept


def test_the_switch(server: DevServer, kept: Kept) -> None:
    assert telemetry.is_instrumented()
    used = client(server)
    pieces = used.stream(used.runtime.stream_chat(CHAT), about=CHAT)
    next(pieces)
    telemetry.uninstrument()
    assert not telemetry.is_instrumented()
    list(pieces)
    assert len(kept.spans) == 1  # what was under way
    used.answer(CHAT)
    assert len(kept.spans) == 1


def test_the_entry_point_for_the_agent(server: DevServer, kept: Kept) -> None:
    from kserve_core.telemetry.instrumentor import KServeInstrumentor

    telemetry.uninstrument()
    KServeInstrumentor().instrument(
        tracer_provider=kept.tracer_provider, meter_provider=kept.meter_provider, skip_dep_check=True
    )
    client(server).answer(CHAT)
    assert kept.one().name == "chat dev-model"
    KServeInstrumentor().uninstrument()
    assert not telemetry.is_instrumented()


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_opentelemetry_is_not_imported_unless_it_is_asked_for(server: DevServer) -> None:
    code = f"""
import sys
from kserve_core import telemetry
from kserve_core.client import RuntimeClient
from kserve_core.endpoint import Endpoint
from kserve_core.capabilities import ChatRequest
from kserve_core.runtimes.vllm import VLLMRuntime
client = RuntimeClient(Endpoint.create("{server.url}/v1"), VLLMRuntime(base_path="/v1"))
client.answer(ChatRequest(messages=[{{"role": "user", "content": "hello"}}]))
print(any(name.startswith("opentelemetry") for name in sys.modules))
telemetry.instrument()
print(any(name.startswith("opentelemetry") for name in sys.modules))
client.answer(ChatRequest(messages=[{{"role": "user", "content": "hello"}}]))  # the API without an SDK records nothing
print(any(name.startswith("opentelemetry.sdk") for name in sys.modules))
"""
    assert python(code).split() == ["False", "True", "False"]


def test_without_opentelemetry_the_hint_says_what_to_install() -> None:
    code = """
import sys
sys.modules["opentelemetry"] = None
from kserve_core import telemetry
try:
    telemetry.instrument()
except telemetry.ConfigurationError as error:
    print(error)
print(telemetry.is_instrumented())
telemetry.uninstrument()
"""
    shown = python(code)
    assert "kserve-integrations[otel]" in shown
    assert shown.endswith("False")


@pytest.mark.parametrize("arguments", [[], ["--content"]])
def test_the_example(arguments: list[str], server: DevServer, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(__file__).parents[4] / "examples" / "tracing.py"
    example = runpy.run_path(str(path))
    assert example["main"](["--base-url", f"{server.url}/v1", *arguments]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("a user's question")
    assert shown.count("\n  chat dev-model  ") == 2
    assert "gen_ai.client.operation.duration: 2 measured" in shown
    assert ("What is a trace?" in shown) is bool(arguments)
    assert not telemetry.is_instrumented()
