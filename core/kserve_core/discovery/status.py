"""How a service is, and how long things in front of it wait: out of its annotations and its status."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kserve_core.discovery.documents import Json, annotation, dig, mapping, objects, one_line, switch, text

ROUTE_TIMEOUT = "haproxy.router.openshift.io/timeout"
STOP = "serving.kserve.io/stop"
AUTH = "security.opendatahub.io/enable-auth"
_COMPONENTS = ("predictor", "transformer", "explainer")
_COMPONENT_SECONDS = 30.0
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1e-3}


@dataclass(frozen=True, slots=True)
class Condition:
    """One of the conditions a controller reports.

    Attributes:
        type: What it is about (`Ready`).
        status: `True`, `False` or `Unknown`.
        reason: A word for why.
        message: A sentence for why, bounded.
    """

    type: str
    status: str
    reason: str = ""
    message: str = ""

    def __str__(self) -> str:
        why = ": ".join(part for part in (self.reason, self.message) if part)
        return f"{self.type} is {self.status}{f' ({why})' if why else ''}"


def conditions(document: Json) -> tuple[Condition, ...]:
    """The conditions in a status."""
    return tuple(
        Condition(text(item, "type"), text(item, "status"), text(item, "reason"), one_line(text(item, "message")))
        for item in objects(document, "status", "conditions")
        if text(item, "type")
    )


def is_ready(found: tuple[Condition, ...]) -> bool | None:
    """What the condition `Ready` says; None if it says neither yes nor no."""
    status = next((item.status for item in found if item.type == "Ready"), "")
    return {"True": True, "False": False}.get(status)


def is_stopped(document: Json) -> bool:
    """Whether the service was stopped on purpose."""
    return switch(annotation(document, STOP)) is True


def failure(document: Json) -> str:
    """Why the model is not served, in the controller's words; `""` if it reports no failure."""
    status = mapping(document, "status", "modelStatus")
    parts = []
    transition = text(status, "transitionStatus")
    if transition in {"BlockedByFailedLoad", "InvalidSpec"}:
        parts.append(transition)
    for key in ("targetModelState", "activeModelState"):
        if text(status, "states", key) == "FailedToLoad" and "FailedToLoad" not in parts:
            parts.append("FailedToLoad")
    info = mapping(status, "lastFailureInfo")
    if parts or not is_ready(conditions(document)):
        parts += [text(info, "reason"), text(info, "message")]
        if type(dig(info, "exitCode")) is int and info["exitCode"]:
            parts.append(f"exit code {info['exitCode']}")
    return one_line(": ".join(part for part in parts if part))


def still_serves(document: Json) -> bool:
    """Whether an earlier revision goes on serving while a new one fails to load."""
    return text(document, "status", "modelStatus", "states", "activeModelState") == "Loaded"


def auth_setting(document: Json) -> bool | None:
    """Whether requests need a token; None if the service does not say."""
    return switch(annotation(document, AUTH))


def route_timeout(document: Json, route: Json | None) -> float:
    """Seconds of silence after which the route in front of a service gives up.

    The controller writes the sum of the components' timeouts (30 s each unless set) into the route, unless the
    service has an annotation that says otherwise.
    """
    for source in (route, document):
        seconds = duration(annotation(source, ROUTE_TIMEOUT))
        if seconds is not None:
            return seconds
    total = 0.0
    for component in _COMPONENTS:
        spec = dig(document, "spec", component)
        if component != "predictor" and not spec:
            continue
        seconds = dig(spec, "timeout")
        number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and seconds > 0
        total += float(seconds) if number else _COMPONENT_SECONDS
    return total


def duration(value: str) -> float | None:
    """Seconds of a HAProxy time (`300s`, `5m`, a bare number of milliseconds); None if it is none, or zero."""
    match = re.fullmatch(r"(\d{1,12})(us|ms|s|m|h|d)?", value.strip())
    seconds = int(match[1]) * _UNITS[match[2] or ""] if match else 0.0
    return seconds or None


def canary(document: Json) -> str:
    """What is known of a canary beside the model, which may be another model; `""` if there is none."""
    spec = mapping(document, "spec")
    names = [text(item, "name") for item in objects(spec, "canary")]
    percent = dig(spec, "predictor", "canaryTrafficPercent")
    if type(percent) is int and 0 < percent < 100:
        return f"{percent} % of the requests go to the newest revision"
    shares = [
        f"{text(item, 'name')} {item.get('trafficPercent', '?')} %"
        for item in objects(document, "status", "canaryStatuses")
    ]
    if shares or names:
        return f"some requests go to a canary ({', '.join(shares or [name for name in names if name])})"
    return ""


def scales_to_zero(document: Json, *, knative: bool) -> bool:
    """Whether the first request may have to wait for a pod."""
    least = dig(document, "spec", "predictor", "minReplicas")
    return least == 0 and type(least) is int and (knative or _is_keda(document))


def _is_keda(document: Json) -> bool:
    return annotation(document, "serving.kserve.io/autoscalerClass") in {"keda", "external"}
