from __future__ import annotations

import json

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.program import FunctionCallingProgram
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel
from unit.llamaindex.llm_fakes import FakeRuntime, Recorder, make, streamed

from kserve_core.errors import ServerError, UnsupportedParameterError
from kserve_core.types import ChatChoice, ChatDelta, ToolCall, ToolCallDelta
from llamaindex_kserve import InvalidOutputError


class City(BaseModel):
    """A city."""

    name: str
    population: int


PARIS = '{"name": "Paris", "population": 2100000}'
WANTED = City(name="Paris", population=2100000)
PROMPT = PromptTemplate("Tell me about {city}.")
MODES = ["json_schema", "tools", "text"]


def called(text: str, finish: str = "tool_calls") -> ChatChoice:
    return ChatChoice(tool_calls=[ToolCall("c1", "City", text)], finish_reason=finish)


def called_in_pieces(text: str):
    pieces = [[ToolCallDelta(0, "c1", "City", "")], *[[ToolCallDelta(0, arguments=letter)] for letter in text]]
    return lambda: streamed("", tools=pieces, finish="tool_calls")


def in_pieces(text: str):
    def pieces():
        yield ChatDelta(reasoning="let me see")
        for letter in text:
            yield ChatDelta(content=letter)
        yield ChatDelta(finish_reason="stop")

    return pieces


class Either(FakeRuntime):
    """Answers whole or streamed from the same script."""

    def chat(self, request):
        self.answers = [self.whole]
        return super().chat(request)

    def stream_chat(self, request):
        self.answers = [self.pieces]
        return super().stream_chat(request)


def scripted(mode, **fields):
    llm, _ = make("x", structured_output_mode=mode, **fields)
    runtime = Either("x", model="granite")
    runtime.whole = called(PARIS) if mode == "tools" else PARIS
    runtime.pieces = called_in_pieces(PARIS) if mode == "tools" else in_pieces(PARIS)
    llm._cell.client.runtime = runtime
    return llm, runtime


async def predict(llm, form, prompt=PROMPT, **arguments):
    """The object one of the four forms ends with, and all on the way."""
    arguments = {"city": "Paris", **arguments}
    result = getattr(llm, form)(City, prompt, **arguments)
    if form.startswith("a"):
        result = await result
    if "stream" not in form:
        return result, []
    objects = [item async for item in result] if form.startswith("a") else list(result)
    return objects[-1], objects


FORMS = ["structured_predict", "astructured_predict", "stream_structured_predict", "astream_structured_predict"]


class TestForms:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("mode", MODES)
    async def test_every_mode_in_every_form(self, mode, form):
        llm, runtime = scripted(mode)
        last, objects = await predict(llm, form)
        assert last == WANTED
        assert isinstance(last, City)
        if objects:
            assert any(getattr(item, "name", None) == "Par" for item in objects)
        (request,) = runtime.requests
        assert (request.constraint is not None) is (mode == "json_schema")
        assert bool(request.tools) is (mode == "tools")

    @pytest.mark.parametrize("form", FORMS)
    async def test_a_completion_model_is_constrained_too(self, form):
        llm, runtime = make(PARIS.replace(" ", ""), is_chat_model=False)
        last, _ = await predict(llm, form)
        assert last == WANTED
        assert runtime.requests[0].constraint.kind == "json_schema"
        assert runtime.requests[0].prompts == ["Tell me about Paris."]

    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("mode", MODES)
    async def test_events_and_spans_come_once(self, mode, form):
        llm, _ = scripted(mode)
        with Recorder() as recorder:
            await predict(llm, form)
        starts = [event for event in recorder.events if event.class_name() == "LLMChatStartEvent"]
        assert json.dumps(starts[0].additional_kwargs)  # what tracing tools do with it
        for name in ("LLMStructuredPredictStartEvent", "LLMStructuredPredictEndEvent", "LLMChatStartEvent"):
            assert recorder.names.count(name) == 1
        spans = [span.rpartition(".")[2] for span in recorder.spans]
        assert spans.count(form) == 1

    @pytest.mark.parametrize("mode", MODES)
    async def test_arguments_of_the_call_and_the_system_prompt_arrive(self, mode):
        for form in FORMS:
            llm, runtime = scripted(mode, system_prompt="Be exact.")
            mine = {"temperature": 0.5, "tool_choice": "none"}
            await predict(llm, form, llm_kwargs=mine)
            assert runtime.requests[0].params["temperature"] == 0.5
            assert runtime.requests[0].messages[0]["content"].startswith("Be exact.")
            assert mine["temperature"] == 0.5

    @pytest.mark.parametrize("mode", MODES)
    async def test_the_prompt_is_left_alone(self, mode):
        prompt = PromptTemplate("Tell me about {city}.")
        llm, _ = scripted(mode)
        await predict(llm, "structured_predict", prompt)
        assert prompt.output_parser is None
        assert prompt.format(city="Rome") == "Tell me about Rome."

    async def test_text_mode_shows_the_schema_as_it_is(self):
        llm, runtime = scripted("text")
        await predict(llm, "structured_predict")
        shown = runtime.requests[0].messages[-1]["content"]
        assert json.dumps(City.model_json_schema()) in shown

    async def test_text_mode_reads_json_out_of_its_surroundings(self):
        llm, runtime = scripted("text")
        runtime.whole = f"Here you are:\n```json\n{PARIS}\n```\nAnything else?"
        runtime.pieces = in_pieces(runtime.whole)
        for form in FORMS:
            last, objects = await predict(llm, form)
            assert last == WANTED
            assert all(getattr(item, "name", None) is None or "Paris".startswith(item.name) for item in objects)

    async def test_lists_grow_too(self):
        class Route(BaseModel):
            stops: list[str]

        text = '{"stops": ["Oslo", "Bergen", "Voss"]}'
        llm, runtime = scripted("json_schema")
        runtime.pieces = in_pieces(text)
        objects = list(llm.stream_structured_predict(Route, PROMPT, city="Paris"))
        assert ["Oslo", "Ber"] in [item.stops for item in objects]
        assert objects[-1].stops == ["Oslo", "Bergen", "Voss"]

    async def test_tool_mode_makes_the_model_call(self):
        llm, runtime = scripted("tools")
        for form in FORMS:
            await predict(llm, form)
        assert [request.tool_choice for request in runtime.requests] == ["required"] * 4
        assert all(request.tools[0]["function"]["strict"] for request in runtime.requests)


class TestModes:
    @pytest.mark.parametrize(
        ("program", "wanted"),
        [(PydanticProgramMode.FUNCTION, "tools"), (PydanticProgramMode.LLM, "text"), ("default", "json_schema")],
    )
    def test_the_frameworks_own_setting_goes_first(self, program, wanted):
        llm, runtime = scripted("auto", pydantic_program_mode=program)
        runtime.whole = called(PARIS) if wanted == "tools" else PARIS
        assert llm.structured_predict(City, PROMPT, city="Paris") == WANTED
        assert bool(runtime.requests[0].tools) is (wanted == "tools")
        assert bool(runtime.requests[0].constraint) is (wanted == "json_schema")

    def test_tools_without_tools_is_an_error(self):
        llm, _ = make(PARIS, structured_output_mode="tools", is_function_calling_model=False)
        with pytest.raises(UnsupportedParameterError, match="calls tools"):
            llm.structured_predict(City, PROMPT, city="Paris")

    async def test_as_structured_llm(self):
        llm, _ = scripted("auto")
        structured = llm.as_structured_llm(City)
        assert structured.chat([ChatMessage("Paris?")]).raw == WANTED
        assert (await structured.achat([ChatMessage("Paris?")])).raw == WANTED
        assert structured.complete("Paris?").raw == WANTED
        assert list(structured.stream_chat([ChatMessage("Paris?")]))[-1].raw == WANTED

    def test_the_frameworks_own_function_program(self):
        llm, runtime = make(called(PARIS))
        program = FunctionCallingProgram.from_defaults(output_cls=City, llm=llm, prompt_template_str="{city}?")
        assert program(city="Paris") == WANTED
        assert runtime.requests[0].tool_choice == "required"

    def test_a_chat_prompt(self):
        llm, runtime = scripted("json_schema")
        prompt = ChatPromptTemplate([ChatMessage(role="system", content="Geo"), ChatMessage("About {city}")])
        assert llm.structured_predict(City, prompt, city="Paris") == WANTED
        assert [message["role"] for message in runtime.requests[0].messages] == ["system", "user"]


class TestFailures:
    @pytest.mark.parametrize("form", FORMS)
    @pytest.mark.parametrize("mode", ["json_schema", "text"])
    async def test_an_answer_cut_off_says_so(self, mode, form):
        cut = '{"name": "Par'

        def pieces():
            yield ChatDelta(content=cut)
            yield ChatDelta(finish_reason="length")

        llm, runtime = scripted(mode)
        runtime.whole, runtime.pieces = ChatChoice(content=cut, finish_reason="length"), pieces
        with pytest.raises(InvalidOutputError, match=r"cut off.*\n.*max_tokens") as caught:
            await predict(llm, form)
        assert caught.value.partial_text == cut
        assert isinstance(caught.value.__cause__, ValueError)

    @pytest.mark.parametrize("form", FORMS)
    async def test_an_answer_of_the_wrong_form_names_the_field(self, form):
        wrong = json.dumps({"name": "Paris", "population": "many"})
        llm, runtime = scripted("json_schema")
        runtime.whole, runtime.pieces = wrong, in_pieces(wrong)
        with pytest.raises(ValueError, match="population") as caught:
            await predict(llm, form)
        assert "many" not in str(caught.value)

    def test_no_call_where_one_was_required(self):
        llm, runtime = scripted("tools")
        runtime.whole = "I will not."
        with pytest.raises(ValueError, match="called no tool"):
            llm.structured_predict(City, PROMPT, city="Paris")

    def test_a_call_cut_off(self):
        llm, runtime = scripted("tools")
        runtime.whole = called("{}", finish="length")
        with pytest.raises(InvalidOutputError, match="cut off"):
            llm.structured_predict(City, PROMPT, city="Paris")

    @pytest.mark.parametrize("form", FORMS)
    async def test_the_endpoints_errors_come_through(self, form):
        llm, runtime = scripted("json_schema")
        runtime.whole = runtime.pieces = ServerError("down")
        with pytest.raises(ServerError):
            await predict(llm, form)

    def test_an_answer_taken_for_reasoning_is_read(self):
        llm, runtime = scripted("json_schema")
        runtime.whole = ChatChoice(reasoning=PARIS, finish_reason="stop")
        assert llm.structured_predict(City, PROMPT, city="Paris") == WANTED
