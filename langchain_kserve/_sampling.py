"""What every text and chat class takes, as constructor fields: parameters, and what else there is to a request.

Parameters are sent only when they are set.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, Field

from langchain_kserve._runtimes import Declaration


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Texts = Annotated[list[str] | None, BeforeValidator(_as_list)]
"""A list of texts; one text is a list of it."""


class SamplingFields(BaseModel):
    """What every runtime understands. Each runtime adds what it understands beyond that, and nothing else."""

    temperature: float | None = None
    """How random the choice of tokens is; 0 always takes the likeliest."""

    max_tokens: int | None = None
    """Most tokens to generate for one answer.

    Servers have a small default for text completion (vLLM's is 16, Caikit's and the classic TGIS server's 20).
    """

    top_p: float | None = None
    """Choose among the likeliest tokens that together have this probability."""

    top_k: int | None = None
    """Choose among this many of the likeliest tokens."""

    stop: Texts = None
    """Texts that end the answer. `stop` of a call goes before it."""

    seed: int | None = None
    """Makes sampling repeatable, as far as the server can."""

    repetition_penalty: float | None = None
    """Divides the score of tokens that were used, in the prompt too; 1 changes nothing."""

    @classmethod
    def parameter_names(cls) -> frozenset[str]:
        """The names of these fields."""
        return frozenset(cls.model_fields)


class PromptFields(SamplingFields):
    """What the runtimes that take sampling parameters one by one have in common beyond that."""

    min_tokens: int | None = None
    """Fewest tokens to generate for one answer."""

    include_stop_str_in_output: bool | None = None
    """Whether the text keeps the stop text that ended it."""

    truncate_prompt_tokens: int | None = None
    """Keep only this many of the prompt's last tokens."""


class RequestFields(BaseModel):
    """The fields of a request that are no parameters, and what is set of the parameters."""

    model: str | None = None
    """The model's name on the server. May be left out when the endpoint serves one model."""

    model_kwargs: Mapping[str, Any] = Field(default_factory=dict)
    """Parameters of the runtime that have no field here, by name."""

    extra_body: Mapping[str, Any] = Field(default_factory=dict)
    """Fields sent as they are, over everything else; for what this package does not know."""

    stream_usage: bool = True
    """Whether to ask for token counts at the end of a stream."""

    _declaration: ClassVar[Declaration]
    _parameters: ClassVar[type[SamplingFields]] = SamplingFields
    """The class that has the runtime's parameters as fields; the model joins it."""

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """LangChain may write it down (`dumps`) and make it again."""
        return True

    def _own_parameters(self) -> dict[str, Any]:
        """The parameters that are set, in one order whatever order they were set in."""
        values = self.__dict__
        names = sorted(self._parameters.parameter_names())
        return {**self.model_kwargs, **{name: values[name] for name in names if values[name] is not None}}
