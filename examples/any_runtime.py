"""One line that keeps working when the runtime changes: the class is chosen for what is there.

    python examples/any_runtime.py [--framework llamaindex]
    python examples/any_runtime.py --base-url https://llm-demo.apps.example.com --api-key …
    python examples/any_runtime.py --inference-service granite --namespace demo --api-key …

The server is asked which runtime it is; with `--inference-service` the cluster is asked, which also knows the address,
the certificate authority and the model's name (see docs/discovery.md; it needs a kubeconfig, or to run in a pod).

What only some runtimes need is given per runtime: the ones that complete text need to know how conversations are
written, and how long an answer may get.

Without `--base-url` (or `KSERVE_BASE_URL`) embedded stand-in endpoints answer: one of each runtime, with the same line.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from typing import Any

from kserve_core.errors import KServeError

RUNTIMES = ("vllm", "caikit", "tgis", "triton", "mlserver", "openvino")
COMPLETE_TEXT = ("caikit", "tgis", "triton", "mlserver")


def with_langchain(arguments: dict[str, Any], question: str) -> str:
    """Makes the model and streams an answer; returns the name of the class it turned out to be."""
    import langchain_kserve

    with langchain_kserve.chat_model(**arguments) as model:  # the line
        for chunk in model.stream(question):
            print(chunk.text, end="", flush=True)
    print()
    return type(model).__name__


def with_llamaindex(arguments: dict[str, Any], question: str) -> str:
    """The same."""
    from llama_index.core.llms import ChatMessage

    import llamaindex_kserve

    with llamaindex_kserve.llm(**arguments) as llm:  # the line
        for piece in llm.stream_chat([ChatMessage(question)]):
            print(piece.delta, end="", flush=True)
    print()
    return type(llm).__name__


def arguments_for(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Arguments of the factory: for the endpoint that was named, else for one embedded endpoint after the other."""
    options: dict[str, Any] = {"chat_template": args.chat_template, "max_tokens": 128}
    common = {
        "api_key": args.api_key,
        "ca_cert": args.ca_cert,
        "for_runtime": dict.fromkeys(COMPLETE_TEXT, options),
        **({"model": args.model} if args.model else {}),
    }
    if args.inference_service:
        yield {"inference_service": args.inference_service, "namespace": args.namespace, **common}
    elif args.base_url:
        yield {"base_url": args.base_url, **common}
    else:
        from kserve_core.devserver import DevServer

        for runtime in RUNTIMES:
            with DevServer(runtime="vllm" if runtime == "tgis" else runtime, tgis=runtime == "tgis") as server:
                yield {"base_url": server.tgis_url if runtime == "tgis" else server.url, **common}


def main(argv: list[str] | None = None) -> int:
    """Asks each endpoint the question; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--base-url", default=os.environ.get("KSERVE_BASE_URL"))
    parser.add_argument("--inference-service", metavar="NAME", help="a service in the cluster, instead of a URL")
    parser.add_argument("-n", "--namespace", help="its namespace; left out: the kubeconfig's, or the pod's own")
    parser.add_argument("--api-key", help="left out: KSERVE_API_KEY, or none")
    parser.add_argument("--ca-cert", help="left out: KSERVE_CA_CERT and the system's")
    parser.add_argument("--model", help="left out: the one the endpoint serves")
    parser.add_argument("--chat-template", default="chatml", help="how conversations are written, if the runtime asks")
    parser.add_argument("--question", default="Count to ten.")
    parser.add_argument("--framework", choices=["langchain", "llamaindex"], default="langchain")
    args = parser.parse_args(argv)
    run = with_langchain if args.framework == "langchain" else with_llamaindex
    try:
        for arguments in arguments_for(args):
            name = run(arguments, args.question)
            print(f"  {name} at {arguments.get('base_url') or arguments['inference_service']}")
    except KServeError as error:
        print(f"Failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
