"""vLLM's OpenAI-compatible server."""

from kserve_core.runtimes.vllm.runtime import VLLMRuntime

__all__ = ["VLLMRuntime"]
