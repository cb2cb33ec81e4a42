"""The examination: every step in turn, each left out if an earlier one failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from kserve_core.credentials import ApiKey
from kserve_core.deadline import Deadline
from kserve_core.doctor.bounded import bounded
from kserve_core.doctor.findings import Finding, Report
from kserve_core.doctor.network_steps import NetworkSteps
from kserve_core.doctor.scrub import Scrubber
from kserve_core.doctor.server_steps import ServerSteps
from kserve_core.endpoint import Endpoint
from kserve_core.errors import ConfigurationError, KServeError

OnFinding = Callable[[Finding], None]
STEPS = (
    "dns",
    "tcp",
    "tls",
    "http2",
    "auth",
    "ready",
    "runtime",
    "models",
    "generate",
    "embed",
    "rerank",
)
"""All steps, in order; `cluster` comes before them where a cluster is asked."""


def examine(
    endpoint: Endpoint | str,
    *,
    api_key: ApiKey | None = None,
    model: str | None = None,
    runtime: str | None = None,
    protocol: Literal["rest", "grpc"] | None = None,
    generate: bool = True,
    timeout: float = 60.0,
    on_finding: OnFinding | None = None,
    **options: Any,
) -> Report:
    """Examines an endpoint from the name to an answer, and says what is wrong and what to do about it.

    A few harmless requests are sent, and at most one small request for text, a vector and a ranking each. Nobody but
    the endpoint is contacted, and it gets the token only over a connection that is as safe as for every other call.

    Args:
        endpoint: The endpoint, or its URL.
        api_key: As in `Endpoint.create`, for a URL; so are `options` (`ca_cert`, `client_cert`, ...).
        model: The model to try; what is served if not given.
        runtime: The runtime's key (`vllm`, `caikit`, ...); asked of the server if not given.
        protocol: `grpc` to speak gRPC at an https or http URL.
        generate: Whether to have some text generated; a few tokens.
        timeout: Seconds for everything.
        on_finding: Called with each finding as soon as there is one.
        **options: Other arguments of `Endpoint.create`.

    Raises:
        ConfigurationError: If something cannot be used as given, such as a token file that cannot be read.
    """
    if not isinstance(endpoint, Endpoint):
        endpoint = Endpoint.create(endpoint, api_key=api_key, **options)
    elif api_key is not None or options:
        msg = "An endpoint has its own settings; give them when it is made."
        raise ConfigurationError(msg)
    examination = Examination(timeout=timeout, on_finding=on_finding)
    return examination.run(endpoint, model=model, runtime=runtime, protocol=protocol, generate=generate)


async def aexamine(
    endpoint: Endpoint | str,
    *,
    api_key: ApiKey | None = None,
    model: str | None = None,
    runtime: str | None = None,
    protocol: Literal["rest", "grpc"] | None = None,
    generate: bool = True,
    timeout: float = 60.0,
    on_finding: OnFinding | None = None,
    **options: Any,
) -> Report:
    """As `examine`, from an event loop; it works in a thread, which `on_finding` is called from.

    If it is cancelled, the thread ends by itself, within `timeout`.
    """

    def work() -> Report:
        return examine(
            endpoint,
            api_key=api_key,
            model=model,
            runtime=runtime,
            protocol=protocol,
            generate=generate,
            timeout=timeout,
            on_finding=on_finding,
            **options,
        )

    return await asyncio.to_thread(work)


class Examination:
    """One examination: its time budget, its findings, and what must not be in them.

    Args:
        timeout: Seconds for everything.
        on_finding: Called with each finding.
    """

    def __init__(self, *, timeout: float, on_finding: OnFinding | None = None) -> None:
        self.deadline = Deadline.after(timeout)
        self.scrubber = Scrubber()
        self.findings: list[Finding] = []
        self._timeout = timeout
        self._start = time.monotonic()
        self._on_finding = on_finding
        self._failed = ""

    def run(
        self,
        endpoint: Endpoint,
        *,
        model: str | None = None,
        runtime: str | None = None,
        protocol: Literal["rest", "grpc"] | None = None,
        generate: bool = True,
        asking: Mapping[str, object] | None = None,
    ) -> Report:
        """Takes all steps.

        Raises:
            ConfigurationError: If something cannot be used as given.
        """
        server = ServerSteps(
            self, endpoint, model=model, runtime=runtime, protocol=protocol, generate=generate, asking=asking
        )
        network = NetworkSteps(self, server.endpoint, grpc=server.grpc)
        network.take()
        server.take()
        snippets = {key: self.scrubber.text(text) for key, text in server.snippets().items()} if self.going else {}
        return self.report(endpoint.base_url, snippets)

    def report(self, target: str, snippets: Mapping[str, str] | None = None) -> Report:
        """What was found so far."""
        return Report(
            target=target,
            findings=tuple(self.findings),
            snippets=snippets or {},
            seconds=time.monotonic() - self._start,
        )

    @property
    def going(self) -> bool:
        """Whether no step has failed."""
        return not self._failed

    def note(self, finding: Finding) -> None:
        """Takes a finding up."""
        finding = self.scrubber.finding(finding)
        if finding.status == "failed" and finding.step not in {"generate", "embed", "rerank"}:
            self._failed = self._failed or finding.step
        self.findings.append(finding)
        if self._on_finding is not None:
            self._on_finding(finding)

    def step(self, name: str, work: Callable[[], Finding]) -> Finding | None:
        """Takes a step, if the earlier ones let it.

        Returns:
            Its finding, or None if it was left out.
        """
        if not self.ready_for(name):
            return None
        start = time.monotonic()
        finding = self.guarded(name, work)
        if finding.seconds is None and finding.status != "skipped":
            finding = replace(finding, seconds=time.monotonic() - start)
        self.note(finding)
        return finding

    def ready_for(self, name: str) -> bool:
        """Whether a step can be taken; if not, it is noted why."""
        if self._failed:
            from kserve_core.doctor.render import LABELS

            label = LABELS.get(self._failed, self._failed)
            self.note(
                Finding(
                    step=name, status="skipped", title=f"not tried, as {label} failed", facts={"after": self._failed}
                )
            )
            return False
        if self.deadline.passed():
            title = f"the time for everything is over ({self._timeout:g} s)"
            fix = "Give more: --timeout SECONDS."
            self.note(Finding(step=name, status="failed", title=title, fix=fix))
            return False
        return True

    def guarded(self, name: str, work: Callable[[], Finding]) -> Finding:
        """A step's finding, whatever happens in it."""
        try:
            return bounded(work, self.deadline)
        except KServeError as error:
            return Finding(step=name, status="failed", title=error.message, fix=error.hint)
        except Exception as exc:  # noqa: BLE001 - a mistake here must not hide what else is found, nor show what it held
            title = f"the check itself went wrong ({type(exc).__name__})"
            return Finding(step=name, status="failed", title=title, fix="Please report this.")
