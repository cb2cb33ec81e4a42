"""What discovery can find that makes an endpoint useless from here."""

from __future__ import annotations

from typing import Any

from kserve_core.errors import ConfigurationError, ServerError


class ModelStoppedError(ServerError):
    """The service was stopped on purpose; waiting does not help."""

    retryable = False

    def __init__(self, message: str, **details: Any) -> None:
        details.setdefault("layer", "cluster")
        super().__init__(message, **details)


class NotReachableError(ConfigurationError):
    """The service has no address that can be used from here."""
