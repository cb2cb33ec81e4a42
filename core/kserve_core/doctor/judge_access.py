"""What the answer to the first questions means: whether one is let in, and whether something serves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Literal

from kserve_core import hints
from kserve_core.discovery.facts import Discovery
from kserve_core.doctor.findings import Finding
from kserve_core.doctor.judge_tls import CLIENT_FIX, ago
from kserve_core.doctor.jwt import API_SERVER, TokenFacts
from kserve_core.doctor.rbac import Rule, needed_rule
from kserve_core.endpoint import Endpoint
from kserve_core.error_bodies import is_html
from kserve_core.errors import (
    AuthenticationError,
    BadResponseError,
    EndpointConnectionError,
    EndpointTimeoutError,
    KServeError,
    NotReadyError,
    PermissionDeniedError,
    RedirectError,
    ServerError,
    StoppedError,
    TLSError,
)

Open = Literal["open", "closed", "unknown"]

_SAID = 160
"""The most characters of a server's words that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What is known when access is judged.

    Attributes:
        endpoint: The endpoint.
        token: What the token says about itself; None if there is none.
        source: Where the token comes from, in words.
        error: What the first questions brought; None for an answer.
        without_token: Whether the endpoint also answers without the token.
        now: Seconds since the epoch.
    """

    endpoint: Endpoint
    token: TokenFacts | None = None
    source: str = ""
    error: KServeError | None = None
    without_token: Open = "unknown"  # noqa: S105 - no password
    now: float

    @property
    def discovered(self) -> Discovery | None:
        """What the cluster said."""
        return self.endpoint.discovered


def judge_auth(access: Access) -> Finding:
    """Whether the token is accepted, or none needed."""
    error = access.error
    facts: dict[str, object] = {
        "token_sent": access.endpoint.sends_credentials,
        "token": access.token.to_dict() if access.token else None,
        "needed": {"open": False, "closed": True}.get(access.without_token),
        "status": error.status if error is not None else None,
    }
    if isinstance(error, (AuthenticationError, PermissionDeniedError, RedirectError)):
        return _refused(access, error, facts)
    if error is not None and _unanswered(error):
        title = f"not to be told{' while nothing serves' if isinstance(error, NotReadyError) else ': see Ready'}"
        return Finding(step="auth", status="skipped", title=title, detail=_about(access), facts=facts)
    if not access.endpoint.sends_credentials:
        return Finding(step="auth", status="ok", title="no token was sent, and none is needed", facts=facts)
    ends = access.token.expires if access.token is not None else None
    detail = _about(access)
    if access.without_token == "open":  # noqa: S105 - no password
        title = "a token was sent, but the endpoint answers without one as well"
        return Finding(step="auth", status="ok", title=title, detail=detail, facts=facts)
    title = "the token is accepted"
    if ends is not None and ends - access.now < 600:
        left = ago(timedelta(seconds=max(0.0, ends - access.now)))
        fix = f"Give a file that is renewed, or a fresh token: oc create token {_account(access)} --duration=1h"
        title = f"the token is accepted, but ends in {left}"
        return Finding(step="auth", status="warning", title=title, detail=detail, fix=fix, facts=facts)
    return Finding(step="auth", status="ok", title=title, detail=detail, facts=facts)


def judge_ready(access: Access, healthy: bool | None, error: KServeError | None = None) -> Finding:
    """Whether the model can answer.

    Args:
        access: What is known.
        healthy: What the runtime said of itself; None if it was not asked.
        error: What asking it brought; the error of the first questions if those were not answered.
    """
    if error is None and healthy is not False:
        if healthy is None:
            return Finding(step="ready", status="ok", title="it answers", facts={"ready": True})
        return Finding(step="ready", status="ok", title="the server says it is ready", facts={"ready": True})
    facts = {"ready": False, "status": error.status if error else None, "layer": error.layer if error else "runtime"}
    detail = _cluster_says(access.discovered)
    if error is None:
        title = "the server says it is not ready"
        return Finding(step="ready", status="failed", title=title, detail=detail, fix=hints.LOADING, facts=facts)
    if not _unanswered(error):  # such as a path that a gateway does not pass on; the model itself is asked later
        title = f"not told ({_one_line(error.message)})"
        return Finding(step="ready", status="skipped", title=title, detail=detail, facts={"ready": None})
    detail = "\n".join(part for part in (_answered_by(error), detail) if part)
    title, fix = _ready_title(error), _ready_fix(error)
    return Finding(step="ready", status="failed", title=title, detail=detail, fix=fix, facts=facts)


def fix_for(access: Access, error: KServeError) -> str:
    """What to do about an error at any later step."""
    if isinstance(error, PermissionDeniedError):
        return _grant(access, error)
    if isinstance(error, (AuthenticationError, RedirectError)):
        return _token_fix(access, error)
    return error.hint


def token_source(endpoint: Endpoint) -> str:
    """Where an endpoint's token comes from, in words that do not show it."""
    token = endpoint.token
    if token is None:
        return "an Authorization header" if endpoint.sends_credentials else ""
    path, name = getattr(token, "path", None), getattr(token, "name", None)
    if isinstance(path, str):
        return f"the file {path}"
    if isinstance(name, str):
        return f"the variable {name}"
    return {"StaticToken": "api_key", "CallableToken": "a function"}.get(type(token).__name__, type(token).__name__)


def _refused(access: Access, error: KServeError, facts: dict[str, object]) -> Finding:
    sent = access.endpoint.sends_credentials
    status = f" (HTTP {error.status})" if error.status else ""
    if _is_sign_in(error):
        title = f"a sign-in page for people came instead of the model{status}"
        problem = _token_problem(access)
        title = f"{title}; the token: {problem}" if problem and sent else title
        fix = _token_fix(access, error)
        if isinstance(error, PermissionDeniedError) and sent and not problem:
            rule = replace(_rule(access, error), resource="services", group="")
            fix += (
                "\nIf it is good, its subject lacks a permission: the older oauth-proxy wants the verb `get` on "
                f"`services`.\n{_indented(rule)}"
            )
    elif isinstance(error, PermissionDeniedError) and error.hint.startswith(hints.RESTRICTED):
        title, fix = f"this API is not open to everybody{status}", hints.RESTRICTED
    elif isinstance(error, PermissionDeniedError):
        rule = _rule(access, error)
        facts["rule"] = rule.to_dict()
        who = rule.subject or "the token's subject"
        title = f"{who} is known, but may not call this model (HTTP {error.status or 403})"
        fix = _grant(access, error)
    elif isinstance(error, RedirectError):
        title, fix = error.message, error.hint
    else:
        problem = _token_problem(access)
        if error.hint.startswith(hints.PAGE):
            title, problem = f"a web page came instead of data{status}", ""
        elif not sent:
            title = f"a token is needed, and none was given{status}"
        else:
            title = f"the token is not accepted{status}"
        title = f"{title}: {problem}" if problem and sent else title
        fix = _token_fix(access, error)
    detail = "\n".join(part for part in (_answered_by(error), _about(access)) if part)
    return Finding(step="auth", status="failed", title=title, detail=detail, fix=fix, facts=facts)


def _token_problem(access: Access) -> str:
    token = access.token
    if token is None:
        return ""
    if token.expires is not None and token.expires < access.now:
        return f"it expired {ago(timedelta(seconds=access.now - token.expires))} ago"
    if token.starts is not None and token.starts > access.now + 60:
        return "it is not good yet (is this machine's clock right?)"
    if token.is_for_api_server() is False:
        return f"it is for the audience {', '.join(token.audiences)}"
    return ""


def _token_fix(access: Access, error: KServeError) -> str:
    if isinstance(error, RedirectError):
        return error.hint
    token, sent = access.token, access.endpoint.sends_credentials
    fresh = f"oc create token {_account(access)} --duration=1h > token"
    if error.hint.startswith(hints.PAGE):
        return hints.PAGE
    if not sent:
        return f"Give one by --token-file FILE (or KSERVE_API_KEY_FILE, KSERVE_API_KEY). To get one:\n  {fresh}"
    if token is not None and token.expires is not None and token.expires < access.now:
        return (
            f"A fresh one:\n  {fresh}\nPrograms that run longer give a file that is renewed: api_key=Path(token file)."
        )
    if token is not None and token.is_for_api_server() is False:
        return (
            f"Auth proxies want tokens for the cluster's API server ({API_SERVER}; on ROSA and hosted clusters the "
            f"service account issuer). Leave the audience out when asking for it:\n  {fresh}"
        )
    return (
        "It may be of another cluster, or its service account was deleted. Check that the file holds only the token; "
        f"a fresh one:\n  {fresh}"
    )


def _grant(access: Access, error: KServeError) -> str:
    if error.hint.startswith(hints.RESTRICTED):
        return hints.RESTRICTED
    rule = _rule(access, error)
    kind = f"{rule.resource}.{rule.group}" if rule.group else rule.resource
    lead = f"It lacks the verb `{rule.verb}` on `{kind}`"
    if not rule.said:
        lead = f"Endpoints behind kube-rbac-proxy want the verb `{rule.verb}` on `{kind}`"
    older = "" if rule.said else "\nBehind the older oauth-proxy it is `get` on `services` in the namespace."
    return f"{lead}; whoever administers the namespace grants it by\n{_indented(rule)}{older}"


def _rule(access: Access, error: KServeError) -> Rule:
    return needed_rule(error.server_message, access.endpoint.host, access.token, access.discovered)


def _indented(rule: Rule) -> str:
    return "\n".join(f"  {command}" for command in rule.commands())


def _is_sign_in(error: KServeError) -> bool:
    """Whether people were to sign in: by a page, whatever its status, or a redirect to one."""
    if error.hint.startswith(hints.SIGN_IN):
        return True
    page = error.response is not None and is_html(error.response.content)
    said = error.server_message.lower()
    return page and any(words in said for words in ("log in", "login", "sign in", "oauth"))


def _account(access: Access) -> str:
    account = access.token.service_account if access.token is not None else None
    if account is not None:
        return f"{account[1]} -n {account[0]}"
    found = access.discovered
    return f"{found.name}-sa -n {found.namespace}" if found is not None else "<serviceaccount> -n <namespace>"


def _about(access: Access) -> str:
    """The token in words."""
    token = access.token
    if token is None:
        return f"token from {access.source}" if access.source else ""
    parts = [f"{token.kind} from {access.source}"]
    if token.subject:
        parts.append(f"of {token.subject}")
    if token.expires is not None:
        moment = _moment(token.expires)
        parts.append(f"{'expired' if token.expires < access.now else 'good until'} {moment}")
    return ", ".join(parts)


def _moment(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, timezone.utc):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):
        return "a time far off"


def _answered_by(error: KServeError) -> str:
    if error.layer in {"client", "network"} or not error.server_message:
        return ""
    said = error.server_message
    return f"the {error.layer} said: {said if len(said) <= _SAID else said[:_SAID].rstrip() + ' ...'}"


def _unanswered(error: KServeError) -> bool:
    """Whether an error says that nothing that could have answered did."""
    if isinstance(error, BadResponseError):
        return error.layer in {"network", "router"}
    kinds = (NotReadyError, EndpointConnectionError, EndpointTimeoutError, ServerError, AuthenticationError)
    return isinstance(error, (*kinds, PermissionDeniedError, RedirectError))


def _ready_title(error: KServeError) -> str:
    status = f" (HTTP {error.status})" if error.status else ""
    if isinstance(error, StoppedError):
        return f"the model is stopped on purpose{status}"
    if isinstance(error, NotReadyError) and error.status == 504:
        return f"something in front of the model gave up waiting for it{status}"
    if isinstance(error, NotReadyError) and error.layer in {"router", "gateway"}:
        return f"nothing serves this route{status}"
    if isinstance(error, NotReadyError):
        return f"the model is not ready yet{status}"
    if error.server_message and error.server_message in error.message:
        return f"the {error.layer} answered with an error{status}"
    return error.message


def _ready_fix(error: KServeError) -> str:
    if isinstance(error, StoppedError):
        return error.hint
    if isinstance(error, TLSError) and "certificate required" in error.message:  # TLS 1.3 says so only now
        return CLIENT_FIX
    if isinstance(error, NotReadyError) and error.layer in {"router", "gateway"} and error.status != 504:
        return (
            "Nothing serves this route: the model is being started, is scaled to zero or stopped, or the host is "
            "wrong. See\n  oc get inferenceservice,pods -n <namespace>\n"
            "A model that is being started takes minutes; run this again then."
        )
    if isinstance(error, NotReadyError) and error.status != 504:
        return "The model is being loaded; run this again in a while. Calls wait for it up to their timeout=..."
    return error.hint


def _cluster_says(found: Discovery | None) -> str:
    if found is None or found.ready:
        return ""
    said = [found.failure] if found.failure else [str(item) for item in found.conditions if item.status != "True"][:3]
    return "\n".join(f"the cluster says: {text}" for text in said if text)


def _one_line(text: str) -> str:
    return " ".join(text.split())[:120]


def epoch_now() -> float:
    """Seconds since the epoch."""
    return time.time()


def names(values: Sequence[str], most: int = 6) -> str:
    """Names in a line."""
    return ", ".join(values[:most]) + (f" and {len(values) - most} more" if len(values) > most else "")
