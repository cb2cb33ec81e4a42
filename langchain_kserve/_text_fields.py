"""The parameters of text completion, as constructor fields; each is sent only when it is set."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[str] | None, BeforeValidator(_as_list)]


class TextFields(BaseModel):
    """What most runtimes understand. A runtime that does not honour one refuses it; none is dropped."""

    temperature: float | None = None
    """How random the choice of tokens is; 0 always takes the likeliest."""

    max_tokens: int | None = None
    """Most tokens to generate for one prompt. Servers have a small default for text completion (vLLM's is 16)."""

    min_tokens: int | None = None
    """Fewest tokens to generate for one prompt."""

    top_p: float | None = None
    """Choose among the likeliest tokens that together have this probability."""

    top_k: int | None = None
    """Choose among this many of the likeliest tokens."""

    stop: Texts = None
    """Texts that end the answer. `stop` of a call goes before it."""

    seed: int | None = None
    """Makes sampling repeatable, as far as the server can."""

    n: int | None = Field(default=None, ge=1)
    """Completions to make of each prompt; all of them are in `generate`'s result."""

    frequency_penalty: float | None = None
    """Lowers a token's chance by how often it was used."""

    presence_penalty: float | None = None
    """Lowers a token's chance once it was used."""

    repetition_penalty: float | None = None
    """Divides the score of tokens that were used, in the prompt too; 1 changes nothing."""

    length_penalty: float | None = None
    """Favors longer (above 1) or shorter answers, where the runtime has such a thing."""

    logprobs: bool | int | None = None
    """Log-probabilities of the tokens, in `generation_info["logprobs"]`; a number asks for that many alternatives."""

    @classmethod
    def parameter_names(cls) -> frozenset[str]:
        """The names of these fields."""
        return frozenset(cls.model_fields)


class VLLMTextFields(TextFields):
    """What vLLM understands beyond that."""

    min_p: float | None = None
    """Choose among tokens at least this likely, relative to the likeliest."""

    stop_token_ids: list[int] | None = None
    """Ids of tokens that end the answer."""

    include_stop_str_in_output: bool | None = None
    """Whether the text keeps the stop text that ended it."""

    ignore_eos: bool | None = None
    """Whether to go on after the end-of-text token, up to `max_tokens`."""

    logit_bias: Mapping[str | int, float] | None = None
    """Added to the scores of tokens, by token id."""

    allowed_token_ids: list[int] | None = None
    """The only tokens that may be generated."""

    bad_words: Sequence[str] | None = None
    """Words that may not be generated."""

    prompt_logprobs: int | None = None
    """Log-probabilities of the prompt's tokens with this many alternatives, in `generation_info`."""

    truncate_prompt_tokens: int | None = None
    """Keep only this many of the prompt's last tokens; -1 for as many as the model takes."""

    truncation_side: Literal["left", "right"] | None = None
    """Which end of the prompt `truncate_prompt_tokens` cuts off."""

    add_special_tokens: bool | None = None
    """Whether the tokenizer adds its special tokens to the prompt."""

    skip_special_tokens: bool | None = None
    """Whether special tokens are left out of the text."""

    spaces_between_special_tokens: bool | None = None
    """Whether special tokens in the text are parted by spaces."""

    echo: bool | None = None
    """Whether the text begins with the prompt."""

    suffix: str | None = None
    """What follows the text that is to be filled in, for models trained for it."""

    return_token_ids: bool | None = None
    """Whether `generation_info` has the ids of the tokens."""

    use_beam_search: bool | None = None
    """Searches `n` beams instead of sampling."""

    priority: int | None = None
    """Lower is served earlier, on a server that schedules by priority."""

    user: str | None = None
    """Names the end user to the server."""
