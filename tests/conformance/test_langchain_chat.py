"""LangChain's own standard suites, unmodified, over every chat class of this package.

The suites fetch sample pictures and sounds from public sites; here a small file takes their place, so that nothing
but the target is contacted.
"""

from __future__ import annotations

import base64
import importlib
import io
import struct
import wave
from typing import Any

import httpx
import matrix
import pytest
import targets
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

import langchain_kserve

lc_load = importlib.import_module("langchain_core.load.load")  # the package exports a function of that name

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def _silence() -> bytes:
    data = io.BytesIO()
    with wave.open(data, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(struct.pack("<80h", *[0] * 80))
    return data.getvalue()


@pytest.fixture(autouse=True)
def _samples_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def get(url: str, **kwargs: Any) -> httpx.Response:
        return httpx.Response(200, content=_silence() if url.endswith(".wav") else PNG)

    monkeypatch.setattr(httpx, "get", get)
    monkeypatch.setenv("LANGCHAIN_TESTS_USER_AGENT", "none, nothing is fetched")


@pytest.fixture(autouse=True)
def _known_to_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    """`load(allowed_objects="all")` knows the packages of LangChain's own repository only; others are named by class."""
    known = set(lc_load._get_default_allowed_class_paths("all"))
    known |= {("langchain_kserve", "chat_models", entry.langchain.get("chat", "")) for entry in matrix.RUNTIMES}
    monkeypatch.setitem(lc_load._default_class_paths_cache, "all", known)


class _Common:
    """What the suites want to know about a class; everything follows from the matrix and the target."""

    runtime: str

    @property
    def _features(self) -> frozenset[str]:
        return targets.features(self.runtime)

    @property
    def chat_model_class(self) -> Any:
        return getattr(langchain_kserve, matrix.entry(self.runtime).langchain["chat"])

    @property
    def has_tool_calling(self) -> bool:
        return "tools" in self._features

    @property
    def has_tool_choice(self) -> bool:
        return "tool_choice" in self._features

    @property
    def has_structured_output(self) -> bool:
        return "structured_output" in self._features

    @property
    def supports_json_mode(self) -> bool:
        return "json_mode" in self._features

    @property
    def supports_image_inputs(self) -> bool:
        return "images" in self._features

    @property
    def supports_image_urls(self) -> bool:
        return "images" in self._features and "devserver" in self._features  # a real server would fetch them

    @property
    def supports_image_tool_message(self) -> bool:
        return "images" in self._features

    @property
    def supports_audio_inputs(self) -> bool:
        return "audio" in self._features or ("images" in self._features and "devserver" in self._features)

    @property
    def supports_anthropic_inputs(self) -> bool:
        return "tools" in self._features

    @property
    def returns_usage_metadata(self) -> bool:
        return "usage" in self._features

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:
        details = []
        if "usage_cached" in self._features:
            details.append("cache_read_input")
        if "usage_reasoning" in self._features:
            details.append("reasoning_output")
        return {"invoke": details, "stream": details}


def _template(entry: matrix.Entry) -> dict[str, Any]:
    return {name: value for name, value in entry.chat.items() if name == "chat_template"}


class _Unit(_Common):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        entry = matrix.entry(self.runtime)
        return {"model": "some-model", "base_url": entry.example_url, **_template(entry)}

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        entry = matrix.entry(self.runtime)
        variables = {"KSERVE_API_KEY": "from-env", "KSERVE_BASE_URL": entry.example_url}
        params = {"model": "m", **_template(entry)}
        return variables, params, {"api_key": "from-env", "base_url": entry.example_url}


class _Integration(_Common):
    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**targets.capability_params(self.runtime, "chat"), "temperature": 0}

    @property
    def model_override_value(self) -> str | None:
        return targets.get_target(self.runtime).other_model

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        model = self.chat_model_class(**self.chat_model_params)
        prompt = "A long beginning that two prompts share is kept by the server. " * 8 + "Say hello."
        model.invoke(prompt)
        return _answer(model, prompt, stream=stream)

    def invoke_with_reasoning_output(self, *, stream: bool = False) -> AIMessage:
        model = self.chat_model_class(**targets.capability_params(self.runtime, "reasoning"), temperature=0)
        return _answer(model, "Think: what is two plus two?", stream=stream)


def _answer(model: Any, prompt: str, *, stream: bool) -> AIMessage:
    if not stream:
        return model.invoke(prompt)
    full: AIMessageChunk | None = None
    for chunk in model.stream(prompt):
        full = chunk if full is None else full + chunk
    assert full is not None
    return full


_STANDARD = (_Integration, ChatModelIntegrationTests)


def _add_suites() -> None:
    for entry in matrix.RUNTIMES:
        name = entry.langchain.get("chat")
        if name is None:
            continue
        for suffix, bases in (("Unit", (_Unit, ChatModelUnitTests)), ("Standard", _STANDARD)):
            suite = entry.suite(name) + suffix
            made = type(suite, bases, {"runtime": entry.key, "__module__": __name__})
            globals()[suite] = pytest.mark.needs("chat")(made) if bases is _STANDARD else made


_add_suites()
