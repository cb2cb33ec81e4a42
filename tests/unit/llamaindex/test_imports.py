from __future__ import annotations

import json
import subprocess
import sys

import pytest

import kserve_core.errors
import llamaindex_kserve

ERRORS = {
    name
    for name, value in vars(kserve_core.errors).items()
    if isinstance(value, type) and issubclass(value, kserve_core.errors.KServeError)
}


def modules_after(code: str) -> set[str]:
    """The modules a fresh interpreter has loaded after running some code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", llamaindex_kserve.__all__)
def test_every_public_name_is_there(name):
    assert getattr(llamaindex_kserve, name) is not None
    assert name in dir(llamaindex_kserve)


def test_every_error_of_the_core_can_be_caught_from_here():
    assert set(llamaindex_kserve.__all__) >= ERRORS


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="NoSuchClass"):
        llamaindex_kserve.NoSuchClass  # noqa: B018


def test_importing_the_package_imports_no_framework():
    loaded = modules_after("import llamaindex_kserve")
    assert not {name for name in loaded if name.partition(".")[0] in {"llama_index", "httpx", "pydantic", "numpy"}}


def test_the_llm_needs_no_other_framework_and_no_vendor_sdk():
    loaded = modules_after("from llamaindex_kserve import VLLM; VLLM(base_url='https://example.com/v1').metadata")
    assert "llama_index.core" in loaded
    unwanted = {
        "langchain_core",
        "langchain_kserve",
        "openai",
        "grpc",
        "torch",
        "transformers",
        "kserve_core.devserver",
    }
    assert not {name for name in unwanted if name in loaded}


def test_errors_alone_need_no_framework():
    loaded = modules_after("from llamaindex_kserve import StreamInterrupted, InvalidOutputError")
    assert "llama_index" not in loaded
