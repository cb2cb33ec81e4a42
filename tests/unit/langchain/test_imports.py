"""What the package offers, and what importing it costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import langchain_kserve


def test_all_is_sorted_and_true():
    names = langchain_kserve.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(langchain_kserve, name) is not None
    assert set(names) <= set(dir(langchain_kserve))


def test_the_classes_are_there():
    vllm = {"ChatVLLM", "VLLM", "VLLMEmbeddings", "VLLMRerank"}
    caikit = {"ChatCaikit", "CaikitLLM", "CaikitEmbeddings", "CaikitRerank"}
    assert vllm | caikit | {"ChatTGIS", "TGISLLM", "KServeError"} <= set(langchain_kserve.__all__)


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="ChatGPT"):
        _ = langchain_kserve.ChatGPT


def _modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    path = json.dumps([entry for entry in sys.path if entry])
    script = f"import sys\nsys.path[:0] = {path}\n{script}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_next_to_nothing():
    modules = _modules_after("import langchain_kserve")
    assert not modules & {"langchain_core", "pydantic", "httpx", "numpy", "grpc", "llama_index"}


@pytest.mark.parametrize("name", ["ChatVLLM", "ChatCaikit", "TGISLLM"])
def test_importing_a_class_leaves_heavy_modules_alone(name):
    modules = _modules_after(f"from langchain_kserve import {name}")
    assert not modules & {"numpy", "grpc", "llama_index", "llamaindex_kserve", "jinja2", "transformers", "tiktoken"}
    assert not [name for name in modules if name.startswith("kserve_core.devserver")]


def test_importing_a_class_adds_few_modules_to_langchain():
    bare = _modules_after("import langchain_core.language_models as l; l.BaseChatModel; l.ModelProfile")
    ours = _modules_after("from langchain_kserve import ChatVLLM")
    assert len(ours) < 1.25 * len(bare)
