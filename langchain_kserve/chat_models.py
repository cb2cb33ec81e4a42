"""Conversations with models on KServe: one class per runtime."""

from typing import ClassVar

from langchain_core.language_models import ModelProfile

from langchain_kserve import _runtimes
from langchain_kserve._base_chat import RuntimeChat
from langchain_kserve._chat_fields import VLLMChatFields


class ChatVLLM(RuntimeChat, VLLMChatFields):
    """A model served by vLLM, answering conversations.

    Nothing is sent that was not set: every parameter left out is the server's to choose.

    Automatic tool calls need a server started with `--enable-auto-tool-choice` and a tool parser; forced ones
    (`tool_choice="any"` or a name) need neither. Arguments are held to their schema for sure with `strict=True` only.

    When tools and a `response_format` come together, as from agents, the tools are marked strict, because the server
    would otherwise hold every answer to the format and never call a tool. Servers that do not know `strict` do so all
    the same; with them give agents `ToolStrategy(Schema)`, or `profile={"structured_output": False}` to the model.

    ???+ example "Instantiate and invoke"

        ```python
        from langchain_kserve import ChatVLLM

        model = ChatVLLM(
            base_url="https://llm-demo.apps.example.com/v1",
            api_key="...",  # or a Path to a token file, or a callable; open endpoints need none
            model="granite-3.3-8b-instruct",  # may be left out when one model is served
            temperature=0,
        )
        model.invoke("Why is the sky blue?")
        for chunk in model.stream("Count to ten."):
            print(chunk.text, end="")
        ```

    ??? example "Tools"

        ```python
        def get_weather(city: str) -> str:
            '''Tells the weather in a city.'''

        model.bind_tools([get_weather]).invoke("Weather in Paris?").tool_calls
        ```

    ??? example "Answers of a given form"

        ```python
        class Joke(BaseModel):
            setup: str
            punchline: str

        model.with_structured_output(Joke).invoke("Tell a joke.")
        model.invoke("Is the sky blue?", guided_choice=["yes", "no"])
        model.invoke("A date?", structured_outputs={"regex": r"[0-9]{4}-[0-9]{2}-[0-9]{2}"})
        ```

    ??? example "Reasoning"

        ```python
        answer = model.invoke("What is two plus two?", chat_template_kwargs={"enable_thinking": True})
        answer.content_blocks  # a reasoning block, then a text block
        ```
    """

    _declaration = _runtimes.VLLM
    _parameters = VLLMChatFields
    _strict_tools = True
    _flags: ClassVar[ModelProfile] = {
        "text_inputs": True,
        "text_outputs": True,
        "tool_calling": True,
        "tool_choice": True,
        "structured_output": True,
        "temperature": True,
    }
