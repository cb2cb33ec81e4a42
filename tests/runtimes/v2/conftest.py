"""Clients of the servers that `python -m runtimes` has started."""

from __future__ import annotations

from runtimes.v2.clients import connect, tensors

__all__ = ["connect", "tensors"]
