"""Instances: tracing, dumps, copies, event loops and threads."""

from __future__ import annotations

import asyncio
import json
import pickle
import threading

import pytest
from langchain_core.load import dumpd, dumps, load
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField
from unit.langchain.llms.seen import KEY, Seen, bodies

from kserve_core.devserver import DevServer
from langchain_kserve import VLLM


def test_tracing_parameters(make):
    llm = make(temperature=0.5, max_tokens=7, stop=["x"])
    params = llm._get_ls_params()
    assert params["ls_model_type"] == "llm"
    assert (params["ls_model_name"], params["ls_temperature"], params["ls_max_tokens"]) == ("dev-model", 0.5, 7)
    assert params["ls_stop"] == ["x"]
    changed = llm._get_ls_params(stop=["y"], model="other-model", temperature=0.1)
    assert (changed["ls_model_name"], changed["ls_temperature"], changed["ls_stop"]) == ("other-model", 0.1, ["y"])
    assert "kserve-integrations" in llm.metadata["lc_versions"]


def test_callbacks_see_the_parameters_and_no_secret(make):
    seen = Seen()
    make(temperature=0.5).invoke("Say hello.", max_tokens=3, config={"callbacks": [seen]})
    (params,) = seen.params
    assert (params["temperature"], params["max_tokens"], params["model"]) == (0.5, 3, "dev-model")
    assert params["_type"] == "kserve-vllm"
    assert KEY not in str(params)


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_serialized_and_loaded_again(server, make, monkeypatch):
    llm = make(temperature=0.25, stop=["x"], default_headers={"x-secret": "hidden-header"})
    text = dumps(llm)
    assert KEY not in text
    assert "hidden-header" not in text
    assert dumpd(llm)["id"] == ["langchain_kserve", "llms", "VLLM"]
    monkeypatch.setenv("KSERVE_API_KEY", KEY)
    again = load(json.loads(text), secrets_from_env=True, valid_namespaces=["langchain_kserve"], allowed_objects=[VLLM])
    assert isinstance(again, VLLM)
    assert (again.temperature, again.stop, again.model, again.base_url) == (0.25, ["x"], "dev-model", llm.base_url)
    assert again.invoke("Say hello.")


def test_secrets_are_in_no_representation(make):
    llm = make(default_headers={"x-secret": "hidden-header"})
    for text in (repr(llm), str(llm), str(llm.model_dump()), llm.model_dump_json(), str(llm.asdict())):
        assert KEY not in text
        assert "hidden-header" not in text


def test_made_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("KSERVE_BASE_URL", server.url)
    monkeypatch.setenv("KSERVE_API_KEY", KEY)
    llm = VLLM(model="dev-model")
    assert llm.invoke("Say hello.")
    assert server.requests.last.headers["authorization"] == f"Bearer {KEY}"


def test_a_pickle_works_like_the_original(make):
    llm = make(temperature=0.0)
    expected = llm.invoke("Count to ten.")
    again = pickle.loads(pickle.dumps(llm))
    assert again.invoke("Count to ten.") == expected
    assert again.temperature == 0.0


def test_one_instance_in_three_event_loops(server, llm):
    async def twice():
        return [await llm.ainvoke("Say hello."), await llm.ainvoke("Say hello.")]

    answers = [answer for _ in range(3) for answer in asyncio.run(twice())]
    assert len(set(answers)) == 1
    assert len({record.connection for record in server.requests}) <= 3


def test_one_instance_in_many_threads(llm):
    expected, answers, errors = llm.invoke("Count to ten."), [], []

    def work():
        try:
            answers.append("".join(llm.stream("Count to ten.")))
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert answers == [expected] * 8


async def test_async_calls_overlap(server, llm):
    server.fault(delay=0.2, path="/completions", times=None)
    await asyncio.gather(*(llm.ainvoke("Say hello.") for _ in range(10)))
    assert server.max_in_flight == 10


def test_in_a_chain(llm):
    chain = PromptTemplate.from_template("Say {what}.") | llm
    assert chain.invoke({"what": "hello"}) == llm.invoke("Say hello.")


def test_the_constructor_sends_nothing():
    with DevServer() as server:
        VLLM(base_url=server.url)
        assert len(server.requests) == server.open_connections == 0


@pytest.mark.parametrize("version", ["0.8.5", "0.10.2", "0.11.0", "0.32.0"])
def test_constraints_hold_on_old_and_new_servers(version):
    with DevServer(version=version) as server:
        llm = VLLM(base_url=server.url)
        assert llm.invoke("Is the sky blue?", guided_choice=["yes", "no"]) in {"yes", "no"}


def test_fields_can_be_configured_per_call(server, llm):
    configurable = llm.configurable_fields(max_tokens=ConfigurableField(id="length"))
    configurable.invoke("Count to ten.", config={"configurable": {"length": 2}})
    llm.with_config(tags=["a"]).with_retry(stop_after_attempt=2).invoke("Say hello.")
    assert [body.get("max_tokens") for body in bodies(server)] == [2, None]
