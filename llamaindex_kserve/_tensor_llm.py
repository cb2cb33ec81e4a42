"""The base class of LLMs whose models take text as tensors."""

from typing import Any, ClassVar

from llama_index.core.constants import DEFAULT_NUM_OUTPUTS
from pydantic import Field

from llamaindex_kserve._base_llm import KServeLLM
from llamaindex_kserve._tensors import TensorConnection
from llamaindex_kserve._text_llm import KServeTextLLM


class TensorLLM(TensorConnection, KServeTextLLM):
    """Completes text by a model that takes and gives tensors; use the class of your runtime."""

    min_tokens: int | None = Field(default=None, description="Tokens an answer must have at least.")
    min_p: float | None = Field(default=None, description="Leave out tokens less likely than this, of the likeliest.")
    typical_p: float | None = Field(default=None, description="Sample from the most typical tokens of this mass.")
    frequency_penalty: float | None = Field(default=None, description="Lowers tokens by how often they occurred.")
    presence_penalty: float | None = Field(default=None, description="Lowers tokens that occurred.")
    repetition_penalty: float | None = Field(default=None, description="Above 1 lowers tokens seen so far.")
    length_penalty: float | None = Field(default=None, description="For beam search.")
    n: int | None = Field(default=None, description="Answers per request; the first is shown, `raw` has all.")
    logit_bias: dict[int | str, float] | None = Field(default=None, description="Token id to an addition to its logit.")
    allowed_token_ids: list[int] | None = Field(default=None, description="Only these tokens may be generated.")
    bad_words: list[str] | None = Field(default=None, description="Words that must not be generated.")
    stop_token_ids: list[int] | None = Field(default=None, description="Tokens that end an answer.")
    include_stop_str_in_output: bool | None = Field(default=None, description="Keep the stop text in the answer.")
    ignore_eos: bool | None = Field(default=None, description="Go on past the model's own end.")
    skip_special_tokens: bool | None = Field(default=None, description="Leave special tokens out of the text.")
    truncate_prompt_tokens: int | None = Field(default=None, description="Keep this many of the prompt's last tokens.")
    lora_name: str | None = Field(default=None, description="The adapter to use, of the vLLM backend.")
    logprobs: bool | None = Field(default=None, description="Return the log-probability of each token.")
    top_logprobs: int | None = Field(default=None, description="Also return this many alternatives; with `logprobs`.")
    cumulative: bool | None = Field(
        default=None,
        description=(
            "Whether each piece of a stream repeats all text before it, as TensorRT-LLM models with "
            "`accumulate_tokens` do."
        ),
    )

    _runtime_fields: ClassVar[tuple[str, ...]] = (*TensorConnection._options, "cumulative")
    _sampling: ClassVar[tuple[str, ...]] = (
        *KServeLLM._sampling,
        "min_tokens",
        "min_p",
        "typical_p",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "length_penalty",
        "n",
        "logit_bias",
        "allowed_token_ids",
        "bad_words",
        "stop_token_ids",
        "include_stop_str_in_output",
        "ignore_eos",
        "skip_special_tokens",
        "truncate_prompt_tokens",
        "lora_name",
        "logprobs",
        "top_logprobs",
    )

    def _runtime_options(self) -> dict[str, Any]:
        return {**super()._runtime_options(), "default_max_tokens": DEFAULT_NUM_OUTPUTS}

    def _limit_length(self, params: dict[str, Any]) -> None:
        """The runtime does it, which knows whether the model can be told."""
