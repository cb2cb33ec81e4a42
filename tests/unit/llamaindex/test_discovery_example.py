"""The example that takes a service's name runs the same for every runtime and both frameworks."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from tests.unit.core.discovery.conftest import nothing_of_this_machine  # noqa: F401 - used by every test
from tests.unit.discovered import cluster, served

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "from_cluster.py"


@pytest.fixture(scope="module")
def example() -> Any:
    spec = importlib.util.spec_from_file_location("example_from_cluster", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
@pytest.mark.parametrize(
    ("runtime", "task"), [("vllm", "llm"), ("tgis", "llm"), ("caikit", "embeddings"), ("vllm", "reranker")]
)
def test_a_service_by_its_name(
    example: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, runtime: str, task: str, framework: str
) -> None:
    with served(runtime) as (_, url), cluster(runtime, url) as kube:
        options = ["--task", task, "--framework", framework]
        status = example.main(["m", "-n", "demo", "--kubeconfig", str(kube.kubeconfig(tmp_path)), *options])
    printed = capsys.readouterr().out
    assert status == 0, printed
    assert "InferenceService demo/m" in printed


def test_without_a_cluster(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert example.main([]) == 0
    assert "ChatVLLM for" in capsys.readouterr().out


def test_what_went_wrong_is_said(example: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with cluster("tgis", "https://m.example.com") as kube:
        path = str(kube.kubeconfig(tmp_path))
        assert example.main(["m", "--kubeconfig", path, "--task", "embeddings"]) == 1
        assert "TGIS is of no use for embeddings" in capsys.readouterr().out
        assert example.main(["other", "--kubeconfig", path]) == 1
        assert "There is no InferenceService 'other'" in capsys.readouterr().out
