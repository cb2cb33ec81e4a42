"""LLM classes, one per runtime: what each says about itself. How they work is in the base classes."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from llama_index.core.constants import DEFAULT_NUM_OUTPUTS
from pydantic import Field

from kserve_core.endpoint import Endpoint
from llamaindex_kserve._base_llm import KServeLLM
from llamaindex_kserve._caikit import CaikitConnection
from llamaindex_kserve._messages import ALL_MEDIA, Media
from llamaindex_kserve._openvino_llm import OpenVINOLLM
from llamaindex_kserve._templates import ChatTemplateField
from llamaindex_kserve._tensor_llm import TensorLLM
from llamaindex_kserve._text_llm import KServeTextLLM
from llamaindex_kserve._tools import KServeFunctionCallingLLM

__all__ = [
    "TGISLLM",
    "VLLM",
    "CaikitLLM",
    "KServeFunctionCallingLLM",
    "KServeLLM",
    "KServeTextLLM",
    "MLServerLLM",
    "OpenVINOLLM",
    "TritonLLM",
]


class VLLM(KServeFunctionCallingLLM):
    """A language model served by vLLM: chat, completion, tools, structured output, reasoning, images.

    Example:
        ```python
        llm = VLLM(base_url="https://granite.apps.example.com/v1", api_key=token)
        Settings.llm = llm
        llm.load_metadata()  # the real context window, before query engines are built
        ```

    `complete` sends a chat of one user message. With `is_chat_model=False` both `chat` and `complete` go to the
    text-completion endpoint, for models without a chat template; `messages_to_prompt` then writes the prompt, and
    `max_tokens` is 256 if not set, because vLLM's own default there is 16. A single call chooses by
    `use_chat_completions=`.

    Nothing is sent that was not set. A parameter vLLM has but this class has no field for goes into
    `additional_kwargs` or into a single call; a name vLLM does not have is an error. `extra_body` is not checked.

    A model without a chat template of its own takes conversations by `chat_template`. Where prompts are then written
    on this side, they are completed as text: there are no tools and no images, and `max_tokens` is 256 if not set.
    """

    min_p: float | None = Field(default=None, description="Leave out tokens less likely than this, of the likeliest.")
    min_tokens: int | None = Field(default=None, description="Tokens an answer must have at least.")
    frequency_penalty: float | None = Field(default=None, description="Lowers tokens by how often they occurred.")
    presence_penalty: float | None = Field(default=None, description="Lowers tokens that occurred.")
    repetition_penalty: float | None = Field(default=None, description="Above 1 lowers tokens seen so far.")
    length_penalty: float | None = Field(default=None, description="For beam search.")
    n: int | None = Field(default=None, description="Answers per request; the first is shown, `raw` has all.")
    use_beam_search: bool | None = Field(default=None, description="Beam search of width `n`.")
    logit_bias: dict[int | str, float] | None = Field(default=None, description="Token id to an addition to its logit.")
    allowed_token_ids: list[int] | None = Field(default=None, description="Only these tokens may be generated.")
    bad_words: list[str] | None = Field(default=None, description="Words that must not be generated.")
    stop_token_ids: list[int] | None = Field(default=None, description="Tokens that end an answer.")
    include_stop_str_in_output: bool | None = Field(default=None, description="Keep the stop text in the answer.")
    ignore_eos: bool | None = Field(default=None, description="Go on past the model's own end.")
    skip_special_tokens: bool | None = Field(default=None, description="Leave special tokens out of the text.")
    spaces_between_special_tokens: bool | None = Field(default=None, description="Put spaces between them.")
    truncate_prompt_tokens: int | None = Field(
        default=None, description="Keep this many of the prompt's last tokens; -1 for what fits the model."
    )
    logprobs: bool | None = Field(default=None, description="Return the log-probability of each token.")
    top_logprobs: int | None = Field(default=None, description="Also return this many alternatives; with `logprobs`.")
    prompt_logprobs: int | None = Field(default=None, description="The same for the prompt; found in `raw`.")
    reasoning_effort: str | None = Field(default=None, description="How much a reasoning model thinks.")
    include_reasoning: bool | None = Field(default=None, description="False leaves reasoning out of the answer.")
    chat_template: ChatTemplateField = Field(
        default=None,
        description=(
            "How to write conversations, instead of the model's own template. Jinja text goes to the server; where "
            "it takes none, and for a built-in format (`chatml`, `llama3`, ...) or a path, prompts are written here."
        ),
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None, description="Variables of the chat template, for example `{'enable_thinking': False}`."
    )
    priority: int | None = Field(default=None, description="Lower is served earlier, where the server schedules so.")

    _runtime_name: ClassVar[str] = "vLLM"
    _media: ClassVar[Media] = ALL_MEDIA
    _supports_json_schema: ClassVar[bool] = True
    _sampling: ClassVar[tuple[str, ...]] = (
        *KServeLLM._sampling,
        "min_p",
        "min_tokens",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "length_penalty",
        "n",
        "use_beam_search",
        "logit_bias",
        "allowed_token_ids",
        "bad_words",
        "stop_token_ids",
        "include_stop_str_in_output",
        "ignore_eos",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "truncate_prompt_tokens",
        "logprobs",
        "top_logprobs",
        "prompt_logprobs",
        "reasoning_effort",
        "include_reasoning",
        "chat_template",
        "chat_template_kwargs",
        "priority",
    )

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps and events."""
        return "KServe_VLLM"

    def _make_runtime(self, endpoint: Endpoint) -> Any:
        from kserve_core.runtimes.vllm import VLLMRuntime

        return VLLMRuntime(base_path=endpoint.base_path, model=self.model)

    def _chat_runtime(self, params: dict[str, Any]) -> Any:
        template = params.pop("chat_template", None)
        if template is None:
            return self.client.runtime
        # Kept as long as the client: it learns whether the server takes templates.
        cell = self._cell
        made = cell.chat
        if made is None or made[0] != template:
            from kserve_core.runtimes.vllm.templated import VLLMChat

            runtime = VLLMChat(self.client.runtime, template, default_max_tokens=DEFAULT_NUM_OUTPUTS)
            made = cell.chat = (template, runtime)
        return made[1]


class CaikitLLM(CaikitConnection, KServeTextLLM):
    """A language model served by Caikit, alone or with TGIS behind it.

    Example:
        ```python
        llm = CaikitLLM(base_url="https://flan-t5.apps.example.com", model="flan-t5-small")
        llm.complete("Translate to German: good morning")
        chat = CaikitLLM(base_url="grpcs://granite-grpc.apps.example.com", model="granite", chat_template="granite")
        chat.chat([ChatMessage("Why is the sky blue?")])
        ```

    `max_tokens` is 256 if not set, because Caikit's own default is 20. Caikit does not tell a model's context
    window: give `context_window`. It cannot hold an answer to a form either, so structured prediction asks for the
    form in the prompt and checks the answer. It has no tools; a `ReActAgent` does without.

    `temperature=0` decodes greedily, and leaves nothing to `seed`, `top_p` or `top_k`: the server refuses them then.
    A parameter that has no field here goes into `additional_kwargs` or into a single call; a name Caikit does not
    have is an error. `extra_body` is sent as further `parameters`, unchecked.
    """

    min_tokens: int | None = Field(default=None, description="Tokens an answer must have at least.")
    typical_p: float | None = Field(default=None, description="Sample from the most typical tokens of this mass.")
    decoding_method: str | None = Field(
        default=None, description="`GREEDY` or `SAMPLING`; by default what was set decides."
    )
    repetition_penalty: float | None = Field(default=None, description="Above 1 lowers tokens seen so far.")
    length_penalty: tuple[int, float] | Mapping[str, float] | None = Field(
        default=None, description="From token `start_index` on the end becomes likelier by `decay_factor` (1 to 10)."
    )
    time_limit: float | None = Field(default=None, description="Seconds after which the server ends an answer.")
    include_stop_str_in_output: bool | None = Field(default=None, description="Keep the stop text in the answer.")
    truncate_prompt_tokens: int | None = Field(default=None, description="Keep this many of the prompt's tokens.")
    logprobs: bool | None = Field(default=None, description="Return the log-probability of each token.")
    prompt_logprobs: bool | None = Field(default=None, description="The same for the prompt; found in `raw`.")

    _sampling: ClassVar[tuple[str, ...]] = (
        *KServeLLM._sampling,
        "min_tokens",
        "typical_p",
        "decoding_method",
        "repetition_penalty",
        "length_penalty",
        "time_limit",
        "include_stop_str_in_output",
        "truncate_prompt_tokens",
        "logprobs",
        "prompt_logprobs",
    )

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps and events."""
        return "KServe_CaikitLLM"


class TGISLLM(KServeTextLLM):
    """A language model served by TGIS over gRPC: the classic server, or vLLM with the TGIS adapter.

    Example:
        ```python
        llm = TGISLLM(base_url="grpcs://granite-grpc.apps.example.com", chat_template="granite")
        llm.load_metadata()  # the real context window, before query engines are built
        llm.chat([ChatMessage("Why is the sky blue?")])
        ```

    `max_tokens` is 256 if not set, or what the server allows if that is less and `load_metadata()` has asked.
    There is one model behind an endpoint, so `model` may be left out; behind ModelMesh it chooses the model.

    Structured prediction has the server constrain the answer to the JSON Schema. The classic server skips such a
    demand without a word; the answer is checked in any case, and `structured_output_mode="text"` asks for the form
    in the prompt instead. There are no tools; a `ReActAgent` does without.

    A parameter that has no field here goes into `additional_kwargs` or into a single call; a name TGIS does not have
    is an error. `extra_body` is merged into the request's `Parameters` message.
    """

    protocol: Literal["rest", "grpc"] = Field(
        default="grpc", exclude=True, repr=False, description="TGIS speaks gRPC only."
    )
    adapter_id: str | None = Field(default=None, description="The adapter (LoRA, prompt tuning) to use.")
    prefix_id: str | None = Field(default=None, description="The same for the classic server's prompt prefixes.")
    min_tokens: int | None = Field(default=None, description="Tokens an answer must have at least.")
    typical_p: float | None = Field(default=None, description="Sample from the most typical tokens of this mass.")
    decoding_method: str | None = Field(
        default=None, description="`greedy` or `sample`; by default what was set decides."
    )
    repetition_penalty: float | None = Field(default=None, description="Above 1 lowers tokens seen so far.")
    length_penalty: tuple[int, float] | Mapping[str, float] | None = Field(
        default=None, description="From token `start_index` on the end becomes likelier by `decay_factor` (1 to 10)."
    )
    time_limit: float | None = Field(default=None, description="Seconds after which the server ends an answer.")
    include_stop_str_in_output: bool | None = Field(default=None, description="Keep the stop text in the answer.")
    truncate_prompt_tokens: int | None = Field(default=None, description="Keep this many of the prompt's last tokens.")
    logprobs: bool | None = Field(default=None, description="Return the log-probability of each token.")
    top_logprobs: int | None = Field(default=None, description="Also return this many alternatives; with `logprobs`.")
    prompt_logprobs: int | None = Field(default=None, description="The same for the prompt; found in `raw`.")

    _runtime_name: ClassVar[str] = "TGIS"
    _protocols: ClassVar[tuple[str, ...]] = ("grpc",)
    _runtime_fields: ClassVar[tuple[str, ...]] = ("adapter_id", "prefix_id")
    _needs_model: ClassVar[bool] = False
    _supports_json_schema: ClassVar[bool] = True
    _sampling: ClassVar[tuple[str, ...]] = (
        *KServeLLM._sampling,
        "min_tokens",
        "typical_p",
        "decoding_method",
        "repetition_penalty",
        "length_penalty",
        "time_limit",
        "include_stop_str_in_output",
        "truncate_prompt_tokens",
        "logprobs",
        "top_logprobs",
        "prompt_logprobs",
    )

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps and events."""
        return "KServe_TGISLLM"

    def _make_runtime(self, endpoint: Endpoint) -> Any:
        from kserve_core.runtimes.tgis import TGISRuntime

        return TGISRuntime(
            base_path=endpoint.base_path, model=self.model, adapter_id=self.adapter_id, prefix_id=self.prefix_id
        )


class TritonLLM(TensorLLM):
    """A language model served by Triton: the vLLM backend, the TensorRT-LLM ensemble, or any other that takes text.

    Example:
        ```python
        llm = TritonLLM(base_url="https://llama.apps.example.com", model="ensemble", chat_template="llama3")
        llm.chat([ChatMessage("Why is the sky blue?")])
        llm.complete("The capital of France is")
        ```

    Which inputs take the prompt and the parameters is found from the model's metadata; a parameter it has no place for
    is an error. `max_tokens` is 256 if not set and the model can be told. Triton does not tell a context window: give
    `context_window`. Structured prediction asks for the form in the prompt and checks the answer. There are no tools; a
    `ReActAgent` does without. `extra_body` is sent as further inputs or request parameters.
    """

    _runtime_name: ClassVar[str] = "Triton"
    _runtime_key: ClassVar[str] = "triton"

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps and events."""
        return "KServe_TritonLLM"


class MLServerLLM(TensorLLM):
    """A language model served by MLServer, by its Hugging Face runtime or one of your own.

    Example:
        ```python
        llm = MLServerLLM(base_url="https://qwen.apps.example.com", model="qwen", chat_template="chatml")
        llm.chat([ChatMessage("Why is the sky blue?")])
        ```

    The Hugging Face runtime takes the arguments of its pipeline (`max_tokens`, `temperature`, `top_p`, ...), and no
    `seed`; it cannot stream, so that a streamed answer comes as one piece. A model of your own takes what it declares
    inputs for. Everything else is as for `TritonLLM`.
    """

    _runtime_name: ClassVar[str] = "MLServer"
    _runtime_key: ClassVar[str] = "mlserver"

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps and events."""
        return "KServe_MLServerLLM"
