"""Conversations with models on KServe: one class per runtime."""

from typing import Any, ClassVar

from langchain_core.language_models import ModelProfile
from typing_extensions import override

from langchain_kserve import _runtimes
from langchain_kserve._base_chat import RuntimeChat
from langchain_kserve._caikit_fields import CaikitConnection, CaikitFields
from langchain_kserve._openvino_fields import OpenVINOChatFields
from langchain_kserve._templated_chat import TemplatedChat
from langchain_kserve._tgis_fields import TGISChatFields
from langchain_kserve._v2_fields import TEXT_OPTIONS, TextClass, TextFields, V2ChatParameters
from langchain_kserve._vllm_fields import VLLMChatFields

_TEXT_ONLY: ModelProfile = {
    "text_inputs": True,
    "text_outputs": True,
    "image_inputs": False,
    "tool_calling": False,
    "tool_choice": False,
    "temperature": True,
}


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

    A model without a chat template is given one with `chat_template`: a built-in format's name (`"chatml"`), Jinja
    text or a file. Unless the server takes it from the request, conversations are then completed as text, without
    tools; see the field.

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

    @override
    def _make_chat(self, runtime: Any) -> Any:
        from kserve_core.runtimes.vllm.templated import VLLMChat

        return VLLMChat(runtime)


class ChatCaikit(TemplatedChat, CaikitFields, CaikitConnection):
    """A model served by Caikit, with TGIS behind it or alone, answering conversations over REST or gRPC.

    Caikit completes text, so a chat template has to be given, and there are no tools: `bind_tools` raises
    `UnsupportedParameterError`, `profile["tool_calling"]` is False, and agents have to work by prompt (ReAct). Nor can
    the server hold an answer to a form: `with_structured_output` asks for it in the prompt and checks the answer.

    Set `max_tokens`: the server stops after 20 tokens otherwise. Streams need TGIS behind the server.

    ???+ example

        ```python
        from langchain_kserve import ChatCaikit

        model = ChatCaikit(
            base_url="https://granite-demo.apps.example.com",
            api_key="...",
            model="granite-3.3-8b-instruct",  # may be left out when one model is served
            chat_template="granite",  # or Jinja text, or Path("tokenizer_config.json")
            max_tokens=256,
        )
        model.invoke("Why is the sky blue?")
        for chunk in model.stream("Count to ten."):
            print(chunk.text, end="")
        ```
    """

    _declaration = _runtimes.CAIKIT
    _parameters = CaikitFields
    _codec_options = ("route_prefix",)
    _flags: ClassVar[ModelProfile] = {**_TEXT_ONLY, "structured_output": False}


class ChatTGIS(TemplatedChat, TGISChatFields):
    """A model served by TGIS, the classic server or vLLM with the TGIS adapter, answering conversations over gRPC.

    TGIS completes text, so a chat template has to be given, and there are no tools: `bind_tools` raises
    `UnsupportedParameterError`, `profile["tool_calling"]` is False, and agents have to work by prompt (ReAct).

    The vLLM-backed server holds answers to a form (`with_structured_output`, `guided_json`, `guided_regex`,
    `guided_choice`, `guided_grammar`); the classic one skips such a wish without a word, so that only the check of the
    answer is left.

    Set `max_tokens`: the classic server stops after 20 tokens otherwise.

    ???+ example

        ```python
        from langchain_kserve import ChatTGIS

        model = ChatTGIS(
            base_url="grpcs://granite-demo.apps.example.com:443",
            api_key="...",
            chat_template="granite",  # or Jinja text, or Path("tokenizer_config.json")
            max_tokens=256,
        )
        model.invoke("Why is the sky blue?")
        model.with_structured_output(Joke).invoke("Tell a joke.")
        model.invoke("Is the sky blue?", guided_choice=["yes", "no"])
        model.load_profile()["max_input_tokens"]
        ```
    """

    _declaration = _runtimes.TGIS
    _parameters = TGISChatFields
    _codec_options = ("adapter_id", "prefix_id")
    _flags: ClassVar[ModelProfile] = {**_TEXT_ONLY, "structured_output": True}


class ChatTriton(TextClass, TemplatedChat, V2ChatParameters, TextFields):
    """A model served by Triton, answering conversations over REST or gRPC.

    The model is one of the vLLM backend, the TensorRT-LLM ensemble, or any other that takes and gives text; which
    inputs take the prompt and the parameters is found from its metadata. A parameter it has no place for is an error.

    Triton completes text, so a chat template has to be given, and there are no tools: `bind_tools` raises
    `UnsupportedParameterError`, `profile["tool_calling"]` is False, and agents have to work by prompt (ReAct). Nor can
    the server hold an answer to a form: `with_structured_output` asks for it in the prompt and checks the answer.

    Set `max_tokens`: backends stop after few tokens otherwise (vLLM's after 16).

    ???+ example

        ```python
        from langchain_kserve import ChatTriton

        model = ChatTriton(
            base_url="https://llama-demo.apps.example.com",
            api_key="...",
            model="ensemble",  # may be left out when one model is served
            chat_template="llama3",  # or Jinja text, or Path("tokenizer_config.json")
            max_tokens=256,
        )
        model.invoke("Why is the sky blue?")
        for chunk in model.stream("Count to ten."):
            print(chunk.text, end="")
        ```
    """

    _declaration = _runtimes.TRITON
    _parameters = V2ChatParameters
    _codec_options = TEXT_OPTIONS
    _flags: ClassVar[ModelProfile] = {**_TEXT_ONLY, "structured_output": False}


class ChatMLServer(TextClass, TemplatedChat, V2ChatParameters, TextFields):
    """A model served by MLServer, by its Hugging Face runtime or one of your own, answering conversations.

    MLServer completes text, so a chat template has to be given; there are no tools, and forms are asked for in the
    prompt, as with `ChatTriton`. The Hugging Face runtime takes the arguments of its pipeline (`max_tokens`,
    `temperature`, `top_p`, ...), and no `seed`; a model of your own takes what it declares inputs for.

    The Hugging Face runtime cannot stream: the answer then comes as one piece. Stop texts are cut off here.

    ???+ example

        ```python
        from langchain_kserve import ChatMLServer

        model = ChatMLServer(
            base_url="https://qwen-demo.apps.example.com",  # or grpcs://...:443
            api_key="...",
            model="qwen",
            chat_template="chatml",
            max_tokens=256,
        )
        model.invoke("Why is the sky blue?")
        ```
    """

    _declaration = _runtimes.MLSERVER
    _parameters = V2ChatParameters
    _codec_options = TEXT_OPTIONS
    _flags: ClassVar[ModelProfile] = {**_TEXT_ONLY, "structured_output": False}


class ChatOpenVINO(RuntimeChat, OpenVINOChatFields):
    """A model served by OpenVINO Model Server, answering conversations under `/v3`, with the model's own template.

    Tools need a server with a `--tool_parser`, and answers of a given form (a JSON Schema) one with guided decoding.
    Other forms than a JSON Schema, a parameter the server does not have, and log-probabilities in streams are errors.
    At most four stop texts can be given; they are never part of an answer, streamed or whole.

    The server tells no context window; give it as `profile={"max_input_tokens": ...}` where something needs it.

    ???+ example

        ```python
        from langchain_kserve import ChatOpenVINO

        model = ChatOpenVINO(
            base_url="https://qwen-demo.apps.example.com",  # with or without /v3
            api_key="...",
            model="qwen3-8b",  # may be left out when one model is served
            temperature=0,
        )
        model.invoke("Why is the sky blue?")
        model.bind_tools([get_weather]).invoke("Weather in Paris?").tool_calls
        model.with_structured_output(Joke).invoke("Tell a joke.")
        model.invoke("Two and two?", chat_template_kwargs={"enable_thinking": False})
        ```
    """

    _declaration = _runtimes.OPENVINO_CHAT
    _parameters = OpenVINOChatFields
    _flags: ClassVar[ModelProfile] = {
        "text_inputs": True,
        "text_outputs": True,
        "tool_calling": True,
        "tool_choice": True,
        "structured_output": True,
        "temperature": True,
    }
