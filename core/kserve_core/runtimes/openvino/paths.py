"""Where OpenVINO Model Server's two APIs are, given any base URL people paste.

From its documentation: `/v3/...` are the OpenAI-style endpoints, which also answer under `/v1/...` and `/v3/v1/...`;
`/v2/...` is the Open Inference Protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from kserve_core.errors import ConfigurationError

Api = Literal["v3", "v2"]

_GENERATIVE = re.compile(r"(/v3/v1|/v3|/v1)$")
_ENDPOINT = re.compile(r"^(.*?)/(?:chat/completions|completions|embeddings|rerank|tokenize|responses|models)$")


@dataclass(frozen=True, slots=True)
class Paths:
    """The roots of a server, as absolute paths without a trailing slash.

    Attributes:
        root: What is in front of both APIs (`""`, `/namespace/model`).
        api: Root of the OpenAI-style endpoints (`/v3`).
        named: The API that the base path names; None for one that names neither.
    """

    root: str
    api: str
    named: Api | None

    @classmethod
    def of(cls, base_path: str) -> Paths:
        """Reads a base path.

        Raises:
            ConfigurationError: If the path is the address of one endpoint instead of the root of all.
        """
        base = base_path.strip("/")
        path = f"/{base}" if base else ""
        if (match := _ENDPOINT.match(path)) and "/v2" not in path:
            msg = f"The base URL ends in {path[len(match[1]) :]}, which is one endpoint, not the root of all."
            raise ConfigurationError(msg, hint=f"Give the URL up to {match[1] or 'the host name'}.")
        if match := _GENERATIVE.search(path):
            return cls(path[: match.start()], path, "v3")
        root = path.removesuffix("/v2")
        return cls(root, f"{root}/v3", "v2" if root != path else None)
