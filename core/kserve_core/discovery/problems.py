"""What discovery can find that makes an endpoint useless from here."""

from __future__ import annotations

from kserve_core.errors import ConfigurationError


class NotReachableError(ConfigurationError):
    """The service has no address that can be used from here."""
