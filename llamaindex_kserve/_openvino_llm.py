"""The LLM class of OpenVINO Model Server."""

from typing import Any, ClassVar

from pydantic import Field

from kserve_core.endpoint import Endpoint
from llamaindex_kserve._base_llm import KServeLLM
from llamaindex_kserve._messages import Media
from llamaindex_kserve._structured import OutputMode
from llamaindex_kserve._tools import KServeFunctionCallingLLM


class OpenVINOLLM(KServeFunctionCallingLLM):
    """A language model served by OpenVINO Model Server: chat, completion, tools, structured output.

    Example:
        ```python
        llm = OpenVINOLLM(base_url="https://qwen.apps.example.com/v3", model="qwen3-8b", context_window=32768)
        Settings.llm = llm
        llm.chat([ChatMessage("Why is the sky blue?")])
        ```

    `complete` sends a chat of one user message; with `is_chat_model=False` both `chat` and `complete` go to the
    text-completion endpoint. The server does not tell a context window: give `context_window`.

    Tools need a server with a `--tool_parser`. Structured prediction has the server hold the answer to the JSON Schema.
    At most four stop texts can be given; they are never part of an answer. Log-probabilities come with whole answers
    only. A parameter that has no field here goes into `additional_kwargs` or into a single call; a name the server does
    not have is an error. `extra_body` is not checked.
    """

    min_p: float | None = Field(default=None, description="Leave out tokens less likely than this, of the likeliest.")
    frequency_penalty: float | None = Field(default=None, description="Lowers tokens by how often they occurred.")
    presence_penalty: float | None = Field(default=None, description="Lowers tokens that occurred.")
    repetition_penalty: float | None = Field(default=None, description="Above 1 lowers tokens seen so far.")
    n: int | None = Field(default=None, description="Answers per request; the first is shown, `raw` has all.")
    best_of: int | None = Field(default=None, description="Search this many beams instead of sampling.")
    length_penalty: float | None = Field(default=None, description="For beam search.")
    include_stop_str_in_output: bool | None = Field(default=None, description="Keep the stop text in the answer.")
    ignore_eos: bool | None = Field(default=None, description="Go on past the model's own end.")
    skip_special_tokens: bool | None = Field(default=None, description="Leave special tokens out of the text.")
    logprobs: bool | None = Field(default=None, description="Return the log-probability of each token.")
    chat_template_kwargs: dict[str, Any] | None = Field(
        default=None, description="Variables of the chat template, for example `{'enable_thinking': False}`."
    )
    num_assistant_tokens: int | None = Field(
        default=None, description="Tokens a draft model suggests before they are checked, where the server has one."
    )
    assistant_confidence_threshold: float | None = Field(
        default=None, description="The same by confidence: the draft model goes on while it is above this."
    )
    max_ngram_size: int | None = Field(
        default=None, description="The longest piece of the prompt that prompt lookup searches for."
    )

    _runtime_name: ClassVar[str] = "OpenVINO"
    _media: ClassVar[Media] = frozenset({"image"})
    _sampling: ClassVar[tuple[str, ...]] = (
        *KServeLLM._sampling,
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "n",
        "best_of",
        "length_penalty",
        "include_stop_str_in_output",
        "ignore_eos",
        "skip_special_tokens",
        "logprobs",
        "chat_template_kwargs",
        "num_assistant_tokens",
        "assistant_confidence_threshold",
        "max_ngram_size",
    )

    @classmethod
    def class_name(cls) -> str:
        """The name this class has in dumps and events."""
        return "KServe_OpenVINOLLM"

    def _make_runtime(self, endpoint: Endpoint) -> Any:
        from kserve_core.runtimes.openvino import OpenVINORuntime

        return OpenVINORuntime(base_path=endpoint.base_path, model=self.model)

    def _output_mode(self) -> OutputMode | None:
        mode = super()._output_mode()
        auto = mode == "json_schema" and self.structured_output_mode == "auto"
        return "text" if auto and not self.is_chat_model else mode  # a completion cannot be held to a form

    def _limit_length(self, params: dict[str, Any]) -> None:
        """Left to the server, which ends a completion where the model does."""
