"""Clients of the servers that `python -m runtimes` has started."""

from __future__ import annotations

from runtimes.v2.clients import connect, running, tensors

__all__ = ["connect", "tensors"]

collect_ignore_glob = [] if any(map(running, ("triton", "mlserver", "kserve"))) else ["test_*"]
