"""`DevServer`: the server in a background thread, with its log and its faults."""

from __future__ import annotations

import asyncio
import ssl
import tempfile
import threading
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

import h11

from kserve_core.devserver.connection import Connection
from kserve_core.devserver.control import Control
from kserve_core.devserver.delivery import deliver, send
from kserve_core.devserver.faults import Fault, FaultPlan
from kserve_core.devserver.grpc_host import GrpcHost
from kserve_core.devserver.log import RequestLog
from kserve_core.devserver.messages import Reply, Request, StreamReply, json_reply
from kserve_core.devserver.router import Router
from kserve_core.devserver.settings import TASKS, Model, Settings, as_models
from kserve_core.devserver.wires import VERSIONS, WIRES, Wire
from kserve_core.devserver.wires.openvino import OpenVINOWire
from kserve_core.devserver.wires.v2 import V2Wire

CONTROL_PREFIX = "/_devserver/"


class DevServer:
    """An offline endpoint on a loopback port, for tests and for trying things out.

    ```python
    with DevServer() as server:
        answer = httpx.post(f"{server.url}/v1/chat/completions", json={"messages": [...]})
    ```

    `async with` works too. The server runs in a thread with its own event loop, so blocking clients can use it.

    Args:
        api_key: Token (or tokens) clients must send; None leaves the server open.
        tls: Serve HTTPS with a certificate of a fresh certificate authority, whose file is `ca_cert`.
        mutual_tls: The same, and ask for a client certificate; `client_cert` is one that fits.
        pace: Seconds per generated token.
        models: Served names, or `Model` objects; see `Model.named` for what a name implies. The first is the
            default.
        base_path: Path in front of all routes, for example `/openai`.
        runtime: Whose wire is spoken: `vllm`, `caikit`, `triton`, `mlserver`, `kserve` or `openvino`. On the last
            four a model's name says what it does, see `devserver.wires.v2.repository`: `tiny` generates text,
            `tiny-embedding` embeds, `tiny-rerank` ranks.
        version: Release of that runtime, the newest known one by default; old releases have old shapes.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        max_model_len: Context window of every model, in tokens.
        tasks: What the models can do; leave out `generate`, `embed` or `score` to have those routes missing.
        protect_all: Ask for the token on every path, as an auth proxy does.
        auto_tools: Whether automatic tool choice is switched on.
        cached_tokens: Whether usage reports cached prompt tokens.
        force_usage: Whether every stream event carries usage.
        request_id_headers: Whether answers carry `x-request-id`.
        tgis: Whether the gRPC service of TGIS is served too, at a port of its own; see `tgis_url`. True, or the port.
        caikit_grpc: Whether Caikit's gRPC services are served too, at a port of their own; see `caikit_grpc_url`.
            True, or the port.
        v2_grpc: Whether the Open Inference Protocol is served over gRPC too, at a port of its own; see `v2_grpc_url`.
            True, or the port. The runtime must be one that speaks it.

    Attributes:
        requests: What clients sent; see `RequestLog`.
        faults: Faults still to come; see `FaultPlan`.
        ca_cert: PEM file of the certificate authority when TLS is on.
        client_cert: Certificate and key file of a client when `mutual_tls` is on.
        counting: Held while the counters below change.
        in_flight: Requests being answered now.
        max_in_flight: The most there were at once since the start or the last `reset`.
    """

    def __init__(
        self,
        *,
        api_key: str | Iterable[str] | None = None,
        tls: bool = False,
        mutual_tls: bool = False,
        pace: float = 0.0,
        models: Iterable[str | Model] = ("dev-model",),
        base_path: str = "",
        runtime: str = "vllm",
        version: str | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        max_model_len: int | None = None,
        tasks: Iterable[str] = TASKS,
        protect_all: bool = False,
        auto_tools: bool = True,
        cached_tokens: bool = True,
        force_usage: bool = False,
        request_id_headers: bool = False,
        tgis: bool | int = False,
        caikit_grpc: bool | int = False,
        v2_grpc: bool | int = False,
    ) -> None:
        keys = (api_key,) if isinstance(api_key, str) else tuple(api_key or ())
        self.settings = Settings(
            runtime=runtime,
            version=VERSIONS.get(runtime, Settings.version) if version is None else version,
            models=as_models(models, max_model_len=max_model_len),
            api_keys=keys,
            protect_all=protect_all,
            pace=pace,
            tasks=frozenset(tasks),
            auto_tools=auto_tools,
            cached_tokens=cached_tokens,
            force_usage=force_usage,
            request_id_headers=request_id_headers,
        )
        self.requests = RequestLog()
        self.faults = FaultPlan()
        self.ca_cert: Path | None = None
        self.max_in_flight = 0
        self.in_flight = 0
        self.client_cert: tuple[Path, Path] | None = None
        self._tls = tls or mutual_tls
        self._mutual = mutual_tls
        self._address = (host, port)
        self._port: int | None = None
        self._connections: set[Connection] = set()
        self._control = Control(self)
        if runtime not in WIRES:
            msg = f"no wire for runtime {runtime!r}; there are {', '.join(sorted(WIRES))}"
            raise ValueError(msg)
        self._wire: Wire = WIRES[runtime](self.settings)
        self._router = Router(self._wire.routes(), base_path=base_path, scheme="https" if self._tls else "http")
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self._failure: BaseException | None = None
        self.counting = threading.Lock()
        self._grpc_wanted: dict[str, int] = {}
        if tgis is not False:
            self._grpc_wanted["tgis"] = 0 if tgis is True else tgis
        if caikit_grpc is not False:
            self._grpc_wanted["caikit"] = 0 if caikit_grpc is True else caikit_grpc
        if v2_grpc is not False:
            if not isinstance(self._wire, V2Wire | OpenVINOWire):
                msg = f"the runtime {runtime!r} does not speak the Open Inference Protocol, so v2_grpc is not for it"
                raise ValueError(msg)
            self._grpc_wanted["v2"] = 0 if v2_grpc is True else v2_grpc
        self._grpc_hosts: dict[str, GrpcHost] = {}
        self._grpc_ports: dict[str, int] = {}

    # -- life

    def start(self) -> DevServer:
        """Start listening; returns when the port answers.

        Raises:
            OSError: The port is taken.
            ImportError: TLS was asked for and `cryptography` is not installed.
        """
        if self._thread is not None:
            msg = "the server is already running"
            raise RuntimeError(msg)
        context = self._tls_context() if self._tls else None
        ready = threading.Event()
        self._failure = None
        self._thread = threading.Thread(target=self._run, args=(context, ready), name="kserve-devserver", daemon=True)
        self._thread.start()
        ready.wait()
        if self._failure is not None:
            self._thread.join()
            self._thread = None
            raise self._failure
        try:
            self._start_grpc()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop listening, break open connections and wait for the thread to end."""
        if self._thread is None or self._loop is None or self._stop is None:
            return
        for host in self._grpc_hosts.values():
            host.stop()
        self._grpc_hosts.clear()
        self._grpc_ports.clear()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._thread = None
        if self._files is not None:
            self._files.cleanup()
            self._files = None

    def __enter__(self) -> DevServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> DevServer:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # -- what a test looks at

    @property
    def port(self) -> int:
        """The port it listens on.

        Raises:
            RuntimeError: The server is not running.
        """
        if self._port is None:
            msg = "the server is not running; use it as a context manager or call start()"
            raise RuntimeError(msg)
        return self._port

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        host = self._address[0]
        return f"{'https' if self._tls else 'http'}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def url(self) -> str:
        """Where clients point: the origin and the base path, without a trailing slash."""
        return self.origin + self._router.base_path

    @property
    def tgis_url(self) -> str:
        """Where TGIS clients point (`grpc://127.0.0.1:8033`, or `grpcs://` with TLS).

        Raises:
            RuntimeError: The server is not running, or was made without `tgis=True`.
        """
        return self._grpc_url("tgis")

    @property
    def caikit_grpc_url(self) -> str:
        """Where Caikit clients that speak gRPC point.

        Raises:
            RuntimeError: The server is not running, or was made without `caikit_grpc=True`.
        """
        return self._grpc_url("caikit")

    @property
    def v2_grpc_url(self) -> str:
        """Where clients of the Open Inference Protocol that speak gRPC point.

        Raises:
            RuntimeError: The server is not running, or was made without `v2_grpc=True`.
        """
        return self._grpc_url("v2")

    @property
    def open_connections(self) -> int:
        """TCP connections open now."""
        return len(self._connections)

    def fault(self, **fields: Any) -> Fault:
        """Script a fault for the next matching request; the arguments are the fields of `Fault`."""
        return self.faults.add(Fault(**fields))

    def reset(self) -> None:
        """Forget recorded requests, coming faults, peaks and cached prompts."""
        self.requests.clear()
        self.faults.clear()
        self.max_in_flight = self.in_flight
        self._wire.forget()

    def __repr__(self) -> str:
        return f"DevServer({self.url})" if self._port is not None else "DevServer(stopped)"

    # -- inside

    def _tls_context(self) -> ssl.SSLContext:
        from kserve_core.devserver.certificates import Authority

        self._files = tempfile.TemporaryDirectory(prefix="kserve-devserver-")
        folder = Path(self._files.name)
        authority = Authority.create()
        self.ca_cert = authority.write_ca(folder / "ca.pem")
        if self._mutual:
            self.client_cert = authority.issue(("client",), folder, stem="client")
        names = (self._address[0], "localhost")
        return authority.server_context(names, folder, client_ca=self.ca_cert if self._mutual else None)

    def _run(self, context: ssl.SSLContext | None, ready: threading.Event) -> None:
        try:
            asyncio.run(self._serve(context, ready))
        except BaseException as error:  # noqa: BLE001 - handed to the starting thread
            self._failure = error
        finally:
            self._port = None
            ready.set()

    def _start_grpc(self) -> None:
        key_cert = client_ca = None
        if self._grpc_wanted and self._files is not None and self.ca_cert is not None:
            folder = Path(self._files.name)
            key_cert = ((folder / "server.key").read_bytes(), (folder / "server.pem").read_bytes())
            client_ca = self.ca_cert.read_bytes() if self._mutual else None
        for name, port in self._grpc_wanted.items():
            if isinstance(self._wire, V2Wire | OpenVINOWire) and name == "v2":
                host = GrpcHost(self, self._wire.methods, authorize=self._wire.authorize)
            else:
                host = GrpcHost(self, import_module(f"kserve_core.devserver.wires.{name}").methods(self.settings))
            self._grpc_hosts[name] = host
            self._grpc_ports[name] = host.start(self._address[0], port, key_cert=key_cert, client_ca=client_ca)

    def _grpc_url(self, name: str) -> str:
        port = self._grpc_ports.get(name)
        if port is None:
            msg = f"the server is not running, or was made without {name}"
            raise RuntimeError(msg)
        host = self._address[0]
        return f"{'grpcs' if self._tls else 'grpc'}://{f'[{host}]' if ':' in host else host}:{port}"

    async def _serve(self, context: ssl.SSLContext | None, ready: threading.Event) -> None:
        loop = asyncio.get_running_loop()
        self._loop, self._stop = loop, asyncio.Event()
        host, port = self._address
        server = await loop.create_server(
            lambda: Connection(self._handle, self._connections), host, port, ssl=context, backlog=1024
        )
        self._port = server.sockets[0].getsockname()[1]
        ready.set()
        await self._stop.wait()
        server.close()
        for connection in list(self._connections):
            connection.reset()
        await asyncio.sleep(0)

    async def _handle(self, head: h11.Request, body: bytes, connection: Connection) -> None:
        request = self._request(head, body)
        if request.raw_path.startswith(CONTROL_PREFIX):
            send(self._control(request), connection)
            return
        record = self.requests.open(
            connection=connection.number,
            method=request.method,
            path=request.raw_path,
            query=request.query,
            headers=request.headers,
            body=body,
        )
        with self.counting:
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            fault, reply = await self._answer(request)
            await deliver(reply, connection, record, fault)
            self.requests.close(record, cancelled=connection.lost)
        finally:
            with self.counting:
                self.in_flight -= 1
            self.requests.close(record, cancelled=True)

    async def _answer(self, request: Request) -> tuple[Fault | None, Reply | StreamReply]:
        try:
            text = request.headers.get("x-devserver-fault")
            fault = Fault.from_header(text) if text else self.faults.take(request.method, request.raw_path)
        except (TypeError, ValueError) as error:
            return None, json_reply({"detail": f"x-devserver-fault: {error}"}, status=422)
        if fault is not None and fault.replaces_answer:
            return fault, self._wire.failed(fault, fault.replacement())
        try:
            return fault, await self._wire.answer(request, self._router)
        except Exception as error:  # noqa: BLE001 - a server answers, whatever happens
            message = {"message": f"{type(error).__name__}: {error}", "type": "InternalServerError", "param": None}
            return fault, json_reply({"error": {**message, "code": 500}}, status=500)

    def _request(self, head: h11.Request, body: bytes) -> Request:
        raw_path, _, query = head.target.decode("latin-1").partition("?")
        return Request(
            method=head.method.decode("ascii"),
            path=self._router.local_path(raw_path),
            raw_path=raw_path,
            query=query,
            headers={name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers},
            body=body,
        )
