"""What TGIS understands, as constructor fields."""

from collections.abc import Mapping
from typing import Any, Literal

from langchain_kserve._sampling import PromptFields


class _TGISFields(PromptFields):
    typical_p: float | None = None
    """Choose among tokens that are about as likely as expected, up to this probability together; classic server."""

    decoding_method: Literal["greedy", "sample"] | None = None
    """Whether to sample. Left out, it follows from the parameters: any of sampling's own asks for it."""

    length_penalty: Mapping[str, Any] | tuple[int, float] | None = None
    """`{"start_index": tokens, "decay_factor": 1 to 10}`: from that token on the end becomes ever likelier; classic
    server."""

    time_limit: float | None = None
    """Seconds after which the server ends the answer as it is."""

    prompt_logprobs: int | None = None
    """Log-probabilities of the prompt's tokens with this many alternatives (at most 10)."""

    adapter_id: str | None = None
    """The adapter (LoRA, prompt tuning) to answer with."""

    prefix_id: str | None = None
    """The classic server's prompt prefix to answer with."""


class TGISTextFields(_TGISFields):
    """What TGIS understands in text generation. It decodes greedily unless something here asks for sampling."""

    logprobs: bool | int | None = None
    """Log-probabilities of the tokens, in `generation_info["logprobs"]`; a number (at most 10) asks for that many
    alternatives."""

    echo: bool | None = None
    """Whether the text begins with the prompt."""


class TGISChatFields(_TGISFields):
    """The same for chat."""

    logprobs: bool | None = None
    """Whether to return the tokens' log-probabilities, in `response_metadata["logprobs"]`."""

    top_logprobs: int | None = None
    """How many alternatives to return with each log-probability (at most 10); needs `logprobs`."""
