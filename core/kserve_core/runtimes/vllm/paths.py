"""Where the endpoints of a vLLM server are, given any base URL people paste.

The rule: a base path that ends in a version segment (`/v1`, `/v3`, `/openai/v1`, `/ns/name/v1`) *is* the API
root; any other base path gets `/v1` added. The server root is the API root without its version segment; it has
what is not versioned (`/health`, `/version`, `/tokenize`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kserve_core.errors import ConfigurationError

_VERSION = re.compile(r"/v\d+$")
_ENDPOINT = re.compile(
    r"^(.*?)/(?:chat/completions|completions|embeddings|models|responses|rerank|score|tokenize|detokenize)$"
)


@dataclass(frozen=True, slots=True)
class Paths:
    """The two roots of a server, as absolute paths without a trailing slash.

    Attributes:
        api: Root of the versioned endpoints (`/v1`).
        server: Root of the others (`""`).
    """

    api: str
    server: str

    @classmethod
    def of(cls, base_path: str) -> Paths:
        """Reads a base path.

        Raises:
            ConfigurationError: If the path is the address of one endpoint instead of the root of all.
        """
        base = base_path.rstrip("/")
        if base and not base.startswith("/"):
            base = f"/{base}"
        if match := _ENDPOINT.match(base):
            msg = f"The base URL ends in {base[len(match[1]) :]}, which is one endpoint, not the root of all."
            raise ConfigurationError(msg, hint=f"Give the URL up to {match[1] or 'the host name'}.")
        if _VERSION.search(base):
            return cls(api=base, server=_VERSION.sub("", base))
        return cls(api=f"{base}/v1", server=base)

    def rerank(self) -> tuple[str, ...]:
        """Where reranking may be, likeliest first; the ones that end in `/score` take another body."""
        candidates = (
            f"{self.api}/rerank",
            f"{self.server}/rerank",
            f"{self.server}/v2/rerank",
            f"{self.api}/score",
            f"{self.server}/score",
        )
        return tuple(dict.fromkeys(candidates))
