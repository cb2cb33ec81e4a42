"""What the tests of `VLLM` share."""

from __future__ import annotations

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.rate_limiters import BaseRateLimiter

KEY = "sk-unit-test-secret"


class Seen(BaseCallbackHandler):
    """Notes what callbacks are told."""

    def __init__(self):
        self.starts, self.tokens, self.chunks, self.logprobs, self.ends, self.errors = [], [], [], [], [], []
        self.params = []

    def on_llm_start(self, serialized, prompts, **kwargs):
        self.starts.append(prompts)
        self.params.append(kwargs["invocation_params"])

    def on_llm_new_token(self, token, *, chunk=None, **kwargs):
        self.tokens.append(token)
        self.chunks.append(chunk)
        self.logprobs.append(kwargs.get("logprobs"))

    def on_llm_end(self, response, **kwargs):
        self.ends.append(response)

    def on_llm_error(self, error, **kwargs):
        self.errors.append(error)


class CountingLimiter(BaseRateLimiter):
    def __init__(self):
        self.acquired = 0

    def acquire(self, *, blocking=True):
        self.acquired += 1
        return True

    async def aacquire(self, *, blocking=True):
        self.acquired += 1
        return True


def bodies(server):
    return [record.json for record in server.requests.to("/completions")]
