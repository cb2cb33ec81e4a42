"""Telling requests with work in them from those that only ask about a model, as some runtimes' classes do first."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kserve_core.devserver.log import RequestRecord

_QUESTIONS = frozenset(
    {
        *("ModelMetadata", "ModelConfig", "ModelReady", "ServerReady", "ServerLive", "ServerMetadata"),
        *("RepositoryIndex", "GetModelsInfo", "Check"),
    }
)


def work(requests: Iterable[RequestRecord]) -> list[RequestRecord]:
    """The requests that carry texts."""
    return [
        record
        for record in requests
        if record.method != "GET"
        and record.path.rpartition("/")[2] not in _QUESTIONS
        and not record.path.endswith("/repository/index")
    ]


def answered(requests: Iterable[RequestRecord]) -> list[RequestRecord]:
    """Those that were answered with success, over HTTP or gRPC."""
    return [record for record in requests if record.status in {0, 200}]


def refused(requests: Iterable[RequestRecord]) -> list[RequestRecord]:
    """Those that were not."""
    return [record for record in requests if record.status not in {0, 200}]
