"""What vLLM understands, as constructor fields."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SkipValidation

from kserve_core.chat_template import ChatTemplate
from langchain_kserve._sampling import PromptFields


class _VLLMFields(PromptFields):
    n: int | None = Field(default=None, ge=1)
    """Answers to make of one prompt; all of them are in `generate`'s result. Streams carry one answer only."""

    frequency_penalty: float | None = None
    """Lowers a token's chance by how often it was used."""

    presence_penalty: float | None = None
    """Lowers a token's chance once it was used."""

    length_penalty: float | None = None
    """With `use_beam_search`, favors longer (above 1) or shorter answers."""

    min_p: float | None = None
    """Choose among tokens at least this likely, relative to the likeliest."""

    stop_token_ids: list[int] | None = None
    """Ids of tokens that end the answer."""

    ignore_eos: bool | None = None
    """Whether to go on after the end-of-text token, up to `max_tokens`."""

    logit_bias: Mapping[str | int, float] | None = None
    """Added to the scores of tokens, by token id."""

    allowed_token_ids: list[int] | None = None
    """The only tokens that may be generated."""

    bad_words: Sequence[str] | None = None
    """Words that may not be generated."""

    use_beam_search: bool | None = None
    """Searches `n` beams instead of sampling."""

    truncate_prompt_tokens: int | None = None
    """Keep only this many of the prompt's last tokens; -1 for as many as the model takes."""

    skip_special_tokens: bool | None = None
    """Whether special tokens are left out of the text."""

    priority: int | None = None
    """Lower is served earlier, on a server that schedules by priority."""

    user: str | None = None
    """Names the end user to the server."""


class VLLMChatFields(_VLLMFields):
    """What vLLM understands in chat."""

    logprobs: bool | None = None
    """Whether to return the tokens' log-probabilities, in `response_metadata["logprobs"]`."""

    top_logprobs: int | None = None
    """How many alternatives to return with each log-probability; needs `logprobs`."""

    chat_template: SkipValidation[str | Path | ChatTemplate | None] = None
    """A chat template to use instead of the model's own, for models that have none.

    Jinja text is sent along with the conversation; where the server takes no templates from requests
    (`--trust-request-chat-template`), and with the name of a built-in format (`chatml`, `llama3`, `mistral`, ...) or
    the path of a Jinja file or of a `tokenizer_config.json`, the conversation is written as a prompt here and completed
    as text. It then has no tools and no images, and `max_tokens` is 16 unless it is set.
    """

    chat_template_kwargs: Mapping[str, Any] | None = None
    """Passed to the chat template, for example `{"enable_thinking": False}`."""

    add_generation_prompt: bool | None = None
    """Whether the template opens the assistant's turn; False to continue the last message."""

    continue_final_message: bool | None = None
    """Whether the answer continues the last message; needs `add_generation_prompt=False`."""

    reasoning_effort: str | None = None
    """How much to reason (`low`, `medium`, `high`), for models that can be told."""

    include_reasoning: bool | None = None
    """Whether the server returns the reasoning."""

    thinking_token_budget: int | None = None
    """Most tokens to spend on reasoning, for servers that can limit it."""

    mm_processor_kwargs: Mapping[str, Any] | None = None
    """Passed to the processor of images, audio and video."""


class VLLMTextFields(_VLLMFields):
    """What vLLM understands in text completion."""

    logprobs: bool | int | None = None
    """Log-probabilities of the tokens, in `generation_info["logprobs"]`; a number asks for that many alternatives."""

    prompt_logprobs: int | None = None
    """Log-probabilities of the prompt's tokens with this many alternatives, in `generation_info`."""

    truncation_side: Literal["left", "right"] | None = None
    """Which end of the prompt `truncate_prompt_tokens` cuts off."""

    add_special_tokens: bool | None = None
    """Whether the tokenizer adds its special tokens to the prompt."""

    spaces_between_special_tokens: bool | None = None
    """Whether special tokens in the text are parted by spaces."""

    echo: bool | None = None
    """Whether the text begins with the prompt."""

    suffix: str | None = None
    """What follows the text that is to be filled in, for models trained for it."""

    return_token_ids: bool | None = None
    """Whether `generation_info` has the ids of the tokens."""
