"""What Caikit understands, as constructor fields."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel

from langchain_kserve._sampling import PromptFields


class CaikitFields(PromptFields):
    """What Caikit understands in text generation. It decodes greedily unless something here asks for sampling."""

    typical_p: float | None = None
    """Choose among tokens that are about as likely as expected, up to this probability together."""

    decoding_method: Literal["GREEDY", "SAMPLING"] | None = None
    """Whether to sample. Left out, it follows from the parameters: any of sampling's own asks for it."""

    length_penalty: Mapping[str, Any] | tuple[int, float] | None = None
    """`{"start_index": tokens, "decay_factor": 1 to 10}`: from that token on the end becomes ever likelier."""

    time_limit: float | None = None
    """Seconds after which the server ends the answer as it is."""

    logprobs: bool | None = None
    """Whether to return the tokens' log-probabilities; needs TGIS behind the server."""

    prompt_logprobs: bool | None = None
    """The same for the prompt's tokens."""


class CaikitConnection(BaseModel):
    """What every Caikit class takes to reach the server."""

    route_prefix: str = "api/v1"
    """What the server puts in front of its tasks (`runtime.http.route_prefix`); REST only."""
