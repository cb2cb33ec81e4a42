"""What the endpoint modules of this wire share."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

from kserve_core.devserver.messages import Request
from kserve_core.devserver.settings import Model, Settings
from kserve_core.devserver.wires.vllm.errors import unknown_model
from kserve_core.devserver.wires.vllm.usage import PrefixCache


class Context:
    """Settings and memory of one server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.cache = PrefixCache()
        self.started = int(time.time())

    def model(self, body: Mapping[str, Any], *, param: str | None = "model") -> tuple[Model, str]:
        """The model a request is for and the name to answer with.

        Raises:
            ApiError: It is not served.
        """
        name = body.get("model")
        if not name:
            first = self.settings.models[0]
            return first, first.name
        model = self.settings.by_name.get(name)
        if model is None:
            raise unknown_model(str(name), self.settings.by_name, param=param)
        return model, str(name)

    @property
    def fingerprint(self) -> str:
        """The value of `system_fingerprint`."""
        return f"vllm-{self.settings.version}-d3f5e7a1"


def answer_id(prefix: str, request: Request, body: Mapping[str, Any]) -> str:
    """The id of an answer: from the request's own id where it has one."""
    return f"{prefix}-{request.headers.get('x-request-id') or body.get('request_id') or secrets.token_hex(8)}"
