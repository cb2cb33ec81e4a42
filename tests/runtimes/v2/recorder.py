"""Asks a server over plain HTTP and plain gRPC, and keeps what went over the wire.

Nothing of the package's transports or codecs is used but the messages; an answer is kept as it came.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import grpc
import httpx

SERVICE = "/inference.GRPCInferenceService/"
LONGEST = 4000  # bytes of a request that is kept
LEFT_OUT = {"date", "connection", "transfer-encoding", "content-length"}
_PLACES = (
    (re.compile(r"/[^\s\"'\\()]*?/site-packages/"), "/opt/server/"),
    (re.compile(r"/[^\s\"'\\()]*?/(python3\.\d+)/(?!site-packages)"), r"/usr/lib/\1/"),
    (re.compile(r"/[^\s\"'\\()]*?/tests/runtimes/"), "/opt/models/"),
    (re.compile(r"/[^\s\"'\\()]*?/build/test-runtimes/\d+/"), "/opt/models/"),
    (re.compile(r"127\.0\.0\.1:\d+"), "127.0.0.1:8000"),
)


def told(data: bytes) -> Any:
    """A body as text where it is text, else as base64."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}
    if "\0" in text:
        return {"base64": base64.b64encode(data).decode()}
    return _elsewhere(text)


def _shortened(data: bytes) -> Any:
    return told(data) if len(data) < LONGEST else {"bytes": len(data)}


def _elsewhere(text: str) -> str:
    for pattern, instead in _PLACES:
        text = pattern.sub(instead, text)
    return text


class Recorder:
    """Keeps exchanges by name, and writes them down.

    Args:
        server: The server's name and version.
        rest: Where it listens for HTTP.
        grpc_target: Where it listens for gRPC, as `host:port`.
    """

    def __init__(self, server: str, rest: str, grpc_target: str) -> None:
        self.server = server
        self.rest, self.target = rest, grpc_target
        self.http: dict[str, Any] = {}
        self.grpc: dict[str, Any] = {}

    def ask(
        self,
        name: str,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        rest: str | None = None,
        ca_cert: str | None = None,
    ) -> Any:
        """Sends a request as it is; a body that is not bytes is sent as JSON."""
        trust = ssl.create_default_context(cafile=ca_cert) if ca_cert else False
        sent = {"accept-encoding": "identity", **(headers or {})}
        if isinstance(body, bytes):
            content: bytes | None = body
            sent.setdefault("content-type", "application/octet-stream")
        elif body is None:
            content = None
        else:
            content = json.dumps(body, ensure_ascii=False).encode()
            sent.setdefault("content-type", "application/json")
        received, broken = b"", None
        with httpx.Client(trust_env=False, timeout=60, verify=trust) as client:
            with client.stream(method, (rest or self.rest) + path, content=content, headers=sent) as response:
                try:
                    for chunk in response.iter_raw():
                        received += chunk
                except httpx.HTTPError as error:
                    broken = type(error).__name__
        answer = {
            "status": response.status_code,
            "headers": {key: value for key, value in response.headers.items() if key not in LEFT_OUT},
            "body": told(received),
        }
        if "location" in answer["headers"]:
            answer["headers"]["location"] = _elsewhere(answer["headers"]["location"])
        if broken:
            answer["broken_off"] = broken
        asked = {"method": method, "path": path, "headers": sent, "body": _shortened(content) if content else None}
        self.http[name] = {"request": asked, "response": answer}
        return response.status_code, received

    def get(self, name: str, path: str, **more: Any) -> Any:
        """A GET request."""
        return self.ask(name, "GET", path, **more)

    def post(self, name: str, path: str, body: Any = None, **more: Any) -> Any:
        """A POST request."""
        return self.ask(name, "POST", path, body, **more)

    def call(
        self, name: str, method: str, *requests: Any, metadata: Iterable[tuple[str, str]] = (), **more: Any
    ) -> Any:
        """Makes a unary call, or a stream where the method's name says so.

        Args:
            name: The exchange's.
            method: Of the service; with a slash, the full one.
            requests: Messages.
            metadata: What to send along.
            more: `target`, where it is not the server's own, and `credentials` for TLS.
        """
        path = method if "/" in method else SERVICE + method
        target, credentials = more.get("target") or self.target, more.get("credentials")
        options = [("grpc.max_receive_message_length", -1)]
        channel = (
            grpc.secure_channel(target, credentials, options) if credentials else grpc.insecure_channel(target, options)
        )
        sent = [one.SerializeToString() for one in requests]
        received: list[bytes] = []
        code, details = "OK", ""
        with channel:
            try:
                if "Stream" in method:
                    received.extend(channel.stream_stream(path)(iter(sent), metadata=tuple(metadata), timeout=60))
                else:
                    received.append(channel.unary_unary(path)(sent[0], metadata=tuple(metadata), timeout=60))
            except grpc.RpcError as error:
                code, details = error.code().name, error.details() or ""
                if "Socket closed" in details or "failed to connect" in details:
                    raise  # the server has died
        self.grpc[name] = {
            "method": path,
            "metadata": [list(pair) for pair in metadata],
            "requests": [base64.b64encode(one).decode() if len(one) < LONGEST else None for one in sent],
            "responses": [base64.b64encode(one).decode() for one in received],
            "code": code,
            "details": _elsewhere(details),
        }
        return code, received

    def write(self, folder: Path) -> None:
        """Writes `http.json` and `grpc.json`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, found in (("http", self.http), ("grpc", self.grpc)):
            content = {"server": self.server, "exchanges": found}
            text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
