"""Structured prediction with every LlamaIndex LLM of this package."""

from __future__ import annotations

import re

import pytest
from conformance.llamaindex_llms import Recorder, make
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel, Field

pytestmark = pytest.mark.needs("chat")
CONSTRAINED = pytest.mark.needs("structured_output")

PROMPT = PromptTemplate("Say hello to {name}, please.")
FORMS = ["structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"]


class Greeting(BaseModel):
    """A greeting."""

    polite: bool = Field(description="Whether it is a polite one.")
    times: int = Field(description="How often it is said.", ge=0, le=9)


async def predict(llm, form, **arguments):
    result = getattr(llm, form)(Greeting, PROMPT, name="Ada", **arguments)
    if form.startswith("a"):
        result = await result
    if "stream" not in form:
        return [result]
    return [item async for item in result] if form.startswith("a") else list(result)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "mode",
    [
        pytest.param("auto", marks=CONSTRAINED),
        pytest.param("json_schema", marks=CONSTRAINED),
        pytest.param("tools", marks=pytest.mark.needs("tools", "tool_choice")),
        pytest.param("text", marks=pytest.mark.needs("devserver")),
    ],
)
class TestPredict:
    async def test_an_object_comes_out(self, target, mode, form):
        llm = make(target, structured_output_mode=mode, max_tokens=400)
        with Recorder() as recorder:
            objects = await predict(llm, form)
        assert isinstance(objects[-1], Greeting)
        assert recorder.names.count("LLMChatStartEvent") == 1
        assert recorder.names.count("LLMStructuredPredictEndEvent") == 1

    async def test_one_cut_off_is_an_error_and_not_half_an_object(self, target, mode, form):
        llm = make(target, structured_output_mode=mode, max_tokens=2)
        with pytest.raises(ValueError):
            await predict(llm, form)


@pytest.mark.needs("text", "structured_text")
@pytest.mark.parametrize("form", FORMS)
async def test_a_completion_model(target, form):
    llm = make(target, "text", is_chat_model=False, max_tokens=400)
    assert isinstance((await predict(llm, form))[-1], Greeting)


@CONSTRAINED
async def test_a_structured_llm(target):
    llm = make(target, max_tokens=400).as_structured_llm(Greeting)
    messages = [ChatMessage("Say hello.")]
    assert isinstance(llm.chat(messages).raw, Greeting)
    assert isinstance((await llm.achat(messages)).raw, Greeting)
    assert isinstance(list(llm.stream_chat(messages))[-1].raw, Greeting)
    assert isinstance([item async for item in await llm.astream_chat(messages)][-1].raw, Greeting)
    assert isinstance(llm.complete("Say hello.").raw, Greeting)


@CONSTRAINED
class TestOtherForms:
    def test_a_schema(self, target):
        text = make(target, max_tokens=400).complete("Say hello.", response_format=Greeting).text
        assert Greeting.model_validate_json(text)

    @pytest.mark.needs("other_forms")
    def test_a_choice(self, target):
        answer = make(target).complete("Yes or no?", structured_outputs={"choice": ["yes", "no"]})
        assert answer.text in {"yes", "no"}

    @pytest.mark.needs("other_forms")
    def test_a_pattern(self, target):
        answer = make(target).complete("A number?", structured_outputs={"regex": "[0-9]{3}"})
        assert re.fullmatch("[0-9]{3}", answer.text)

    @pytest.mark.needs("text", "other_forms")
    def test_on_the_completion_endpoint(self, target):
        llm = make(target, "text", is_chat_model=False)
        assert llm.complete("Yes or no?", structured_outputs={"choice": ["yes", "no"]}).text in {"yes", "no"}
