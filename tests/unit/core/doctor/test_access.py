"""What is said about tokens, permissions and models that are not ready; and that no token is ever said."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from kserve_core.credentials import CallableToken
from kserve_core.devserver import DevServer
from kserve_core.doctor import Finding, Report, examine
from kserve_core.doctor.jwt import read_token
from kserve_core.doctor.rbac import needed_rule
from kserve_core.errors import ConfigurationError
from tests.unit.core.doctor.conftest import CANARY, jwt

ACCOUNT = "system:serviceaccount:demo:app"


def _answered(page: str | None = None, *, token: str | None = CANARY, **fault: Any) -> Report:
    with DevServer() as server:
        server.fault(body=page, times=None, **fault)
        report = examine(server.url, api_key=token, timeout=10)
    assert token is None or token not in f"{report}{report.to_dict()}"
    return report


def _failed(report: Report, step: str) -> Finding:
    finding = report.finding(step)
    assert finding is not None
    assert finding.status == "failed", str(report)
    assert not report.ok
    return finding


def test_no_token_where_one_is_needed() -> None:
    with DevServer(api_key=CANARY) as server:
        finding = _failed(examine(server.url, timeout=10), "auth")
    assert "none was given" in finding.title
    assert "--token-file" in finding.fix
    assert "oc create token" in finding.fix


def test_a_token_that_is_accepted_and_needed(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{CANARY}\n")
    with DevServer(api_key=CANARY) as server:
        report = examine(server.url, api_key=path, timeout=10)
    finding = report.finding("auth")
    assert finding is not None
    assert (finding.status, finding.facts["needed"]) == ("ok", True)
    assert str(path) in finding.detail
    assert CANARY not in f"{report}{report.to_dict()}{report!r}"


def test_an_endpoint_that_is_open_to_everybody_is_told() -> None:
    with DevServer() as server:
        finding = examine(server.url, api_key=CANARY, timeout=10).finding("auth")
    assert finding is not None
    assert (finding.status, finding.facts["needed"]) == ("ok", False)
    assert "without one as well" in finding.title


def test_a_token_that_expired() -> None:
    token = jwt(sub=ACCOUNT, exp=time.time() - 7300)
    finding = _failed(_answered("kube-rbac-unauthorized", token=token), "auth")
    assert "expired 2 hours ago" in finding.title
    assert "oc create token app -n demo" in finding.fix


def test_a_token_for_somebody_else() -> None:
    token = jwt(sub=ACCOUNT, exp=time.time() + 7200, aud=["vault"])
    finding = _failed(_answered("kube-rbac-unauthorized", token=token), "auth")
    assert "audience vault" in finding.title
    assert "https://kubernetes.default.svc" in finding.fix


def test_a_token_that_ends_soon_is_a_warning() -> None:
    token = jwt(sub=ACCOUNT, exp=time.time() + 125)
    with DevServer(api_key=token) as server:
        finding = examine(server.url, api_key=token, timeout=10).finding("auth")
    assert finding is not None
    assert finding.status == "warning"
    assert "ends in 2 minutes" in finding.title


@pytest.mark.parametrize(
    "fault",
    [
        {"page": "oauth-sign-in"},
        {"page": "oauth-sign-in", "status": 200},
        {"redirect": "https://oauth-openshift.apps.example/oauth/authorize?x=1", "status": 302},
    ],
)
def test_a_sign_in_page_is_a_token_that_is_missing(fault: dict[str, Any]) -> None:
    finding = _failed(_answered(token=None, **fault), "auth")
    assert "sign-in page" in finding.title
    assert "--token-file" in finding.fix


def test_a_sign_in_page_for_a_token_may_also_be_a_permission() -> None:
    finding = _failed(_answered("oauth-sign-in", token=jwt(sub=ACCOUNT)), "auth")
    assert "--verb=get --resource=services" in finding.fix
    assert "--serviceaccount=demo:app" in finding.fix


def test_a_permission_that_is_missing_is_granted_by_the_commands_shown() -> None:
    finding = _failed(_answered("kube-rbac-forbidden"), "auth")
    assert "system:serviceaccount:demo:default" in finding.title
    assert finding.facts["rule"]["resource"] == "inferenceservices"
    assert "--verb=get --resource=inferenceservices.serving.kserve.io" in finding.fix
    assert "--serviceaccount=demo:default" in finding.fix


@pytest.mark.parametrize(
    ("host", "subject", "name", "namespace"),
    [
        ("llm-predictor.demo.svc.cluster.local", "", "llm", "demo"),
        ("llm-predictor.demo.svc", "", "llm", "demo"),
        ("my-llm-demo.apps.example.com", ACCOUNT, "my-llm", "demo"),
        ("my-llm-other.apps.example.com", ACCOUNT, "", ""),
        ("model.example.com", "", "", ""),
    ],
)
def test_the_service_a_permission_is_for(host: str, subject: str, name: str, namespace: str) -> None:
    token = read_token(jwt(sub=subject)) if subject else None
    rule = needed_rule("", host, token)
    assert (rule.name, rule.namespace) == (name, namespace)
    assert rule.commands()[0].endswith(f"--resource-name={name or '<name>'}")


def test_the_words_of_the_kubernetes_api_are_understood_as_well() -> None:
    words = 'inferenceservices.serving.kserve.io "m" is forbidden: User "jo" cannot get resource "inferenceservices"'
    rule = needed_rule(words, "m.example.com", None)
    assert (rule.verb, rule.resource, rule.subject) == ("get", "inferenceservices", "jo")
    assert "--user=jo" in rule.commands()[1]


@pytest.mark.parametrize(
    ("page", "words", "fix"),
    [
        ("router-page", "nothing serves this route", "oc get inferenceservice"),
        ("not-ready", "not ready yet", "being loaded"),
        ("gateway-timeout", "gave up waiting", "haproxy.router.openshift.io/timeout"),
        ("bad-gateway", "router answered with an error", "could not reach"),
        ("upstream-reset", "nothing serves this route", "oc get inferenceservice"),
    ],
)
def test_a_model_that_is_not_ready_is_no_matter_of_the_token(page: str, words: str, fix: str) -> None:
    report = _answered(page)
    finding = _failed(report, "ready")
    assert words in finding.title
    assert fix in finding.fix
    auth = report.finding("auth")
    assert auth is not None
    assert auth.status == "skipped"


def test_something_else_that_serves_pages() -> None:
    finding = _failed(_answered("html"), "auth")
    assert "web page" in finding.title


def test_nothing_that_is_known() -> None:
    finding = _failed(_answered("empty"), "runtime")
    assert "GET /v1/models" in finding.fix


def test_a_token_that_a_server_repeats_is_taken_out_everywhere() -> None:
    echo = {"error": {"message": f"bad token {CANARY} in Bearer {CANARY}", "type": "x", "code": 401}}
    report = _answered(echo, status=401)  # type: ignore[arg-type]
    assert "***" in _failed(report, "auth").detail


def test_a_check_that_goes_wrong_itself_shows_nothing_it_held() -> None:
    def broken() -> str:
        raise RuntimeError(CANARY)

    with DevServer() as server:
        with pytest.raises(RuntimeError):
            examine(server.url, api_key=CallableToken(broken), timeout=5)
        seen = []

        def spoiled(finding: Finding) -> None:
            seen.append(finding)

        import kserve_core.doctor.server_steps as steps

        original = steps.judge_auth
        steps.judge_auth = lambda *_: broken()  # type: ignore[assignment,return-value]
        try:
            report = examine(server.url, api_key=CANARY, timeout=5, on_finding=spoiled)
        finally:
            steps.judge_auth = original
    finding = _failed(report, "auth")
    assert "RuntimeError" in finding.title
    assert CANARY not in f"{report}{seen}"


def test_a_token_file_that_is_not_there_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    with DevServer() as server:
        with pytest.raises(ConfigurationError):
            examine(server.url, api_key=tmp_path / "nothing", timeout=5)
        assert len(server.requests) == 0


@pytest.mark.parametrize(
    ("token", "kind"),
    [
        ("sha256~abc", "OpenShift user token"),
        ("sk-oai-abc", "MaaS key"),
        ("plain", "opaque token"),
        ("a.b.c", "opaque token"),
        ("e30.W10.x", "opaque token"),
        (jwt(sub="x"), "JWT"),
        (jwt(aud=7, exp="soon"), "JWT"),
    ],
)
def test_what_a_token_looks_like(token: str, kind: str) -> None:
    assert read_token(token).kind == kind
