"""Instances made from a service's name, and which class is for which runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from kserve_core.discovery.making import MadeFromService

if TYPE_CHECKING:
    from kserve_core.discovery.adoption import Origin
    from kserve_core.discovery.facts import Discovery
    from kserve_core.discovery.families import Family
    from kserve_core.endpoint import Endpoint

_PACKAGE = "llamaindex_kserve"
_LLM = {
    "vllm": "VLLM",
    "caikit": "CaikitLLM",
    "tgis": "TGISLLM",
    "triton": "TritonLLM",
    "mlserver": "MLServerLLM",
    "openvino": "OpenVINOLLM",
}
_EMBEDDING = {
    "vllm": "VLLMEmbedding",
    "caikit": "CaikitEmbedding",
    "triton": "TritonEmbedding",
    "mlserver": "MLServerEmbedding",
    "openvino": "OpenVINOEmbedding",
    "kserve": "MLServerEmbedding",
}
_RERANK = {
    "vllm": "VLLMRerank",
    "caikit": "CaikitRerank",
    "triton": "TritonRerank",
    "mlserver": "MLServerRerank",
    "openvino": "OpenVINORerank",
    "kserve": "MLServerRerank",
}


def families() -> dict[str, Family]:
    """The classes of this package, by the name of the factory that chooses among them."""
    from kserve_core.discovery.families import Family
    from llamaindex_kserve._connection import _OTHER_NAMES

    rows = (
        ("llm", "generating text", _LLM),
        ("embedding", "embeddings", _EMBEDDING),
        ("reranker", "reranking", _RERANK),
    )
    return {
        name: Family(package=_PACKAGE, factory=name, task=task, classes=classes, aliases=_OTHER_NAMES)
        for name, task, classes in rows
    }


class Discoverable(MadeFromService):
    """Instances made by asking a cluster, and what it said."""

    if TYPE_CHECKING:
        _origin: Origin
        _cell: Any
        _protocols: ClassVar[tuple[str, ...]]

        @property
        def endpoint(self) -> Endpoint: ...
        def _make_endpoint(self) -> Endpoint: ...

    def describe(self) -> str:
        """The endpoint as text for people: what the cluster said, if it was asked, and the terms. Never a token."""
        return self.endpoint.describe()

    @property
    def discovered(self) -> Discovery | None:
        """What the cluster said, if this came from `from_inference_service`; dumps do not have it, pickles do."""
        return self.endpoint.discovered

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether the constructor has an argument of this name."""
        from llamaindex_kserve._connection import _OTHER_NAMES

        fields = _fields(cls)
        return name in fields or name in _OTHER_NAMES or any(name == info.alias for info in fields.values())

    @classmethod
    def adopt(cls, endpoint: Endpoint, fields: Mapping[str, Any], *, cluster_token: bool = False) -> Self:
        """Makes an instance for an endpoint that was discovered; nothing is asked.

        Args:
            endpoint: The endpoint.
            fields: Fields of this class, which win over what was discovered.
            cluster_token: Whether the endpoint's token is the cluster's.
        """
        from kserve_core.discovery.adoption import Origin, context_window, learned_fields

        given = dict(fields)
        cls._rename(given)
        learned = learned_fields(endpoint, given, cluster_token=cluster_token)
        window = context_window(endpoint)
        if window is not None and "context_window" in _fields(cls) and given.get("context_window") is None:
            learned["context_window"] = window
        made = cls(**{**given, **learned})
        made._origin = Origin.of(endpoint)
        made._cell.endpoint = made._make_endpoint()
        return made

    @classmethod
    def _spoken(cls) -> Sequence[str]:
        return cls._protocols

    @classmethod
    def _families(cls) -> Mapping[str, Family]:
        return families()


def _fields(cls: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = cls.model_fields
    return fields
