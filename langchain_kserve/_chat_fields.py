"""The parameters of chat, as constructor fields; each is sent only when it is set."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[str] | None, BeforeValidator(_as_list)]


class ChatFields(BaseModel):
    """What most chat runtimes understand. A runtime that does not honor one refuses it; none is dropped."""

    temperature: float | None = None
    """How random the choice of tokens is; 0 always takes the likeliest."""

    max_tokens: int | None = None
    """Most tokens to generate for one answer."""

    top_p: float | None = None
    """Choose among the likeliest tokens that together have this probability."""

    top_k: int | None = None
    """Choose among this many of the likeliest tokens."""

    stop: Texts = None
    """Texts that end the answer. `stop` of a call goes before it."""

    seed: int | None = None
    """Makes sampling repeatable, as far as the server can."""

    n: int | None = None
    """Answers to make; all of them are in `generate`'s result. Streams carry one answer only."""

    frequency_penalty: float | None = None
    """Lowers a token's chance by how often it was used."""

    presence_penalty: float | None = None
    """Lowers a token's chance once it was used."""

    repetition_penalty: float | None = None
    """Divides the score of tokens that were used, in the prompt too; 1 changes nothing."""

    logprobs: bool | None = None
    """Whether to return the tokens' log-probabilities, in `response_metadata["logprobs"]`."""

    top_logprobs: int | None = None
    """How many alternatives to return with each log-probability; needs `logprobs`."""

    @classmethod
    def parameter_names(cls) -> frozenset[str]:
        """The names of these fields."""
        return frozenset(cls.model_fields)


class VLLMChatFields(ChatFields):
    """What vLLM understands beyond that."""

    min_p: float | None = None
    """Choose among tokens at least this likely, relative to the likeliest."""

    min_tokens: int | None = None
    """Fewest tokens to generate for one answer."""

    stop_token_ids: list[int] | None = None
    """Ids of tokens that end the answer."""

    include_stop_str_in_output: bool | None = None
    """Whether the text keeps the stop text that ended it."""

    ignore_eos: bool | None = None
    """Whether to go on after the end-of-text token, up to `max_tokens`."""

    logit_bias: Mapping[str, float] | None = None
    """Added to the scores of tokens, by token id."""

    allowed_token_ids: list[int] | None = None
    """The only tokens that may be generated."""

    bad_words: list[str] | None = None
    """Words that may not be generated."""

    length_penalty: float | None = None
    """With `use_beam_search`, favors longer (above 1) or shorter answers."""

    use_beam_search: bool | None = None
    """Searches `n` beams instead of sampling."""

    truncate_prompt_tokens: int | None = None
    """Keep only this many of the prompt's last tokens; -1 for as many as the model takes."""

    skip_special_tokens: bool | None = None
    """Whether special tokens are left out of the text."""

    chat_template: str | None = None
    """A Jinja template to use instead of the model's own, where the server allows it."""

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

    priority: int | None = None
    """Lower is served earlier, on a server that schedules by priority."""

    user: str | None = None
    """Names the end user to the server."""
