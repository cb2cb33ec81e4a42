"""A reverse proxy on loopback that puts vLLM's endpoints where OpenVINO Model Server has its own.

OpenVINO Model Server cannot be installed from the package indexes, and the endpoints it has under `/v3` are vLLM's but
for a few differences. Behind this proxy real vLLM servers stand in for one server with several models: what is asked
is taken to the one that has the model, byte by byte and as it comes. `/v2` is not found here, as with a server whose
models are all graphs of a release that knew no metadata of them.
"""

from __future__ import annotations

import http.client
import json
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_BASE = "/v3/"
_OWN = frozenset({"connection", "host", "keep-alive", "transfer-encoding", "content-length", "date", "server"})
_PIECE = 64 * 1024
_SECONDS = 120
_NOT_FOUND = b'{"error": "Not Found"}'


@contextmanager
def front(default: str, routes: Mapping[str, str] | None = None, *, ca_cert: str | None = None) -> Iterator[str]:
    """Runs the proxy and yields its base URL, which ends in `/v3`.

    Args:
        default: The origin of the server that is asked for everything else.
        routes: Origins by endpoint (`embeddings`, `rerank`, ...).
        ca_cert: The certificate authority of `https` origins.
    """
    trusted = ssl.create_default_context(cafile=ca_cert) if ca_cert else None
    origins = {"": default, **(routes or {})}

    class Handler(_Handler):
        def upstream(self, endpoint: str) -> http.client.HTTPConnection:
            target = urlsplit(origins.get(endpoint, default))
            host, port = target.hostname or "", target.port
            if target.scheme == "https":
                return http.client.HTTPSConnection(host, port, timeout=_SECONDS, context=trusted)
            return http.client.HTTPConnection(host, port, timeout=_SECONDS)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v3"
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def upstream(self, endpoint: str) -> http.client.HTTPConnection:
        """A connection to the server of an endpoint, not open yet."""
        raise NotImplementedError

    def do_GET(self) -> None:
        """Passes on a question about the server."""
        self._pass_on(None)

    def do_POST(self) -> None:
        """Passes on a request."""
        self._pass_on(self.rfile.read(int(self.headers.get("content-length") or 0)))

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing; the servers log."""

    def _pass_on(self, body: bytes | None) -> None:
        if not self.path.startswith(_BASE):
            self._whole(404, {"content-type": "application/json"}, _NOT_FOUND)
            return
        endpoint = self.path.removeprefix(_BASE)
        path = f"/v1/{endpoint}"
        if endpoint == "tokenize" and body is not None:  # the one endpoint whose request has other names
            path, body = "/tokenize", _tokenize(body)
        connection = self.upstream(endpoint)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in _OWN}
            connection.request(self.command, path, body, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OWN}
            if answer.getheader("content-length") is not None:
                self._whole(answer.status, kept, answer.read())
            else:
                self._pieces(answer, kept)
        except (OSError, http.client.HTTPException):
            self.close_connection = True  # and so the other side sees where the answer breaks off
        finally:
            connection.close()  # a server whose client has gone stops there

    def _whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._head(status, headers, "content-length", str(len(body)))
        self.wfile.write(body)

    def _pieces(self, answer: http.client.HTTPResponse, headers: Mapping[str, str]) -> None:
        self._head(answer.status, headers, "transfer-encoding", "chunked")
        while piece := answer.read1(_PIECE):
            self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        if not answer.isclosed():
            msg = "the server broke the answer off"
            raise http.client.HTTPException(msg)
        self.wfile.write(b"0\r\n\r\n")

    def _head(self, status: int, headers: Mapping[str, str], framing: str, value: str) -> None:
        self.send_response(status)
        for name, given in headers.items():
            self.send_header(name, given)
        self.send_header(framing, value)
        self.end_headers()


def _tokenize(body: bytes) -> bytes:
    asked = json.loads(body)
    return json.dumps({"prompt" if name == "text" else name: value for name, value in asked.items()}).encode()
