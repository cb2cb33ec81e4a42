"""Starts vllm-tgis-adapter's two servers, gRPC and HTTP, on a vLLM that is newer than the adapter.

    python launch.py --model FOLDER --host 127.0.0.1 --port N --grpc-port N ...

The adapter (0.10) was written when vLLM kept some functions elsewhere. Here they are put where it looks for them,
and what they were called with then is turned into what they are called with now. The service itself, its checks, its
error codes and its messages, is the adapter's. One thing cannot be had back: this vLLM changes the odds of single
tokens for no request alone, so `typical_p` and a length penalty are refused.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import sys
import types
import warnings
from typing import Any

warnings.simplefilter("ignore")

# Where the adapter looks: names, and where they are now.
MOVED = {
    "vllm.entrypoints.launcher": {"serve_http": "vllm.entrypoints.launchers.launcher"},
    "vllm.entrypoints.utils": {"cli_env_setup": "vllm.entrypoints.serve.utils.api_utils"},
    "vllm.entrypoints.openai.cli_args": {"make_arg_parser": "vllm.entrypoints.launchers.cli_args"},
    "vllm.entrypoints.openai.protocol": {
        "ErrorResponse": "vllm.entrypoints.serve.engine.protocol",
        "LoadLoRAAdapterRequest": "vllm.entrypoints.serve.lora.protocol",
    },
    "vllm.entrypoints.openai.serving_completion": {"merge_async_iterators": "vllm.utils.async_utils"},
}


def bring_back_modules() -> None:
    """Makes the modules that have moved importable under their old names."""
    for old, names in MOVED.items():
        module = types.ModuleType(old)
        for name, now in names.items():
            setattr(module, name, getattr(importlib.import_module(now), name))
        sys.modules[old] = module
        parent, _, leaf = old.rpartition(".")
        setattr(importlib.import_module(parent), leaf, module)


def bring_back_functions() -> None:
    """Gives vLLM's modules the functions they used to have."""
    inputs = importlib.import_module("vllm.inputs")
    inputs.token_inputs = inputs.TokensPrompt  # imported, not used with this engine
    server = importlib.import_module("vllm.entrypoints.openai.api_server")
    server.maybe_register_tokenizer_info_endpoint = lambda _: None
    server.create_server_socket = functools.partial(server.create_server_socket, reuse_port=False)


def adapt_service() -> None:
    """Changes the calls of the service that this vLLM does not take."""
    from vllm_tgis_adapter.grpc import grpc_server

    params = grpc_server.SamplingParams

    def sampling(logits_processors: list[Any], top_k: int = 0, **fields: Any) -> Any:
        if logits_processors:
            msg = "this engine has no logits processors for a single request"
            raise ValueError(msg)
        return params(top_k=max(top_k, 0), **fields)

    async def tokenizer(service: Any, _: object) -> Any:
        found = service.engine.get_tokenizer()
        if not hasattr(found, "encode_plus"):
            type(found).encode_plus = type(found).__call__
        return found

    grpc_server.SamplingParams = sampling
    grpc_server.TextGenerationService._get_tokenizer = tokenizer


def arguments() -> Any:
    """The command line as the adapter reads it, without the variables it would take options from."""
    from vllm_tgis_adapter.tgis_utils import args as tgis

    tgis._switch_action_default = lambda _: None  # or a developer's PORT, MODEL or SEED would count
    parser = sys.modules["vllm.entrypoints.openai.cli_args"].make_arg_parser(tgis.FlexibleArgumentParser("tgis"))
    # vLLM has a --grpc-port of its own by now; the adapter's goes before it.
    return tgis.postprocess_tgis_args(
        tgis.add_tgis_args(tgis.EnvVarArgumentParser(parser=parser, conflict_handler="resolve")).parse_args()
    )


def main() -> None:
    """Serves until told to stop."""
    bring_back_modules()
    bring_back_functions()
    adapt_service()
    import uvloop
    from vllm_tgis_adapter.__main__ import run_and_catch_termination_cause, start_servers

    sys.modules["vllm.entrypoints.utils"].cli_env_setup()
    uvloop.install()
    loop = asyncio.new_event_loop()
    run_and_catch_termination_cause(loop, loop.create_task(start_servers(arguments())))


if __name__ == "__main__":
    main()
