"""What OpenVINO Model Server takes, as constructor fields."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, Field

from langchain_kserve._sampling import SamplingFields


class OpenVINOApi(BaseModel):
    """Which of the server's two APIs a model is served by."""

    api: Literal["v3", "v2"] | None = None
    """`v3` for a model in a graph (`--task embeddings`, `--task rerank`), `v2` for one that takes tensors. Left out,
    the end of `base_url`, gRPC or an option for tensors says it, else the server is asked once."""


class _OpenVINOFields(SamplingFields):
    n: int | None = Field(default=None, ge=1)
    """Answers to make of one prompt; all of them are in `generate`'s result. Streams carry one answer only."""

    min_p: float | None = None
    """Choose among tokens at least this likely, relative to the likeliest."""

    frequency_penalty: float | None = None
    """Lowers a token's chance by how often it was used."""

    presence_penalty: float | None = None
    """Lowers a token's chance once it was used."""

    best_of: int | None = None
    """Searches this many beams instead of sampling."""

    length_penalty: float | None = None
    """With `best_of`, favors longer (above 0) or shorter answers."""

    include_stop_str_in_output: bool | None = None
    """Whether the text keeps the stop text that ended it."""

    ignore_eos: bool | None = None
    """Whether to go on after the end-of-text token, up to `max_tokens`."""

    skip_special_tokens: bool | None = None
    """Whether special tokens are left out of the text."""

    logprobs: bool | None = None
    """Whether to return the tokens' log-probabilities; not in streams."""

    num_assistant_tokens: int | None = None
    """Tokens a draft model (or prompt lookup) suggests before they are checked, where the server has one."""

    assistant_confidence_threshold: float | None = None
    """The same by confidence: the draft model goes on while it is above this."""

    max_ngram_size: int | None = None
    """The longest piece of the prompt that prompt lookup searches for."""


class OpenVINOChatFields(_OpenVINOFields):
    """What OpenVINO Model Server understands in chat."""

    chat_template_kwargs: Mapping[str, Any] | None = None
    """Passed to the chat template, for example `{"enable_thinking": False}`."""


class OpenVINOTextFields(_OpenVINOFields):
    """What OpenVINO Model Server understands in text completion."""

    echo: bool | None = None
    """Whether the text begins with the prompt."""
