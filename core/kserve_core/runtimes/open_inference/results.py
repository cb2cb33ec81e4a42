"""A model's answers as a caller gets them, whole or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from kserve_core.names import listed
from kserve_core.runtimes.open_inference.bodies import result_of
from kserve_core.runtimes.open_inference.dialects import Dialect
from kserve_core.runtimes.open_inference.errors import Asked, stream_failure
from kserve_core.runtimes.open_inference.streams import ASK_FINAL, EventStream, MessageStream
from kserve_core.runtimes.open_inference.values import InferRequest, InferResult
from kserve_core.tensors import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")


class InferenceResult(Mapping[str, "NDArray[Any]"]):
    """A model's outputs by name, as numpy arrays (BYTES as arrays of `bytes`, BF16 as float32).

    Attributes:
        tensors: The outputs as they came, by name: datatype, shape, texts.
        model: The model's name as the server wrote it.
        version: The version that answered, or None.
        id: The request's id, as far as the server tells.
        parameters: Parameters of the answer.
    """

    __slots__ = ("id", "model", "parameters", "tensors", "version")

    def __init__(self, result: InferResult) -> None:
        self.tensors: Mapping[str, Tensor] = result.outputs
        self.model = result.model
        self.version = result.version
        self.id = result.id
        self.parameters = result.parameters

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._tensor(name).numpy()

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    def __eq__(self, other: object) -> bool:
        return self is other  # arrays cannot be compared as mappings compare their values

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"InferenceResult({', '.join(map(repr, self.tensors.values()))})"

    def texts(self, name: str) -> list[str]:
        """A BYTES output as texts, row by row.

        Raises:
            KeyError: If there is no such output.
            BadResponseError: If it holds numbers.
        """
        return self._tensor(name).texts()

    def _tensor(self, name: str) -> Tensor:
        try:
            return self.tensors[name]
        except KeyError:
            msg = f"{name!r}; the answer has {listed(tuple(self.tensors))}"
            raise KeyError(msg) from None


class Each(Generic[T]):
    """Takes the results of a stream and gives each out.

    Args:
        make: Turns a result into what is given out.
    """

    finished = False
    partial_text = ""

    def __init__(self, make: Callable[[InferResult], T]) -> None:
        self._make = make

    def take(self, result: InferResult) -> Sequence[T]:
        """See `streams.Pieces.take`."""
        return [self._make(result)]

    def end(self) -> Sequence[T]:
        """See `streams.Pieces.end`."""
        return ()


def results_decoder(
    request: InferRequest, make: Callable[[InferResult], T], dialect: Dialect, protocol: str
) -> Callable[[], Any]:
    """What makes the decoder of a stream of results.

    Args:
        request: What was asked.
        make: Turns a result into what is given out.
        dialect: The server's ways.
        protocol: `rest` or `grpc`.
    """
    fail = partial(stream_failure, Asked(dialect, "stream", request.model, request.version))
    if protocol == "rest":
        return partial(_events, make, fail)
    marked = request.parameters.get(ASK_FINAL) is not False
    return partial(_messages, make, fail, wrapped=dialect.wrapped_stream, marked=marked)


def _events(make: Callable[[InferResult], T], fail: Any) -> EventStream[T]:
    return EventStream(Each(make), result_of, fail, log=True)


def _messages(make: Callable[[InferResult], T], fail: Any, *, wrapped: bool, marked: bool) -> MessageStream[T]:
    from kserve_core.runtimes.open_inference.grpc import read_infer_message

    return MessageStream(Each(make), read_infer_message, fail, wrapped=wrapped, marked=marked)
