from __future__ import annotations

import pytest
from llama_index.core.base.llms.types import ChatMessage
from pydantic import BaseModel
from unit.llamaindex.llm_fakes import make

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from llamaindex_kserve import VLLM
from llamaindex_kserve._requests import constraint_of, sort_arguments

HI = [ChatMessage("hi")]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


class City(BaseModel):
    name: str


def asked(call=None, **fields):
    """What one chat asks of the runtime."""
    llm, runtime = make("hello", **fields)
    llm.chat(HI, **(call or {}))
    return runtime.requests[0]


class TestParameters:
    def test_nothing_is_sent_that_was_not_set(self):
        request = asked()
        assert dict(request.params) == {}
        assert dict(request.extra_body) == {}
        assert request.tools == ()
        assert request.constraint is None

    def test_every_sampling_field_is_sent_when_set(self):
        for name in sorted({*VLLM._sampling} - {"chat_template"}):  # which decides who writes the prompt
            kind = str(VLLM.model_fields[name].annotation)
            value = {"bool": True, "dict": {"1": 1.0}, "list[int]": [1], "list[str]": ["x"]}.get(
                next((key for key in ("bool", "dict", "list[int]", "list[str]") if key in kind), ""), 1
            )
            value = "low" if kind.startswith("str |") or kind == "str | None" else value
            assert asked(**{name: value}).params[name] == value

    def test_a_call_goes_over_additional_kwargs_goes_over_a_field(self):
        fields = {"temperature": 0.1, "additional_kwargs": {"temperature": 0.2}}
        assert asked(temperature=0.1).params["temperature"] == 0.1
        assert asked(**fields).params["temperature"] == 0.2
        assert asked({"temperature": 0.3}, **fields).params["temperature"] == 0.3

    def test_none_takes_a_value_back(self):
        assert "temperature" not in asked({"temperature": None}, temperature=0.1).params

    def test_zero_is_a_value(self):
        assert asked({"temperature": 0, "logprobs": False}).params == {"temperature": 0, "logprobs": False}

    def test_one_stop_text_is_a_list_of_one(self):
        assert asked(stop="END").params["stop"] == ["END"]
        assert asked({"stop": "END"}).params["stop"] == ["END"]

    def test_the_other_name_of_max_tokens_replaces_it(self):
        assert asked({"max_completion_tokens": 5}, max_tokens=9).params == {"max_tokens": 5}

    def test_extra_body_is_merged_and_kept_apart(self):
        request = asked({"extra_body": {"b": 2}}, extra_body={"a": 1, "b": 1})
        assert request.extra_body == {"a": 1, "b": 2}
        assert request.params == {}

    def test_headers_of_one_call(self):
        assert asked({"extra_headers": {"x-request-id": "abc"}}).headers == {"x-request-id": "abc"}

    def test_another_model_for_one_call(self):
        assert asked({"model": "granite-lora"}).model == "granite-lora"

    def test_an_unknown_one_is_left_to_the_codec(self):
        assert asked({"guided_regex": "a+"}).params == {"guided_regex": "a+"}

    def test_what_the_method_decides_is_not_a_parameter(self):
        assert asked({"stream": True, "stream_options": {"include_usage": False}}).params == {}


class TestTools:
    def test_a_choice_without_tools_is_dropped(self):
        request = asked({"tool_choice": "required", "parallel_tool_calls": False, "tools": []})
        assert request.tool_choice is None
        assert request.parallel_tool_calls is None

    def test_tools_and_choice(self):
        request = asked({"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False})
        assert list(request.tools) == [TOOL]
        assert request.tool_choice == "required"
        assert request.parallel_tool_calls is False

    def test_a_prompt_takes_no_tools(self):
        with pytest.raises(UnsupportedParameterError, match="ReActAgent"):
            asked({"tools": [TOOL]}, is_chat_model=False)


class TestConstraints:
    @pytest.mark.parametrize(
        ("arguments", "kind", "value"),
        [
            ({"response_format": City}, "json_schema", City.model_json_schema()),
            ({"response_format": {"type": "json_object"}}, "json_object", None),
            (
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "n", "schema": {"type": "object"}},
                    }
                },
                "json_schema",
                {"type": "object"},
            ),
            ({"structured_outputs": {"choice": ["yes", "no"]}}, "choice", ["yes", "no"]),
            ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
            ({"structured_outputs": {"grammar": "root ::= 'x'"}}, "grammar", "root ::= 'x'"),
            ({"structured_outputs": {"json": City}}, "json_schema", City.model_json_schema()),
            ({"structured_outputs": {"json_object": True}}, "json_object", None),
        ],
    )
    def test_forms(self, arguments, kind, value):
        constraint = asked(arguments).constraint
        assert (constraint.kind, constraint.value) == (kind, value)

    def test_text_is_no_constraint(self):
        assert asked({"response_format": {"type": "text"}}).constraint is None

    @pytest.mark.parametrize(
        "arguments",
        [
            {"response_format": {"type": "json_schema"}},
            {"response_format": {"type": "xml"}},
            {"response_format": "json"},
            {"structured_outputs": {"regex": "a", "choice": ["b"]}},
            {"structured_outputs": {"whitespace_pattern": " "}},
            {"structured_outputs": {}},
            {"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}},
        ],
    )
    def test_what_cannot_be_read_is_an_error(self, arguments):
        with pytest.raises(ConfigurationError):
            constraint_of(arguments.get("response_format"), arguments.get("structured_outputs"))


def test_the_callers_mappings_are_left_alone():
    mine = {"extra_body": {"a": 1}, "stop": "x", "tools": [TOOL]}
    body = {"b": 2}
    sort_arguments(mine, extra_body=body)
    assert mine == {"extra_body": {"a": 1}, "stop": "x", "tools": [TOOL]}
    assert body == {"b": 2}
