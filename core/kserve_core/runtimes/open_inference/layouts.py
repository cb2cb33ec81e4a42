"""The shapes that a model's declared dimensions give to texts: how many fit, and what is sent when they are fewer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.values import ModelMetadata, TensorSpec

T = TypeVar("T")

TEXT = "BYTES"
MAX_ROWS = 65_536
"""The largest fixed batch that is filled up with copies; what declares a larger one is mistaken, or means harm."""
MAX_TOKENS = 1 << 26
"""The same for the numbers of one tensor of token ids."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How texts lie in a tensor.

    Attributes:
        rank: Number of dimensions.
        rows: How many rows the model takes, no more and no fewer; None for any number.
        columns: Texts in a row: 1, 2 for pairs, or None where all of them lie in one row.
    """

    rank: int = 1
    rows: int | None = None
    columns: int | None = 1

    def __post_init__(self) -> None:
        check_fixed(self.rows, 1)

    @property
    def limit(self) -> int | None:
        """Most texts (or pairs) of one request; None for no limit."""
        return None if self.columns is None else self.rows

    def shape(self, count: int) -> tuple[int, ...]:
        """The tensor's shape for so many texts or pairs, padding included."""
        if self.columns is None:
            return (1, count)
        return (self.padded(count), self.columns, *(1,) * (self.rank - 2))[: self.rank]

    def padded(self, count: int) -> int:
        """How many rows are sent for so many."""
        return count if self.rows is None or self.columns is None else max(self.rows, count)

    def filled(self, items: Sequence[T]) -> Sequence[T]:
        """The items, the last one repeated until there are as many as the model takes."""
        missing = self.padded(len(items)) - len(items)
        return [*items, *[items[-1]] * missing] if missing else items


def check_fixed(rows: int | None, length: int | None) -> None:
    """Refuses fixed sizes that nobody could fill up.

    Raises:
        ConfigurationError: If a model declares such.
    """
    if (rows or 1) > MAX_ROWS or (rows or 1) * (length or 1) > MAX_TOKENS:
        msg = f"The model declares an input of {rows or 1} rows of {length or 1}, which is more than can be filled up."
        raise ConfigurationError(msg, hint="Declare the dimension as -1 in the model's configuration.")


def text_layout(spec: TensorSpec | None, dialect: Dialect) -> Layout:
    """The layout of a text input; of one that is not declared, the server's usual one.

    Raises:
        ConfigurationError: If the declared shape has no place for a list of texts.
    """
    if spec is None or not spec.shape:
        return Layout(2 if dialect.text_column else 1)
    if any(dim not in {-1, 1} for dim in spec.shape[1:]):
        msg = f"The input {described(spec)} does not take single texts."
        raise ConfigurationError(msg, hint="Name another one as input_name.")
    first = spec.shape[0]
    return Layout(len(spec.shape), first if first > 0 else None)  # none takes 0 of them


def described(spec: TensorSpec) -> str:
    """An input or output as errors show it."""
    dims = ", ".join(map(str, spec.shape))
    return f"{spec.name!r} ({spec.datatype} [{dims}])"


def declared(specs: Sequence[TensorSpec]) -> str:
    """All inputs or outputs as errors show them."""
    return ", ".join(map(described, specs)) or "none"


def least(*limits: int | None) -> int | None:
    """The smallest limit; None where there is none."""
    known = [limit for limit in limits if limit is not None]
    return min(known) if known else None


def server_limit(metadata: ModelMetadata, batch_size: int | None) -> int | None:
    """Most rows of one request, by the user and by the model's configuration.

    A `max_batch_size` of 0 means that the server adds no batch dimension of its own, and says nothing about how many
    rows the model takes.
    """
    return least(metadata.max_batch_size or None, batch_size)
