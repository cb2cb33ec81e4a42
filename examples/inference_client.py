"""Any model behind the Open Inference Protocol, from numpy to numpy: Triton, MLServer, OpenVINO, KServe's own server.

    python examples/inference_client.py [--protocol grpc]
    python examples/inference_client.py --base-url https://fraud-demo.apps.example.com --api-key …
    python examples/inference_client.py --base-url https://fraud-demo.apps.example.com --api-key … \
        --model fraud --input 'features=[[0.1, 3.0, 12.5, 1.0]]'

The second shows what the server has and what its models take and give. An `--input` is JSON, nested as the input's
shape is, or `@file.npy`; it may be given several times.

Not everything on a cluster is a language model. `InferenceClient` reaches the rest with the same token, certificate,
retries and errors, as arrays: values become the datatypes that the model declares, and a wrong name, datatype or shape
is found before anything is sent. There are `ainfer` and `astream_infer` for event loops, too.

Without `--base-url` (or `KSERVE_BASE_URL`) an embedded stand-in endpoint answers, whose model gives back what it gets.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from typing import Any

import numpy as np

from kserve_core import InferenceClient
from kserve_core.errors import ConfigurationError, KServeError


def show_server(client: InferenceClient, model: str | None) -> None:
    """Prints which server it is, its models, and what the model takes and gives."""
    server = client.server_metadata()
    print(f"{server.name} {server.version}")
    with contextlib.suppress(KServeError):  # MLServer and Triton list their models, some do not
        print("models:", ", ".join(entry.name for entry in client.repository_index()))
    with contextlib.suppress(ConfigurationError):  # several models, and none was named
        described = client.model_metadata(model)
        for word, tensors in (("takes", described.inputs), ("gives", described.outputs)):
            print(
                f"{described.name} {word}:", ", ".join(f"{one.name} {one.datatype}{list(one.shape)}" for one in tensors)
            )


def example_inputs() -> dict[str, Any]:
    """What the embedded model is sent: an array, a list, texts."""
    return {
        "in_fp32": np.linspace(0, 1, 4, dtype=np.float32),
        "in_int64": [3, 1, 4, 1, 5],
        "in_string": ["a text", "einer mit Ä"],
    }


def parsed(pairs: list[str]) -> dict[str, Any]:
    """Inputs from the command line: `name=JSON` or `name=@file.npy`.

    Raises:
        SystemExit: If one of them is neither.
    """
    inputs: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        try:
            if not separator:
                sys.exit(f"--input {pair}: write name=JSON, or name=@file.npy.")
            inputs[name] = np.load(value[1:], allow_pickle=False) if value.startswith("@") else json.loads(value)
        except (OSError, ValueError) as error:
            sys.exit(f"--input {pair}: {error}")
    return inputs


def main(argv: list[str] | None = None) -> int:
    """Describes the server, and sends one request if there is something to send; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--protocol", choices=["rest", "grpc"], help="left out: as the URL says (grpc://, grpcs://)")
    parser.add_argument("--api-key", help="left out: KSERVE_API_KEY, or none")
    parser.add_argument("--ca-cert", help="left out: KSERVE_CA_CERT and the system's")
    parser.add_argument("--model", help="left out: the one the endpoint serves")
    parser.add_argument("--input", action="append", default=[], metavar="NAME=JSON", help="may be repeated")
    args = parser.parse_args(argv)
    inputs = parsed(args.input)
    with contextlib.ExitStack() as stack:
        if args.base_url is None:
            from kserve_core.devserver import DevServer

            server = stack.enter_context(DevServer(runtime="triton", models=["echo"], v2_grpc=True))
            args.base_url = server.v2_grpc_url if args.protocol == "grpc" else server.url
            inputs = inputs or example_inputs()
        try:
            client = InferenceClient(
                args.base_url, protocol=args.protocol, model=args.model, api_key=args.api_key, ca_cert=args.ca_cert
            )
            with client:
                show_server(client, args.model)
                if inputs:
                    result = client.infer(inputs)
                    for name, array in result.items():  # a mapping of names to numpy arrays
                        print(f"{name} = {array!r}")
        except KServeError as error:
            print(f"Failed: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
