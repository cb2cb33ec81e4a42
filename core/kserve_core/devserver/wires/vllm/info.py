"""Routes about the server and its tokenizer."""

from __future__ import annotations

from typing import Any

from kserve_core.devserver import tokens
from kserve_core.devserver.messages import Reply, Request, json_reply
from kserve_core.devserver.wires.vllm import fields
from kserve_core.devserver.wires.vllm.chat_request import conversation, prompt_ids
from kserve_core.devserver.wires.vllm.context import Context
from kserve_core.devserver.wires.vllm.errors import missing, problem, schema_error, wrong_type


class Info:
    """Version, health, models, tokenizer."""

    def __init__(self, context: Context) -> None:
        self._context = context

    async def version(self, request: Request) -> Reply:  # noqa: ARG002
        """GET /version."""
        return json_reply({"version": self._context.settings.version})

    async def health(self, request: Request) -> Reply:  # noqa: ARG002
        """GET /health and /ping: no body."""
        return Reply(200, b"", None)

    async def load(self, request: Request) -> Reply:  # noqa: ARG002
        """GET /load."""
        return json_reply({"server_load": 0})

    async def metrics(self, request: Request) -> Reply:  # noqa: ARG002
        """GET /metrics, with one metric."""
        text = (
            "# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
            "# TYPE vllm:num_requests_running gauge\n"
            f'vllm:num_requests_running{{model_name="{self._context.settings.models[0].name}"}} 0.0\n'
        )
        return Reply(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")

    async def models(self, request: Request) -> Reply:  # noqa: ARG002
        """GET /v1/models: one entry per served name."""
        entries = [
            self._entry(name, f"/models/{model.name}", model.parent, model.max_model_len)
            for model in self._context.settings.models
            for name in (model.name, *model.aliases)
        ]
        return json_reply({"object": "list", "data": entries})

    def _entry(self, name: str, root: str, parent: str | None, length: int) -> dict[str, Any]:
        permission = {
            "id": f"modelperm-{name}",
            "object": "model_permission",
            "created": self._context.started,
            "allow_create_engine": False,
            "allow_sampling": True,
            "allow_logprobs": True,
            "allow_search_indices": False,
            "allow_view": True,
            "allow_fine_tuning": False,
            "organization": "*",
            "group": None,
            "is_blocking": False,
        }
        return {
            "id": name,
            "object": "model",
            "created": self._context.started,
            "owned_by": "vllm",
            "root": root,
            "parent": parent,
            "max_model_len": None if parent else length,
            "permission": [permission],
        }

    async def tokenize(self, request: Request) -> Reply:
        """POST /tokenize for a prompt or for messages."""
        body = fields.body_of(request)
        fields.check(body, {"model": "str", "prompt": "str", "messages": "list", "tools": "list"})
        if "prompt" not in body and "messages" not in body:
            raise missing(("body", "prompt"), body)
        model, _ = self._context.model(body)
        ids = prompt_ids(body, conversation(body)) if "messages" in body else tokens.encode(body["prompt"])
        answer: dict[str, Any] = {"count": len(ids), "max_model_len": model.max_model_len, "tokens": ids}
        if self._context.settings.release >= (0, 9):
            wanted = body.get("return_token_strs")
            answer["token_strs"] = [tokens.raw_piece(number) for number in ids] if wanted else None
        return json_reply(answer)

    async def detokenize(self, request: Request) -> Reply:
        """POST /detokenize."""
        body = fields.body_of(request)
        fields.check(body, {"model": "str", "tokens": "list"}, required=("tokens",))
        self._context.model(body)
        ids = body["tokens"]
        if any(not isinstance(number, int) for number in ids):
            raise wrong_type(("body", "tokens", 0), "int", ids)
        if any(number < 0 for number in ids):
            at = next(at for at, number in enumerate(ids) if number < 0)
            text = "Input should be greater than or equal to 0"
            raise schema_error(problem("greater_than_equal", ("body", "tokens", at), text, ids[at]))
        return json_reply({"prompt": tokens.decode(ids)})
