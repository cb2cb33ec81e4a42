"""MLServer as a runtime: text, vectors and rankings from its Hugging Face runtime and from models of one's own."""

from __future__ import annotations

from typing import Any, Literal

from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.open_inference.dialects import KSERVE, MLSERVER
from kserve_core.runtimes.open_inference.embedding import TensorEmbeddings
from kserve_core.runtimes.open_inference.generation import TensorGeneration
from kserve_core.runtimes.open_inference.rerank import TensorReranking

__all__ = ["MLServerRuntime"]

_SERVERS = {"mlserver": None, "kserve": KSERVE}


class MLServerRuntime(TensorEmbeddings, TensorReranking, TensorGeneration):
    """Speaks to MLServer over REST or gRPC, with equal answers; see `OpenInferenceRuntime` for the arguments.

    Over REST the server takes and gives JSON only; over gRPC tensors are raw bytes.

    MLServer tells errors of a stream over REST by breaking it off, also before its first piece. Such a stream raises
    `StreamInterrupted` and is not asked for again, as the model may have generated already; what certainly comes before
    that (a refused connection, a server that is not ready, an expired token) is tried again as everywhere.

    Args:
        server: `kserve` for a server made with KServe's Python SDK, which takes raw tensors over REST too, lists its
            models, and has no versions.
        **options: See `OpenInferenceRuntime`.

    Raises:
        ConfigurationError: If something cannot be used as given.
    """

    name = MLSERVER.title
    dialect = MLSERVER

    def __init__(self, *, server: Literal["mlserver", "kserve"] = "mlserver", **options: Any) -> None:
        if server not in _SERVERS:
            msg = f"server must be 'mlserver' or 'kserve', not {server!r}."
            raise ConfigurationError(msg)
        super().__init__(**{"dialect": _SERVERS[server], **options})
