"""LLM classes, one per runtime: what each says about itself. How they work is in the base classes."""

from typing import Any, ClassVar

from pydantic import Field

from kserve_core.endpoint import Endpoint
from llamaindex_kserve._base_llm import KServeLLM
from llamaindex_kserve._messages import ALL_MEDIA, Media
from llamaindex_kserve._tools import KServeFunctionCallingLLM

__all__ = ["VLLM", "KServeFunctionCallingLLM", "KServeLLM"]


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
    chat_template: str | None = Field(default=None, description="A Jinja template to use instead of the model's own.")
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
