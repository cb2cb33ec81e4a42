"""The examples do what they say, and explain what went wrong when something does."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kserve_core.devserver import DevServer

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
pytestmark = pytest.mark.needs("devserver")
NEEDS_LANGCHAIN = pytest.mark.skipif(
    importlib.util.find_spec("langchain") is None,
    reason="langchain is not in the oldest-versions run: it asks for newer packages than those",
)


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


@pytest.mark.parametrize("runtime", ["caikit", "tgis", "triton", "mlserver", "openvino"])
def test_quickstart_on_other_runtimes(quickstart: Callable[..., tuple[int, str]], runtime: str) -> None:
    status, printed = quickstart("--runtime", runtime)
    assert status == 0
    assert printed.count("The gateway uses port 8443.") >= 2
    assert len(re.findall(r"\[1\].*gateway\.md", printed)) == 2


def test_quickstart_says_that_tgis_has_no_embeddings(quickstart: Callable[..., tuple[int, str]]) -> None:
    with pytest.raises(SystemExit, match="--embedding-base-url"):
        quickstart("--runtime", "tgis", "--base-url", "grpc://127.0.0.1:9")


def test_quickstart_with_embeddings_of_another_runtime(quickstart: Callable[..., tuple[int, str]]) -> None:
    status, printed = quickstart("--runtime", "triton", "--embedding-runtime", "mlserver")
    assert status == 0
    assert len(re.findall(r"\[1\].*gateway\.md", printed)) == 2


def test_quickstart_says_which_runtimes_take_a_tokenizer(quickstart: Callable[..., tuple[int, str]]) -> None:
    with pytest.raises(SystemExit, match="triton"):
        quickstart("--embedding-tokenizer", "tokenizer.json")


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
    [pytest.param("agent_langchain", marks=NEEDS_LANGCHAIN), "agent_llamaindex"],
)
def test_agents_call_their_tool(name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", [name])
    assert example(name).main() == 0
    printed = capsys.readouterr().out
    assert "21 degrees and sunny in Paris" in printed
    assert printed.rstrip().endswith("It is 21 degrees in Paris.") or "21 degrees" in printed.rstrip().splitlines()[-1]


@pytest.mark.parametrize("runtime", ["caikit", "tgis", "triton", "mlserver"])
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


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("embed", ["text", "token-ids"])
def test_rag_from_triton_alone(framework: str, protocol: str, embed: str, capsys: pytest.CaptureFixture[str]) -> None:
    if embed == "token-ids":
        pytest.importorskip("tokenizers")
    options = ["--framework", framework, "--protocol", protocol, "--embed", embed]
    assert example("triton_embeddings_rag").main(options) == 0
    answer, best, *_ = capsys.readouterr().out.splitlines()
    assert answer == "The REST port of Triton is 8000, and its gRPC port is 8001."
    assert best.endswith(answer)


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
@pytest.mark.parametrize("options", [[], ["--api", "v3"], ["--api", "v2"], ["--protocol", "grpc"]], ids=" ".join)
def test_rag_from_openvino_alone(framework: str, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert example("openvino_rag").main(["--framework", framework, *options]) == 0
    answer, best, *_ = capsys.readouterr().out.splitlines()
    assert answer.startswith("The REST port of OpenVINO Model Server is set by --rest_port")
    assert best.endswith(answer)


def test_openvinos_v3_has_no_grpc(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        example("openvino_rag").main(["--api", "v3", "--protocol", "grpc"])
    assert "no gRPC" in capsys.readouterr().err


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
@pytest.mark.parametrize("name", ["triton_embeddings_rag", "openvino_rag"])
def test_rag_without_ranking(name: str, framework: str, capsys: pytest.CaptureFixture[str]) -> None:
    runtime = name.partition("_")[0]
    with DevServer(runtime=runtime, models=["writer", "embedding"]) as server:
        options = ["--base-url", server.url, "--model", "writer", "--embedding-model", "embedding"]
        assert example(name).main([*options, "--framework", framework]) == 0
        asked = {record.path for record in server.requests}
    assert "gRPC port" in capsys.readouterr().out.splitlines()[0]
    assert not any("rank" in path for path in asked)


@pytest.mark.parametrize("framework", ["langchain", "llamaindex"])
@pytest.mark.parametrize("protocol", ["rest", "grpc"])
@pytest.mark.parametrize("server", ["mlserver", "kserve"])
def test_ranking_by_mlserver(framework: str, protocol: str, server: str, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--framework", framework, "--protocol", protocol, "--server", server]
    assert example("mlserver_rerank").main(options) == 0
    first, *_, best = capsys.readouterr().out.splitlines()
    assert first.endswith("MLServer listens for REST on port 8080 and for gRPC on port 8081.")
    assert best.startswith("best: row 1, MLServer listens")


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_any_model_by_numpy(protocol: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example("inference_client").main(["--protocol", protocol]) == 0
    printed = capsys.readouterr().out
    assert "in_fp16 FP16[-1]" in printed
    assert "out_int64 = array([3, 1, 4, 1, 5])" in printed
    assert "out_string = array([b'a text'" in printed


@pytest.mark.parametrize("server", ["triton", "mlserver", "kserve"])
def test_inputs_of_a_model_come_from_the_command_line(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "numbers.npy", np.arange(3, dtype="int64"))
    given = ["--input", "in_fp32=[0.5, 2]", "--input", f"in_int64=@{tmp_path / 'numbers.npy'}"]
    with DevServer(runtime=server, models=["echo"]) as served:
        status = example("inference_client").main(["--base-url", served.url, "--model", "echo", *given])
    printed = capsys.readouterr().out
    assert status == 0
    assert "out_fp32 = array([0.5, 2. ], dtype=float32)" in printed
    assert "out_int64 = array([0, 1, 2])" in printed


@pytest.mark.parametrize(
    ("given", "said"), [("in_fp32", "name=JSON"), ("in_fp32=[1", "delimiter"), ("in_fp32=@no.npy", "no.npy")]
)
def test_inputs_that_cannot_be_read(given: str, said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        example("inference_client").main(["--input", given])


@pytest.mark.parametrize(("given", "said"), [("in_fp=[1]", "no input 'in_fp'"), ('in_fp32=["x"]', "in_fp32")])
def test_inputs_the_model_does_not_have(given: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example("inference_client").main(["--input", given]) == 1
    printed = capsys.readouterr().out
    assert said in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("framework", "classes"),
    [
        ("langchain", ["ChatVLLM", "ChatCaikit", "ChatTGIS", "ChatTriton", "ChatMLServer", "ChatOpenVINO"]),
        ("llamaindex", ["VLLM", "CaikitLLM", "TGISLLM", "TritonLLM", "MLServerLLM", "OpenVINOLLM"]),
    ],
)
def test_one_line_for_every_runtime(framework: str, classes: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert example("any_runtime").main(["--framework", framework]) == 0
    printed = capsys.readouterr().out
    assert re.findall(r"  (\w+) at ", printed) == classes
    assert printed.count("one two three four five six seven eight nine ten.") == len(classes)


def test_a_service_without_access_to_a_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert example("any_runtime").main(["--inference-service", "granite"]) == 1
    assert "Hint:" in capsys.readouterr().out


def test_the_notebook_prints_what_it_shows(capsys: pytest.CaptureFixture[str]) -> None:
    notebook = json.loads((EXAMPLES / "quickstart.ipynb").read_text("utf-8"))
    space: dict[str, object] = {"__name__": "__main__"}
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    try:
        for cell in code:
            exec(compile("".join(cell["source"]), cell["id"], "exec"), space)
            shown = "".join("".join(output["text"]) for output in cell["outputs"])
            assert capsys.readouterr().out == shown
    finally:
        server = space.get("server")
        if isinstance(server, DevServer):
            server.stop()
    assert "A token that is read from a file is read again when the file changes." in str(code)


FAILING = {
    "caikit_rag": "caikit",
    "react_langchain": "caikit",
    "triton_embeddings_rag": "triton",
    "openvino_rag": "openvino",
    "mlserver_rerank": "mlserver",
    "inference_client": "triton",
    "any_runtime": "vllm",
}
ONE_FRAMEWORK = ("react_langchain", "inference_client")
RUNS = [
    pytest.param(name, [] if framework is None else ["--framework", framework], id=f"{name}-{framework}")
    for name in FAILING
    for framework in ([None] if name in ONE_FRAMEWORK else ["langchain", "llamaindex"])
]
MODELS: dict[str, dict[str, str]] = {
    "triton_embeddings_rag": {"model": "writer", "embedding-model": "embedding", "rerank-model": "reranker"},
    "openvino_rag": {"model": "writer", "embedding-model": "embedding", "rerank-model": "reranker"},
    "mlserver_rerank": {"model": "reranker"},
    "inference_client": {"model": "reranker"},
}


def serve(name: str, **options: Any) -> DevServer:
    """The endpoint an example is for."""
    models = ["writer", "embedding", "reranker"] if name in MODELS else ["dev-model"]
    return DevServer(runtime=FAILING[name], models=models, **options)


def named(name: str, **changed: str) -> list[str]:
    """Arguments that name the endpoint's models."""
    return [word for key, value in {**MODELS.get(name, {}), **changed}.items() for word in (f"--{key}", value)]


@pytest.mark.parametrize(("name", "chosen"), RUNS)
def test_a_wrong_token_is_explained(name: str, chosen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with serve(name, api_key="right", protect_all=True) as server:
        given = ["--base-url", server.url, "--api-key", "mistaken-token", *named(name), *chosen]
        assert example(name).main(given) == 1
    printed = capsys.readouterr().out
    assert "Failed: " in printed
    assert "Hint: The token was sent and refused" in printed
    assert "mistaken-token" not in printed


@pytest.mark.parametrize("name", ["quickstart", *FAILING])
def test_what_is_no_url_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert example(name).main(["--base-url", "model.example.com"]) == 1
    printed = capsys.readouterr().out
    assert "base_url must start with" in printed
    assert "Hint:" in printed


@pytest.mark.parametrize("name", ["agent_llamaindex", pytest.param("agent_langchain", marks=NEEDS_LANGCHAIN)])
@pytest.mark.parametrize(("url", "said"), [("model.example.com", "must start with"), ("http://127.0.0.1:9", "refused")])
def test_agents_explain_a_failure(
    name: str, url: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--base-url", url])
    assert example(name).main() == 1
    printed = capsys.readouterr().out
    assert said in printed
    assert "Hint:" in printed


@pytest.mark.parametrize(("name", "chosen"), RUNS)
def test_a_missing_server_is_explained(name: str, chosen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert example(name).main(["--base-url", "http://127.0.0.1:9", *named(name), *chosen]) == 1
    printed = capsys.readouterr().out
    assert "Failed: " in printed
    assert "refused" in printed
    assert "Hint:" in printed


def test_the_wrong_port_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    with DevServer(runtime="triton", models=["reranker"], v2_grpc=True) as server:
        http_to_grpc = server.v2_grpc_url.replace("grpc://", "http://")
        assert example("inference_client").main(["--base-url", http_to_grpc, "--model", "reranker"]) == 1
        assert "grpc://" in capsys.readouterr().out
        assert example("inference_client").main(["--base-url", server.url, "--protocol", "grpc"]) == 1
        assert "protocol='rest'" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "chosen"), [run for run in RUNS if run.values[0] in MODELS])
def test_a_wrong_model_name_is_explained(name: str, chosen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with serve(name) as server:
        for option in MODELS[name]:
            given = ["--base-url", server.url, *named(name, **{option: "rerunker"}), *chosen]
            assert example(name).main(given) == 1
            printed = capsys.readouterr().out
            assert "rerunker" in printed
            assert "Hint:" in printed
