"""The OpenAI-style wire of vLLM, in the shapes of the version the server is told to be."""

from __future__ import annotations

from kserve_core.devserver.wires.vllm.wire import VLLMWire

__all__ = ["VLLMWire"]
