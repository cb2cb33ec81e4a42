"""Asks a server for a vector with several libraries in one process, and prints the vectors each has got.

    python together.py {kserve-sdk|tritonclient-grpc} {first|last} HTTP_URL GRPC_TARGET

Each of the other libraries puts messages of the same names into protobuf's common pool. `first` and `last` say when
this package is imported.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

TEXT, MODEL = "hello", "embed"


def ours(rest: str, target: str) -> dict[str, Any]:
    """By this package, over both protocols."""
    from kserve_core.inference_client import InferenceClient

    found = {}
    for url in (rest, f"grpc://{target}"):
        with InferenceClient(url, server="kserve", model=MODEL) as client:
            found[f"ours over {url.partition(':')[0]}"] = client.infer({"text": [TEXT]})["embedding"][0].tolist()
    return found


def by_kserve_sdk(rest: str, target: str) -> dict[str, Any]:
    """By KServe's SDK over gRPC and tritonclient over HTTP."""
    import numpy as np
    import tritonclient.http as triton
    from kserve import InferenceGRPCClient, InferInput, InferRequest

    async def ask() -> Any:
        given = InferInput(name="text", shape=[1], datatype="BYTES", data=[TEXT])
        client = InferenceGRPCClient(url=target)
        answer = await client.infer(InferRequest(model_name=MODEL, request_id="1", infer_inputs=[given]))
        return answer.outputs[0].as_numpy()[0].tolist()

    text = triton.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([TEXT.encode()], dtype=np.object_))
    with triton.InferenceServerClient(rest.removeprefix("http://")) as client:
        answer = client.infer(MODEL, [text]).as_numpy("embedding")[0].tolist()
    return {"kserve": asyncio.run(ask()), "tritonclient.http": answer}


def by_tritonclient(_: str, target: str) -> dict[str, Any]:
    """By tritonclient over gRPC."""
    import numpy as np
    import tritonclient.grpc as triton

    text = triton.InferInput("text", [1], "BYTES")
    text.set_data_from_numpy(np.array([TEXT.encode()], dtype=np.object_))
    with triton.InferenceServerClient(target) as client:
        return {"tritonclient.grpc": client.infer(MODEL, [text]).as_numpy("embedding")[0].tolist()}


def main() -> None:
    """Asks in the order that is wanted."""
    which, when, *where = sys.argv[1:]
    steps = [ours, {"kserve-sdk": by_kserve_sdk, "tritonclient-grpc": by_tritonclient}[which]]
    found: dict[str, Any] = {}
    for step in (*steps, *steps) if when == "first" else (*reversed(steps), *steps):
        found.update(step(*where))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
