"""Instances made from a service's name, and which class is for which runtime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from typing_extensions import Self

from kserve_core.discovery.making import MadeFromService
from langchain_kserve._errors import translated

if TYPE_CHECKING:
    from kserve_core.client import RuntimeClient
    from kserve_core.discovery.adoption import Origin
    from kserve_core.discovery.facts import Discovery
    from kserve_core.discovery.families import Family
    from kserve_core.endpoint import Endpoint

_PACKAGE = "langchain_kserve"
_CHAT = {
    "vllm": "ChatVLLM",
    "caikit": "ChatCaikit",
    "tgis": "ChatTGIS",
    "triton": "ChatTriton",
    "mlserver": "ChatMLServer",
    "openvino": "ChatOpenVINO",
}
_TEXT = {
    "vllm": "VLLM",
    "caikit": "CaikitLLM",
    "tgis": "TGISLLM",
    "triton": "TritonLLM",
    "mlserver": "MLServerLLM",
    "openvino": "OpenVINOLLM",
}
_EMBEDDINGS = {
    "vllm": "VLLMEmbeddings",
    "caikit": "CaikitEmbeddings",
    "triton": "TritonEmbeddings",
    "mlserver": "MLServerEmbeddings",
    "openvino": "OpenVINOEmbeddings",
    "kserve": "MLServerEmbeddings",
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
    from langchain_kserve._connection import KServeConnection

    rows = (
        ("chat_model", "conversations", _CHAT),
        ("llm", "text completion", _TEXT),
        ("embeddings", "embeddings", _EMBEDDINGS),
        ("reranker", "reranking", _RERANK),
    )
    return {
        name: Family(package=_PACKAGE, factory=name, task=task, classes=classes, aliases=KServeConnection._aliases)
        for name, task, classes in rows
    }


class Discoverable(MadeFromService):
    """Instances made by asking a cluster, and what it said."""

    if TYPE_CHECKING:
        _aliases: ClassVar[Mapping[str, str]]
        _origin: Origin
        _slot: Any

        def _get_client(self) -> RuntimeClient[Any]: ...
        def _make_endpoint(self) -> Endpoint: ...

    def describe(self) -> str:
        """The endpoint as text for people: what the cluster said, if it was asked, and the terms. Never a token."""
        return self._get_client().endpoint.describe()

    @property
    def discovered(self) -> Discovery | None:
        """What the cluster said, if this came from `from_inference_service`; dumps do not have it, pickles do."""
        return self._get_client().endpoint.discovered

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():  # type: ignore[misc]
            yield name, _short(value) if name == "ca_cert" else value

    @classmethod
    def takes(cls, name: str) -> bool:
        """Whether the constructor has an argument of this name."""
        fields = _fields(cls)
        return name in fields or cls._aliases.get(name) in fields

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
        made = cls(**{**given, **learned_fields(endpoint, given, cluster_token=cluster_token)})
        made._origin = Origin.of(endpoint)
        made._slot.endpoint = made._make_endpoint()
        window = context_window(endpoint)
        if window is not None and "profile" in _fields(cls):
            profile = getattr(made, "profile", None) or {}
            made.profile = {"max_input_tokens": window, **profile}  # type: ignore[attr-defined]
        return made

    @classmethod
    def _spoken(cls) -> Sequence[str]:
        return list(cls._declaration.codecs)  # type: ignore[attr-defined]

    @classmethod
    def _families(cls) -> Mapping[str, Family]:
        return families()

    @classmethod
    def _within(cls) -> AbstractContextManager[None]:
        return translated


def _fields(cls: Any) -> Mapping[str, Any]:
    fields: Mapping[str, Any] = cls.model_fields
    return fields


def _short(value: Any) -> Any:
    """Certificates as their paths, and those that are given as text in two words."""
    if isinstance(value, (list, tuple)):
        return [_short(item) for item in value]
    return "<PEM text>" if isinstance(value, str) and "-----BEGIN" in value else value
