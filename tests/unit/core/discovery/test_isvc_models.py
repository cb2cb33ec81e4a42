"""What an InferenceService's model is called, and which options are worth knowing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.discovery.kube import (
    CLUSTER_RUNTIME,
    ISVC,
    RUNTIME,
    container,
    isvc,
    plain_runtime,
)
from tests.unit.core.discovery.predictors import NO_NAME


@pytest.mark.parametrize(
    ("args", "model", "aliases"),
    [
        (["--served-model-name=granite"], "granite", ()),
        (["--served-model-name", "granite", "granite-3", "--max-model-len", "4096"], "granite", ("granite-3",)),
        (["--served_model_name=granite"], "granite", ()),
        (["--served-model-name=$(NAME)"], "from-env", ()),
        (["--served-model-name=$(SECRET)"], None, ()),
        (["--served-model-name={{.Name}}", "--lora-modules", "sql=/a", "chat=/b"], "m", ("sql", "chat")),
        ([], "m", ()),
    ],
)
def test_the_name_of_a_vllm_model(find: Any, args: list[str], model: str | None, aliases: tuple[str, ...]) -> None:
    env = [{"name": "NAME", "value": "from-env"}, {"name": "SECRET", "valueFrom": {"secretKeyRef": {}}}]
    found = find({ISVC: isvc(spec={"predictor": {"model": {"args": args, "env": env}}})})
    assert (found.model, found.aliases) == (model, aliases)


def test_the_name_without_the_serving_runtime_is_left_to_the_server(find: Any) -> None:
    found = find({RUNTIME: 403, CLUSTER_RUNTIME: 403})
    assert found.runtime == "vllm"
    assert found.model is None
    assert "asked of the server" in found.describe()


def test_without_a_served_name_vllm_goes_by_the_path(find: Any) -> None:
    assert find({RUNTIME: plain_runtime(container("vllm serve", "--model=/mnt/models"))}).model == "/mnt/models"


@pytest.mark.parametrize(
    ("document", "env", "model"),
    [
        (plain_runtime(container("mlserver")), [{"name": "MLSERVER_MODEL_NAME", "value": "{{.Name}}"}], "m"),
        (plain_runtime(container("mlserver")), [], None),
        (plain_runtime(container("tritonserver")), [], None),
        (plain_runtime(container("--rest_port=8888", "--model_name={{.Name}}")), [], "m"),
        (plain_runtime(container("--rest_port=8888", "--config_path=/x")), [], None),
        (plain_runtime(container("caikit.runtime")), [], None),
        (plain_runtime(container("--model_id=x", image="kserve/huggingfaceserver")), [], "model"),
    ],
)
def test_the_name_with_other_runtimes(find: Any, document: Any, env: Any, model: str | None) -> None:
    document["spec"]["containers"][0]["env"] = env
    found = find({ISVC: isvc(spec={"predictor": NO_NAME}), RUNTIME: document})
    assert found.model == model
    assert found.model_evidence


def test_options_worth_knowing(find: Any) -> None:
    args = [
        "--max-model-len=4096",
        "--enable-auto-tool-choice",
        "--tool-call-parser",
        "hermes",
        "--api-key=sk-very-secret",
    ]
    found = find({ISVC: isvc(spec={"predictor": {"model": {"args": args}}})})
    assert dict(found.options) == {
        "--max-model-len": "4096",
        "--enable-auto-tool-choice": "",
        "--tool-call-parser": "hermes",
    }
    assert "secret" not in found.describe() + repr(found)
