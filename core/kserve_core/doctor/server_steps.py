"""The steps from HTTP on, taken: access, readiness, runtime, models, and one small request of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from kserve_core.capabilities import InfoRuntime
from kserve_core.client import RuntimeClient
from kserve_core.discovery.detect import Detected, detect_runtime
from kserve_core.doctor.bounded import bounded
from kserve_core.doctor.findings import Finding
from kserve_core.doctor.judge_access import Access, Open, epoch_now, fix_for, judge_auth, judge_ready, token_source
from kserve_core.doctor.judge_models import judge_models, judge_runtime
from kserve_core.doctor.jwt import TokenFacts, read_token
from kserve_core.doctor.snippets import Made, snippets
from kserve_core.doctor.tasks import TASKS, Task, Tried, attempt, judge_tasks, supports
from kserve_core.endpoint import Endpoint
from kserve_core.errors import (
    AuthenticationError,
    ConfigurationError,
    KServeError,
    NotFoundError,
    PermissionDeniedError,
    RedirectError,
)
from kserve_core.runtimes.registry import get_runtime
from kserve_core.types import ModelInfo

if TYPE_CHECKING:
    from kserve_core.doctor.examination import Examination

T = TypeVar("T")

_GRPC_SCHEMES = {"http": "grpc", "https": "grpcs"}
_TENSOR_SERVERS = frozenset({"triton", "mlserver", "openvino", "kserve"})
_MOST_TRIED = 4
"""How many of several models are asked for the same thing until one does it."""
_MOST_DESCRIBED = 8


class ServerSteps:
    """What answers at one endpoint.

    Args:
        examination: What the findings go to.
        endpoint: The endpoint.
        model: The model to try.
        runtime: The runtime's key.
        protocol: What to speak.
        generate: Whether to have text generated.
        asking: How the cluster was asked for the endpoint, if it was.

    Raises:
        ConfigurationError: If something cannot be used as given.
    """

    def __init__(
        self,
        examination: Examination,
        endpoint: Endpoint,
        *,
        model: str | None,
        runtime: str | None,
        protocol: Literal["rest", "grpc"] | None,
        generate: bool,
        asking: Mapping[str, object] | None = None,
    ) -> None:
        self._asking = asking
        self._examination = examination
        self._entry = get_runtime(runtime) if runtime is not None else None
        self._wanted = self._entry.key if self._entry is not None else None
        self.endpoint = _spoken_to(endpoint, protocol, self._wanted)
        self.grpc = self.endpoint.is_grpc
        discovered = endpoint.discovered
        self._model = model or (discovered.model if discovered is not None else None)
        self._generate = generate
        self._detected: Detected | None = None
        self._codec: Any = None
        self._models: list[ModelInfo] = []
        self._tried: list[Tried] = []
        self._token_error: KServeError | None = None
        if self.endpoint.scheme == "https":
            self.endpoint.trust.ssl_context()  # files that cannot be used are the caller's mistake, said at once
        self._access = Access(
            endpoint=self.endpoint, token=self._token(), source=token_source(self.endpoint), now=epoch_now()
        )

    def take(self) -> None:
        """Takes all of them."""
        examination = self._examination
        if not examination.ready_for("auth"):
            for name in ("ready", "runtime", "models", *TASKS):
                examination.ready_for(name)
            return
        examination.step("auth", self._auth)
        examination.step("ready", self._ready)
        examination.step("runtime", self._runtime)
        examination.step("models", self._list_models)
        self._try_tasks()

    def snippets(self) -> dict[str, str]:
        """The programs for what was found."""
        key = self._key
        if key is None or self._codec is None:
            return {}
        ids = [model.id for model in self._models if model.id]
        model = self._model or (ids[0] if ids else None)
        return snippets(
            Made(
                endpoint=self.endpoint,
                base_url=self._base.base_url,
                runtime=key,
                tried=tuple(self._tried),
                several=len(ids) > 1,
                model=model,
                asking=self._asking,
            )
        )

    # --- access -------------------------------------------------------------------------------------------------

    def _token(self) -> TokenFacts | None:
        """What the token says about itself; it is made a secret of the examination."""
        scrubber, source = self._examination.scrubber, self.endpoint.token
        scrubber.add_headers(self.endpoint.default_headers)
        own = self.endpoint.trust.client_cert
        scrubber.add(own[2] if own is not None else None)
        text = next((value for name, value in self.endpoint.headers if name.lower() == "authorization"), "")
        if source is not None:
            try:
                text = bounded(source.token, self._examination.deadline, what="the token's source")
            except ConfigurationError:
                raise
            except KServeError as error:  # one that is asked for, and could not be had
                self._token_error = error
                return None
        scrubber.add(text)
        return read_token(text.split()[-1]) if text.split() else None

    def _auth(self) -> Finding:
        if self._token_error is not None:
            raise self._token_error
        error: KServeError | None = None
        try:
            self._detected = detect_runtime(self._timed(self.endpoint))
        except KServeError as exc:
            error = exc
        without = self._without_token() if error is None and self.endpoint.sends_credentials else "unknown"
        self._access = replace(self._access, error=error, without_token=without)
        return judge_auth(self._access)

    def _without_token(self) -> Open:
        """Whether the endpoint is open; it is asked the same without the token."""
        headers = tuple(pair for pair in self.endpoint.headers if pair[0].lower() != "authorization")
        bare = self._timed(replace(self.endpoint, token=None, headers=headers))
        try:
            detect_runtime(bare)
        except (AuthenticationError, PermissionDeniedError, RedirectError):
            return "closed"
        except KServeError:
            return "unknown"
        return "open"

    # --- the server ---------------------------------------------------------------------------------------------

    @property
    def _key(self) -> str | None:
        return self._wanted or (self._detected.runtime if self._detected is not None else None)

    @property
    def _base(self) -> Endpoint:
        """The endpoint with the path the runtime's API is under."""
        if self._detected is None or (self._wanted is not None and self._detected.runtime != self._wanted):
            return self.endpoint
        return replace(self.endpoint, base_url=self._detected.base_url)

    def _ready(self) -> Finding:
        error = self._access.error
        if error is not None and not isinstance(error, NotFoundError):
            return judge_ready(self._access, None, error)
        key = self._key
        if key is None:
            return judge_ready(self._access, None)
        self._codec = self._made(key)
        if not isinstance(self._codec, InfoRuntime):
            return judge_ready(self._access, None)
        try:
            healthy = self._run(lambda codec: codec.health())
        except KServeError as exc:
            return judge_ready(self._access, None, exc)
        return judge_ready(self._access, bool(healthy))

    def _runtime(self) -> Finding:
        version = self._detected.version if self._detected is not None else ""
        if not version and self._codec is not None:
            try:
                version = str(self._run(lambda codec: codec.version()))
            except KServeError:  # not every server tells
                version = ""
        return judge_runtime(self._detected, wanted=self._wanted, version=version, error=self._access.error)

    def _list_models(self) -> Finding:
        error: KServeError | None = None
        try:
            self._models = list(self._run(lambda codec: codec.models()))
        except KServeError as exc:
            error = exc
            names = self._detected.models if self._detected is not None else ()
            self._models = [ModelInfo(id=name) for name in names]
        if isinstance(error, (AuthenticationError, PermissionDeniedError)):
            fix = fix_for(self._access, error)
            return Finding(step="models", status="failed", title=error.message, fix=fix)
        self._models = [self._described(model) for model in self._models]
        listed = self._key != "tgis"  # which answers with whatever name it was asked for
        return judge_models(self._models, wanted=self._model, listed=listed, error=error)

    def _described(self, model: ModelInfo) -> ModelInfo:
        """A model with its context window, if the server tells it elsewhere."""
        if model.max_model_len or not model.id or len(self._models) > _MOST_DESCRIBED:
            return model
        try:
            told: ModelInfo = self._run(lambda codec: codec.model_info(model.id))
        except KServeError:
            return model
        return replace(
            model,
            max_model_len=told.max_model_len,
            kind=model.kind or told.kind,
            extra={**told.extra, **model.extra},
        )

    # --- requests -----------------------------------------------------------------------------------------------

    def _try_tasks(self) -> None:
        examination = self._examination
        if not examination.going or self._codec is None:
            for name in TASKS:
                examination.ready_for(name)
            return
        for task in TASKS:
            self._tried.append(self._try_task(task))
        fixes: dict[Task, str] = {
            item.task: fix_for(self._access, item.error) for item in self._tried if item.error is not None
        }
        tensors = self._key in _TENSOR_SERVERS
        for finding in judge_tasks(self._tried, runtime=self._codec.name, tensors=tensors, fix=fixes):
            examination.note(finding)

    def _try_task(self, task: Task) -> Tried:
        if task == "generate" and not self._generate:
            return Tried(task=task, outcome="untried", note="left out, as you said")
        if not supports(self._codec, task):
            return Tried(task=task, outcome="untried")
        tried: Tried | None = None
        for model in self._candidates(task):
            if self._examination.deadline.passed():
                break
            client: RuntimeClient[Any] = RuntimeClient(self._timed(self._base), self._codec)
            try:
                tried = self._attempted(client, task, model)
            finally:
                client.close()
            if tried.outcome != "refused":
                return tried
        if tried is not None:
            return tried
        return Tried(task=task, outcome="untried", note="no time was left; give more with --timeout")

    def _attempted(self, client: RuntimeClient[Any], task: Task, model: str | None) -> Tried:
        try:
            return bounded(lambda: attempt(client, task, model), self._examination.deadline)
        except KServeError as error:
            return Tried(task=task, outcome="failed", model=model, error=error)

    def _candidates(self, task: Task) -> list[str | None]:
        """The models to ask for a task, the likeliest first."""
        if self._model is not None:
            return [self._model]
        named = [model for model in self._models if model.id and model.parent is None]
        # Models that embed can rank as well on some servers.
        order: list[str | None] = [task, "embed", None] if task == "rerank" else [task, None]
        named.sort(key=lambda model: order.index(model.kind) if model.kind in order else len(order))
        return [model.id for model in named[:_MOST_TRIED]] or [None]

    # --- calls --------------------------------------------------------------------------------------------------

    def _made(self, key: str) -> Any:
        base = self._base
        options: dict[str, Any] = {"base_path": base.base_path, "model": self._model}
        if key != "vllm":
            options["protocol"] = "grpc" if base.is_grpc else "rest"
        elif base.is_grpc:
            msg = "vLLM is spoken to over REST only."
            raise ConfigurationError(msg, hint="Give its https:// or http:// URL.")
        return get_runtime(key).create(**options)

    def _timed(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint with what is left of the time, and no second tries."""
        left = max(0.05, self._examination.deadline.left() or 0.05)
        connect = min(endpoint.connect_timeout, left)
        idle = left if endpoint.idle_timeout is None else min(endpoint.idle_timeout, left)
        return replace(
            endpoint, timeout=left, idle_timeout=idle, connect_timeout=connect, max_retries=0, stream_invoke=False
        )

    def _run(self, make: Callable[[Any], Any]) -> Any:
        client: RuntimeClient[Any] = RuntimeClient(self._timed(self._base), self._codec)
        try:
            return client.run(make(self._codec))
        finally:
            client.close()


def _spoken_to(endpoint: Endpoint, protocol: str | None, runtime: str | None) -> Endpoint:
    """The endpoint under the scheme that says what is spoken.

    Raises:
        ConfigurationError: If URL and protocol say different things.
    """
    if protocol not in {None, "rest", "grpc"}:
        msg = f"protocol must be 'rest' or 'grpc', not {protocol!r}."
        raise ConfigurationError(msg)
    if protocol == "rest" and (endpoint.is_grpc or runtime == "tgis"):
        what = "The URL names a gRPC server" if endpoint.is_grpc else "TGIS speaks gRPC only"
        msg = f"{what}, and protocol is 'rest'."
        raise ConfigurationError(msg, hint="Leave protocol out.")
    discovered = endpoint.discovered is not None and endpoint.discovered.protocol == "grpc"
    if endpoint.is_grpc or not (protocol == "grpc" or runtime == "tgis" or (discovered and protocol is None)):
        return endpoint
    scheme, _, rest = endpoint.base_url.partition(":")
    return replace(endpoint, base_url=f"{_GRPC_SCHEMES[scheme]}:{rest}")
