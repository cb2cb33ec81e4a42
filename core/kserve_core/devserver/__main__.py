"""Command line of the development server."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from kserve_core.devserver.server import DevServer
from kserve_core.devserver.settings import Model
from kserve_core.devserver.wires import VERSIONS, WIRES

_BY_TASK = ("dev-model", "dev-embedding", "dev-rerank")
"""What runtimes serve whose models have one task each."""


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = argparse.ArgumentParser(
        prog="python -m kserve_core.devserver",
        description="An offline endpoint for tests and first steps. Answers follow rules; there is no model.",
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    made.add_argument("--port", type=int, default=0, help="port; 0 picks a free one (default)")
    made.add_argument("--api-key", action="append", help="token clients must send; may be repeated")
    made.add_argument("--tls", action="store_true", help="serve HTTPS with a certificate of a fresh authority")
    made.add_argument("--ca-out", type=Path, metavar="FILE", help="write the authority's certificate here")
    made.add_argument("--pace", type=float, default=0.0, metavar="MS", help="milliseconds per generated token")
    made.add_argument("--model", action="append", metavar="NAME", help="served model; may be repeated")
    made.add_argument("--lora", action="append", default=[], metavar="NAME", help="adapter on the first model")
    made.add_argument("--max-model-len", type=int, help="context window in tokens")
    made.add_argument("--base-path", default="", metavar="PATH", help="path in front of all routes, e.g. /openai")
    made.add_argument("--runtime", default="vllm", choices=sorted(WIRES), help="whose wire to speak (default: vllm)")
    made.add_argument(
        "--tgis", nargs="?", type=int, const=0, default=False, metavar="PORT", help="serve TGIS's gRPC service as well"
    )
    made.add_argument(
        "--caikit-grpc",
        nargs="?",
        type=int,
        const=0,
        default=False,
        metavar="PORT",
        help="serve Caikit's gRPC services as well",
    )
    made.add_argument(
        "--v2-grpc",
        nargs="?",
        type=int,
        const=0,
        default=False,
        metavar="PORT",
        help="serve the Open Inference Protocol over gRPC as well (triton, mlserver, kserve, openvino)",
    )
    made.add_argument(
        "--runtime-version",
        default=None,
        metavar="X.Y.Z",
        help="runtime release to imitate (default: the newest known)",
    )
    made.add_argument("--json", action="store_true", help="also print the ready line as JSON")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run until interrupted; returns the exit status."""
    options = parser().parse_args(argv)
    names = options.model or list(_BY_TASK if options.runtime in VERSIONS else ["dev-model"])
    adapters = [Model(name=name, parent=names[0]) for name in options.lora]
    try:
        server = DevServer(
            api_key=options.api_key,
            tls=options.tls,
            pace=options.pace / 1000,
            models=[*names, *adapters],
            base_path=options.base_path,
            runtime=options.runtime,
            version=options.runtime_version,
            tgis=options.tgis,
            caikit_grpc=options.caikit_grpc,
            v2_grpc=options.v2_grpc,
            host=options.host,
            port=options.port,
            max_model_len=options.max_model_len,
        )
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    try:
        server.start()
    except (ImportError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    try:
        _announce(server, options)
        stop.wait()
    finally:
        server.stop()
    return 0


def _announce(server: DevServer, options: argparse.Namespace) -> None:
    ca_file = server.ca_cert
    if ca_file is not None and options.ca_out is not None:
        options.ca_out.write_bytes(ca_file.read_bytes())
        ca_file = options.ca_out
    names = ", ".join(model.name for model in server.settings.models)
    trust = f" (CA: {ca_file})" if ca_file is not None else ""
    sys.stdout.write(f"Development server ready at {server.url}{trust} serving {names}. Stop with Ctrl+C.\n")
    beside = {}
    if options.tgis is not False:
        beside["tgis_url"] = server.tgis_url
        sys.stdout.write(f"TGIS over gRPC is at {server.tgis_url}.\n")
    if options.caikit_grpc is not False:
        beside["caikit_grpc_url"] = server.caikit_grpc_url
        sys.stdout.write(f"Caikit over gRPC is at {server.caikit_grpc_url}.\n")
    if options.v2_grpc is not False:
        beside["v2_grpc_url"] = server.v2_grpc_url
        sys.stdout.write(f"The Open Inference Protocol over gRPC is at {server.v2_grpc_url}.\n")
    if options.json:
        ready = {
            "url": server.url,
            **beside,
            "models": [model.name for model in server.settings.models],
            "ca_cert": None if ca_file is None else str(ca_file),
        }
        sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
