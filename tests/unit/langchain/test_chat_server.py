"""`ChatVLLM` over the development server: the bytes that are sent, event loops, tokens, the profile."""

from __future__ import annotations

import asyncio
import pickle
import threading

import pytest
from langchain_core.exceptions import ModelError
from langchain_core.messages import AIMessage, HumanMessage, trim_messages

from kserve_core.devserver import DevServer, Model
from langchain_kserve import ChatVLLM, NotFoundError, UnsupportedParameterError


@pytest.fixture(scope="module")
def running():
    models = [Model(name="m", aliases=("other",))]
    with DevServer(api_key="k", models=models, max_model_len=4096) as server:
        yield server


@pytest.fixture
def server(running):
    running.reset()
    return running


@pytest.fixture
def model(server):
    return ChatVLLM(base_url=f"{server.url}/v1", api_key="k", model="m")


def get_weather(city: str) -> str:
    """Tells the weather in a city."""
    return "21"


def bodies(server):
    return [record.json for record in server.requests.to("/chat/completions")]


# What is sent


def test_the_least_is_sent(server, model):
    model.invoke("Say hello.")
    list(model.stream("Say hello."))
    whole, streamed = bodies(server)
    assert whole == {"model": "m", "messages": [{"role": "user", "content": "Say hello."}]}
    assert streamed == {**whole, "stream": True, "stream_options": {"include_usage": True}}


def test_max_tokens_keeps_its_name_and_schemas_their_shape(server, model):
    schema = {"title": "T", "type": "object", "properties": {"a": {"type": "string"}}}
    model.bind(max_tokens=64).with_config().invoke("x")
    model.with_structured_output(schema, max_tokens=64).invoke("x")
    first, second = bodies(server)
    assert first["max_tokens"] == 64
    assert second["response_format"] == {"type": "json_schema", "json_schema": {"name": "T", "schema": schema}}
    assert not {"max_completion_tokens", "temperature", "top_p", "n", "logit_bias"} & {*first, *second}


def test_only_the_endpoint_is_asked_and_nothing_twice(server, model):
    model.invoke("Say hello.")
    assert [record.path for record in server.requests] == ["/v1/chat/completions"]


def test_the_token_is_sent_and_none_is_needed(server, model):
    model.invoke("Say hello.")
    assert server.requests[-1].headers["authorization"] == "Bearer k"
    with DevServer(models=["m"]) as free:
        assert ChatVLLM(base_url=free.url, model="m").invoke("Say hello.").content
        assert "authorization" not in free.requests[-1].headers


def test_the_model_may_be_left_out(server):
    model = ChatVLLM(base_url=server.url, api_key="k")
    answer = model.invoke("Say hello.")
    assert answer.response_metadata["model_name"] == "m"
    assert bodies(server)[0]["model"] == "m"
    assert model._get_ls_params()["ls_model_name"] == "m"


def test_a_parameter_the_runtime_has_not_is_an_error_that_names_it(model, server):
    with pytest.raises(UnsupportedParameterError, match=r"vLLM has no parameter 'temprature'") as caught:
        model.invoke("x", temprature=1)
    assert isinstance(caught.value, ModelError)
    assert len(server.requests) == 0


# Answers


def test_reasoning_in_every_way_of_asking(model):
    async def run():
        prompt = "Think: what is two plus two?"
        streamed = None
        async for chunk in model.astream(prompt):
            streamed = chunk if streamed is None else streamed + chunk
        stream = await model.astream_events(prompt, version="v3")
        return [model.invoke(prompt), await model.ainvoke(prompt), streamed, await stream.output]

    for answer in asyncio.run(run()):
        blocks = [block for block in answer.content_blocks if block["type"] in {"reasoning", "text"}]
        assert [block["type"] for block in blocks] == ["reasoning", "text"]
        assert blocks[0]["reasoning"].strip() == "Two plus two makes four."
        assert blocks[1]["text"].strip() == "The answer is four."


def test_reasoning_under_its_old_name():
    with DevServer(models=["m"], version="0.9.2") as server:
        model = ChatVLLM(base_url=server.url, model="m")
        answers = [model.invoke("Think: what is two plus two?")]
        answers.append(sum_of(model.stream("Think: what is two plus two?")))
        for answer in answers:
            assert answer.content_blocks[0]["reasoning"].strip() == "Two plus two makes four."


def sum_of(chunks):
    full = None
    for chunk in chunks:
        full = chunk if full is None else full + chunk
    return full


@pytest.mark.parametrize("version", ["0.8.5", "0.11.0", "0.32.0"])
def test_tool_calls_of_all_server_versions(version):
    with DevServer(models=["m"], version=version) as server:
        model = ChatVLLM(base_url=server.url, model="m").bind_tools([get_weather])
        for answer in (
            model.invoke("Weather in Paris and London?"),
            sum_of(model.stream("Weather in Paris and London?")),
        ):
            assert [call["args"] for call in answer.tool_calls] == [{"city": "Paris"}, {"city": "London"}]
            assert len({call["id"] for call in answer.tool_calls}) == 2
            assert answer.invalid_tool_calls == []


def test_a_turn_with_tools(model):
    bound = model.bind_tools([get_weather])
    messages = [HumanMessage("Weather in Paris?")]
    messages.append(bound.invoke(messages))
    (call,) = messages[-1].tool_calls
    from langchain_core.tools import tool

    messages.append(tool(get_weather).invoke(call))
    assert bound.invoke(messages).content == "It is 21 degrees in Paris."


def test_an_agent_with_a_response_format(model):
    agents = pytest.importorskip("langchain.agents")
    from pydantic import BaseModel

    class Answer(BaseModel):
        city: str

    agent = agents.create_agent(model, tools=[], response_format=Answer)
    out = agent.invoke({"messages": [{"role": "user", "content": "Which city?"}]})
    assert isinstance(out["structured_response"], Answer)


def test_the_stream_of_an_agent_carries_tokens(model):
    agents = pytest.importorskip("langchain.agents")
    agent = agents.create_agent(model, tools=[get_weather])
    pieces = list(agent.stream({"messages": [("user", "Weather in Paris?")]}, stream_mode="messages"))
    text = "".join(message.text for message, _ in pieces if isinstance(message, AIMessage))
    assert text.endswith("It is 21 degrees in Paris.")


# Event loops, threads, processes


def test_one_instance_works_in_many_event_loops(server, model):
    async def twice():
        await model.ainvoke("Say hello.")
        return (await model.ainvoke("Say hello.")).content

    for _ in range(3):
        server.requests.clear()
        assert asyncio.run(twice())
        first, second = server.requests.to("/chat/completions")
        assert first.connection == second.connection


def test_one_instance_works_in_many_threads(model):
    answers, errors = [], []

    def work():
        try:
            answers.append(model.invoke("Say hello.").content)
            answers.append(asyncio.run(model.ainvoke("Say hello.")).content)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(answers) == 12
    assert len(set(answers)) == 1


def test_a_used_instance_pickles(model):
    model.invoke("Say hello.")
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert again.invoke("Say hello.").content == model.invoke("Say hello.").content


def test_connections_are_reused(server, model):
    for _ in range(3):
        model.invoke("Say hello.")
    assert len({record.connection for record in server.requests}) == 1


async def test_leaving_a_stream_stops_the_server(running):
    with DevServer(models=["m"], pace=0.02) as slow:
        model = ChatVLLM(base_url=slow.url, model="m")
        async for _ in (stream := model.astream("Count to ten.")):
            break
        await stream.aclose()
        for _ in range(100):
            if slow.requests[-1].cancelled is not None:
                break
            await asyncio.sleep(0.02)
        assert slow.requests[-1].cancelled is not None


# Tokens


def test_tokens_are_counted_by_the_server(server, model):
    ids = model.get_token_ids("Hello there.")
    assert len(ids) == model.get_num_tokens("Hello there.") > 0
    messages = [HumanMessage("Hello there.")]
    count = model.get_num_tokens_from_messages(messages)
    assert count == model.invoke(messages).usage_metadata["input_tokens"]
    assert count > len(ids)
    assert model.get_num_tokens_from_messages(messages, tools=[get_weather]) > count


def test_messages_are_trimmed_by_the_servers_count(model):
    messages = [HumanMessage("one " * 50), AIMessage("two"), HumanMessage("three")]
    kept = trim_messages(messages, max_tokens=40, token_counter=model, strategy="last", start_on="human")
    assert [message.content for message in kept] == ["three"]


def test_a_tokenizer_of_ones_own_wins(server, model):
    own = ChatVLLM(base_url=server.url, api_key="k", model="m", custom_get_token_ids=lambda text: [7] * len(text))
    assert own.get_token_ids("abc") == [7, 7, 7]
    assert own.get_num_tokens("abc") == 3
    bare = own.get_num_tokens_from_messages([HumanMessage("abc")])
    assert own.get_num_tokens_from_messages([HumanMessage("abc")], tools=[get_weather]) > bare >= 3
    assert len(server.requests) == 0


def test_no_way_to_count_is_an_error_and_not_a_guess(server, model):
    server.fault(status=404, body={"detail": "Not Found"}, path="/tokenize", times=None)
    for count in (lambda: model.get_num_tokens("x"), lambda: model.get_num_tokens_from_messages([HumanMessage("x")])):
        with pytest.raises(NotFoundError, match="count tokens") as caught:
            count()
        assert "custom_get_token_ids" in caught.value.hint


# The profile


def test_the_constructor_asks_nobody_for_the_profile(server):
    model = ChatVLLM(base_url=server.url, api_key="k", model="m")
    assert model.profile["structured_output"] is True
    assert "max_input_tokens" not in model.profile
    assert len(server.requests) == 0


async def test_the_profile_can_be_loaded(server, model):
    assert model.load_profile()["max_input_tokens"] == 4096
    assert model.profile["name"] == "m"
    model.load_profile()
    assert len(server.requests) == 1
    other = ChatVLLM(base_url=server.url, api_key="k")
    assert (await other.aload_profile())["max_input_tokens"] == 4096


@pytest.mark.parametrize("call", ["invoke", "stream", "ainvoke", "astream"])
async def test_the_profile_is_filled_by_what_the_client_had_to_ask_anyway(server, call):
    model = ChatVLLM(base_url=server.url, api_key="k")
    if call == "invoke":
        model.invoke("Say hello.")
    elif call == "stream":
        list(model.stream("Say hello."))
    elif call == "ainvoke":
        await model.ainvoke("Say hello.")
    else:
        _ = [chunk async for chunk in model.astream("Say hello.")]
    assert model.profile["max_input_tokens"] == 4096
    assert [record.path for record in server.requests] == ["/v1/models", "/v1/chat/completions"]


def test_ones_own_profile_wins(server):
    own = {"max_input_tokens": 100, "structured_output": False}
    model = ChatVLLM(base_url=server.url, api_key="k", profile=own)
    model.invoke("Say hello.")
    model.load_profile()
    assert model.profile == {**own, "name": "m"}
