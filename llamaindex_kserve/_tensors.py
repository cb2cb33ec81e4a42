"""What every class of this package says about the runtimes of the Open Inference Protocol (V2).

Models of these servers take and give tensors. Their metadata says which, and everything here that is left out is
decided by it.
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer

from kserve_core.endpoint import Endpoint
from llamaindex_kserve._connection import ConnectionMixin

Pooling = Literal["mean", "cls", "last", "none"] | None

SERVER = "`kserve` for a server made with KServe's Python SDK."
API = (
    "`v3` for a model in a graph, `v2` for one that takes tensors. Left out, the end of `base_url`, gRPC or an option "
    "for tensors says it, else the server is asked once."
)


def _as_path(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _written_down(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _written_down(item) for name, item in value.items()}
    tolist = getattr(value, "tolist", None)
    return tolist() if callable(tolist) else value


if TYPE_CHECKING:
    PathField = str | os.PathLike[str] | None
    ValuesField = Mapping[str, Any]
else:
    PathField = Annotated[str | None, BeforeValidator(_as_path)]
    ValuesField = Annotated[Mapping[str, Any], PlainSerializer(_written_down)]


class TensorConnection(ConnectionMixin):
    """Reaches a server of the Open Inference Protocol over REST or gRPC, with equal answers; each has its own port."""

    model_config = ConfigDict(protected_namespaces=("pydantic_model_",))

    model_version: str | int | None = Field(
        default=None, description="The model's version; the server's choice, mostly the latest, when left out."
    )
    input_name: str | None = Field(
        default=None, description="The model's input that takes the text (of a reranker: the documents)."
    )
    output_name: str | None = Field(default=None, description="The model's output that has the answer.")
    tokenizer: PathField = Field(
        default=None,
        description=(
            "Path of the model's `tokenizer.json`, for models that take token ids, and to count tokens. A name is "
            "never looked up. Needs `kserve-integrations[tokenizers]`."
        ),
    )
    extra_inputs: ValuesField = Field(
        default_factory=dict,
        description="Further inputs by name: texts, numbers, lists or arrays. One value serves for every text.",
    )
    parameters: ValuesField = Field(default_factory=dict, description="Request parameters sent with every request.")

    _runtime_key: ClassVar[str] = ""
    """The runtime's name in the core's registry."""
    _protocols: ClassVar[tuple[str, ...]] = ("rest", "grpc")
    _options: ClassVar[tuple[str, ...]] = (
        "model_version",
        "input_name",
        "output_name",
        "tokenizer",
        "extra_inputs",
        "parameters",
    )
    _runtime_fields: ClassVar[tuple[str, ...]] = _options

    def _make_runtime(self, endpoint: Endpoint) -> Any:
        from kserve_core.runtimes.registry import get_runtime

        return get_runtime(self._runtime_key).create(
            base_path=endpoint.base_path,
            model=getattr(self, "model", None),
            protocol=self.protocol,
            **self._runtime_options(),
        )

    def _runtime_options(self) -> dict[str, Any]:
        """What the codec is made from besides."""
        return {name: getattr(self, name) for name in self._runtime_fields}
