"""Tool calling: what goes out with a request, and what comes back out of a response."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from llama_index.core.base.llms.types import ChatMessage, ChatResponse, MessageRole, ToolCallBlock
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import ToolSelection
from pydantic import Field
from pydantic_core import from_json

from llamaindex_kserve._base_llm import KServeLLM
from llamaindex_kserve._errors import InvalidOutputError
from llamaindex_kserve._messages import to_wire, tool_choice_on_wire
from llamaindex_kserve._responses import Answer, arguments_of

if TYPE_CHECKING:
    from llama_index.core.tools.types import BaseTool


class KServeFunctionCallingLLM(KServeLLM, FunctionCallingLLM):
    """Chats with any runtime that takes tools; use the class of your runtime."""

    is_chat_model: bool = Field(
        default=True, description="Send conversations; False sends prompts to the completion endpoint."
    )
    is_function_calling_model: bool = Field(
        default=True,
        description="Whether the served model and server take tools; agents then use them, else they prompt (ReAct).",
    )
    strict: bool = Field(
        default=False,
        description=(
            "Ask the server to hold tool arguments to the tools' schemas. vLLM constrains them only then, "
            "even where a call is required; structured output by tools always asks for it."
        ),
    )
    send_reasoning: bool = Field(
        default=False, description="Send earlier reasoning (thinking blocks) back to the model."
    )

    _supports_json_schema: ClassVar[bool] = True
    reasoning_as_text: bool = Field(
        default=False,
        description=(
            "Take the reasoning for the answer's text where a complete answer has nothing else. Some servers' "
            "reasoning parsers deliver it so when the model has not thought at all."
        ),
    )

    def _calls_functions(self) -> bool:
        return self.is_function_calling_model and self.is_chat_model

    def _on_the_wire(self, messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
        return to_wire(messages, runtime=self._runtime_name, media=self._media, send_reasoning=self.send_reasoning)

    def _answer(self, *, one_call: bool) -> Answer:
        return Answer(one_call=one_call, thoughts_count=self.reasoning_as_text)

    def _prepare_chat_with_tools(  # noqa: PLR0917 - the framework's signature
        self,
        tools: Sequence["BaseTool"],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,  # noqa: ARG002 - part of the framework's signature
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        messages = list(chat_history or ())
        if user_msg is not None:
            if isinstance(user_msg, str):
                user_msg = ChatMessage(role=MessageRole.USER, content=user_msg)
            messages.append(user_msg)
        choice = tool_choice_on_wire(kwargs.pop("tool_choice", None), required=tool_required)
        strict = kwargs.pop("strict", self.strict)
        prepared: dict[str, Any] = {"messages": messages, **kwargs}
        if tools:
            prepared["tools"] = [tool.metadata.to_openai_tool(skip_length_check=True) for tool in tools]
            if strict:
                for tool in prepared["tools"]:
                    tool["function"]["strict"] = True
            if choice is not None:
                prepared["tool_choice"] = choice
            if not allow_parallel_tool_calls:
                prepared["parallel_tool_calls"] = False
        return prepared

    def get_tool_calls_from_response(
        self,
        response: ChatResponse,
        error_on_no_tool_call: bool = True,
        **kwargs: Any,  # noqa: ARG002 - part of the framework's signature
    ) -> list[ToolSelection]:
        """The tools a response asks for.

        While a response is still being streamed, arguments are read as far as they have come. Once it has ended
        they must be whole: a call that was cut off or does not parse is never handed out as if it were one.

        Args:
            response: A response of this LLM.
            error_on_no_tool_call: Raise if it asks for none.
            **kwargs: Ignored; part of the framework's signature.

        Raises:
            ValueError: If it asks for no tool.
            InvalidOutputError: If it has ended within a call, or a call's arguments are no JSON object.
        """
        calls = [block for block in response.message.blocks if isinstance(block, ToolCallBlock)]
        if not calls:
            if error_on_no_tool_call:
                msg = f"The model called no tool; it answered: {response.message.content!r}"
                raise ValueError(msg)
            return []
        ended = "finish_reason" in response.additional_kwargs
        if ended and response.additional_kwargs.get("incomplete_tool_call"):
            msg = f"The answer was cut off while calling tool {calls[-1].tool_name!r}."
            raise InvalidOutputError(
                msg, layer="model", hint="Raise max_tokens.", partial_text=_arguments_text(calls[-1])
            )
        return [
            ToolSelection(
                tool_id=call.tool_call_id or call.tool_name,
                tool_name=call.tool_name,
                tool_kwargs=_arguments(call, ended=ended),
            )
            for call in calls
        ]


def _arguments(call: ToolCallBlock, *, ended: bool) -> dict[str, Any]:
    value = arguments_of(call.tool_kwargs) if isinstance(call.tool_kwargs, str) else call.tool_kwargs
    if isinstance(value, dict):
        return value
    if ended:
        msg = f"The model's arguments for tool {call.tool_name!r} are no JSON object."
        raise InvalidOutputError(msg, layer="model", partial_text=value)
    try:
        partial = from_json(value, allow_partial="trailing-strings")
    except (TypeError, ValueError):
        return {}
    return partial if isinstance(partial, dict) else {}


def _arguments_text(call: ToolCallBlock) -> str:
    return call.tool_kwargs if isinstance(call.tool_kwargs, str) else str(call.tool_kwargs)
