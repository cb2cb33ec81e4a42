"""Where the cluster is and as whom to ask it: kubeconfig files, a pod's service account, TLS."""

from __future__ import annotations

import base64
import json
import os
import pickle
import ssl
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trustme

from kserve_core.credentials import FileToken
from kserve_core.discovery import cluster, connect
from kserve_core.discovery.cluster import ClusterAccess
from kserve_core.discovery.connect import adiscover, discover
from kserve_core.discovery.exec_plugin import ExecToken
from kserve_core.errors import AuthenticationError, ConfigurationError, EndpointConnectionError, TLSError
from tests.unit.core.discovery.kube import INSIDE, ISVC, NS, OUTSIDE, TOKEN, Kube, isvc, kubeconfig

URL = "https://api.example.com:6443"


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def access(path: Path, **options: Any) -> ClusterAccess:
    return ClusterAccess(kubeconfig=str(path), **options)


def sent_token(kube: Kube) -> str:
    return {name.lower(): value for name, value in kube.seen[-1].headers.items()}.get("authorization", "")


# --- kubeconfig files -------------------------------------------------------------------------------------------


def test_yaml_and_json_say_the_same(tmp_path: Path) -> None:
    yaml = f"""
apiVersion: v1
kind: Config
current-context: here
contexts:
- name: here
  context: {{cluster: c, user: u, namespace: team}}
clusters:
- name: c
  cluster:
    server: {URL}
users:
- name: u
  user:
    token: {TOKEN}
"""
    for path in (
        write(tmp_path / "a", yaml),
        write(tmp_path / "b", kubeconfig({"server": URL}, {"token": TOKEN}, "team")),
    ):
        server = access(path).server()
        assert (server.endpoint.base_url, server.namespace) == (URL, "team")
        assert server.endpoint.token is not None
        assert server.endpoint.token.token() == TOKEN
        assert TOKEN not in repr(server)


def test_yaml_without_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = write(tmp_path / "config", f"users: [{{name: u, user: {{token: {TOKEN}}}}}]")
    with pytest.raises(ConfigurationError, match="no YAML reader") as caught:
        access(path).server()
    assert "kserve-integrations[discovery]" in caught.value.hint
    assert access(write(path, kubeconfig({"server": URL}, {}))).server().endpoint.base_url == URL


def test_a_broken_file_is_not_quoted(tmp_path: Path) -> None:
    for text in (f"users: [token: {TOKEN}", f"- {TOKEN}", TOKEN):
        with pytest.raises(ConfigurationError) as caught:
            access(write(tmp_path / "config", text)).server()
        assert TOKEN not in str(caught.value)
        assert caught.value.__cause__ is None


def test_a_list_of_files_is_merged_and_the_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = write(
        tmp_path / "first", {"current-context": "there", "users": [{"name": "u", "user": {"token": "from-first"}}]}
    )
    second = write(tmp_path / "second", kubeconfig({"server": URL}, {"token": "from-second"}, "team", "there"))
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join([str(first), "", str(tmp_path / "absent"), str(second)]))
    server = ClusterAccess().server()
    assert (server.endpoint.base_url, server.namespace) == (URL, "team")
    assert server.endpoint.token is not None
    assert server.endpoint.token.token() == "from-first"


def test_contexts(tmp_path: Path) -> None:
    config = kubeconfig({"server": URL}, {"token": TOKEN})
    config["contexts"].append({"name": "other", "context": {"cluster": "c", "user": "u"}})
    config["contexts"].append({"name": "broken", "context": {"cluster": "gone", "user": "u"}})
    path = write(tmp_path / "config", config)
    assert access(path, context="other").server().namespace == "default"
    with pytest.raises(ConfigurationError, match="no context 'x'") as caught:
        access(path, context="x").server()
    assert "'other'" in caught.value.hint
    with pytest.raises(ConfigurationError, match="gone"):
        access(path, context="broken").server()
    with pytest.raises(ConfigurationError, match="No context is chosen"):
        access(write(tmp_path / "none", {**config, "current-context": ""})).server()


def test_the_default_file_and_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no access to a cluster") as caught:
        discover("m")
    assert "oc login" in caught.value.hint
    (tmp_path / ".kube").mkdir()
    write(tmp_path / ".kube" / "config", kubeconfig({"server": URL}, {"token": TOKEN}))
    assert ClusterAccess().server().endpoint.base_url == URL
    with pytest.raises(ConfigurationError, match="no kubeconfig file"):
        access(tmp_path / "absent").server()


def test_relative_paths_start_at_the_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub" / "token", TOKEN)
    path = write(
        tmp_path / "sub" / "config",
        kubeconfig({"server": URL, "certificate-authority": "ca.pem"}, {"tokenFile": "token"}),
    )
    server = access(path).server()
    assert server.endpoint.token == FileToken(tmp_path / "sub" / "token")
    assert server.endpoint.token.token() == TOKEN
    assert server.endpoint.trust.ca_cert == (str(tmp_path / "sub" / "ca.pem"),)


@pytest.mark.parametrize(
    ("cluster_entry", "user", "words"),
    [
        ({"server": URL}, {"username": "u", "password": "canary"}, "user name and a password"),
        ({"server": URL}, {"auth-provider": {"name": "oidc"}}, "auth-provider"),
        ({"server": URL}, {"token": "with space canary"}, "character"),
        ({"server": URL}, {"client-certificate-data": "Y2FuYXJ5"}, "not base64 of PEM"),
        (
            {"server": URL},
            {"client-key-data": base64.b64encode(b"-----BEGIN canary").decode()},
            "without its certificate",
        ),
        ({"server": URL}, {"as": "x", "as-groups": ["a", "b"]}, "several groups"),
        ({"server": URL, "certificate-authority-data": "%%%"}, {}, "not base64 of PEM"),
        ({"server": URL, "proxy-url": "socks5://u:canary@h:1"}, {}, "socks5"),
        ({"server": "http://api.example.com"}, {"token": "canary"}, "unencrypted"),
        ({"server": ""}, {}, "no server"),
        ({"server": "nonsense"}, {}, "cannot be used"),
    ],
)
def test_what_is_refused_says_why(tmp_path: Path, cluster_entry: Any, user: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        access(write(tmp_path / "config", kubeconfig(cluster_entry, user))).server()
    assert caught.value.hint
    assert "canary" not in str(caught.value)


def test_acting_as_somebody_else(kube: Kube, tmp_path: Path) -> None:
    discover("m", kubeconfig=kube.kubeconfig(tmp_path, user={"token": TOKEN, "as": "jane", "as-groups": ["devs"]}))
    sent = {name.lower(): value for name, value in kube.seen[0].headers.items()}
    assert (sent["impersonate-user"], sent["impersonate-group"]) == ("jane", "devs")
    with pytest.raises(ConfigurationError):
        discover("m", kubeconfig=kube.kubeconfig(tmp_path, user={"token": TOKEN, "as": "x\r\nAuthorization: y"}))


def test_an_api_server_under_a_path(kube: Kube, tmp_path: Path) -> None:
    kube.documents = {f"/k8s/clusters/c-1{ISVC}": isvc()}
    found = discover("m", kubeconfig=kube.kubeconfig(tmp_path, cluster={"server": f"{kube.url}/k8s/clusters/c-1"}))
    assert found.url == OUTSIDE


def test_a_refused_token_says_to_log_in(kube: Kube, tmp_path: Path) -> None:
    kube.tokens = {"another"}
    with pytest.raises(AuthenticationError, match="Kubernetes API") as caught:
        discover("m", kubeconfig=kube.kubeconfig(tmp_path))
    assert "oc login" in caught.value.hint
    assert TOKEN not in str(caught.value)


def test_nobody_there(tmp_path: Path) -> None:
    with Kube() as gone:
        path = gone.kubeconfig(tmp_path)
    access_ = ClusterAccess(kubeconfig=str(path), timeout=0.2)
    with pytest.raises(EndpointConnectionError), Client(access_) as client:
        client.run(access_.server().api.inference_service(NS, "m"))


class Client:
    def __init__(self, access_: ClusterAccess) -> None:
        self.client = access_.server().client()

    def __enter__(self) -> Any:
        return self.client

    def __exit__(self, *_: object) -> None:
        self.client.close()


# --- exec -------------------------------------------------------------------------------------------------------


def plugin(folder: Path, body: str, **spec: Any) -> dict[str, Any]:
    """A credential plugin that counts its runs in the file `runs`."""
    path = folder / "plugin.py"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        f"open({str(folder / 'runs')!r}, 'a').write('x')\nTOKEN = {TOKEN!r}\n{body}\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin.py", **spec}}


def runs(folder: Path) -> int:
    path = folder / "runs"
    return len(path.read_text()) if path.exists() else 0


PRINT = "print(json.dumps({'kind': 'ExecCredential', 'status': {'token': TOKEN%s}}))"


def test_exec_runs_only_if_allowed(kube: Kube, tmp_path: Path) -> None:
    path = kube.kubeconfig(tmp_path, user=plugin(tmp_path, PRINT % ""))
    with pytest.raises(ConfigurationError, match=r"plugin\.py") as caught:
        discover("m", kubeconfig=path)
    assert "allow_exec=True" in caught.value.hint
    assert runs(tmp_path) == 0
    assert kube.seen == []
    kube.tokens = {TOKEN}
    assert discover("m", kubeconfig=path, allow_exec=True).url == OUTSIDE
    assert runs(tmp_path) == 1
    assert len(kube.seen) > 3


async def test_exec_beside_an_event_loop(kube: Kube, tmp_path: Path) -> None:
    kube.tokens = {TOKEN}
    path = kube.kubeconfig(tmp_path, user=plugin(tmp_path, PRINT % ", 'expirationTimestamp': '2999-01-01T00:00:00Z'"))
    assert (await adiscover("m", kubeconfig=path, allow_exec=True)).url == OUTSIDE
    assert runs(tmp_path) == 1


def test_an_expired_or_refused_token_runs_it_again(tmp_path: Path) -> None:
    spec = plugin(tmp_path, PRINT % ", 'expirationTimestamp': '2001-01-01T00:00:00Z'")
    access_ = access(write(tmp_path / "c", kubeconfig({"server": URL}, spec)), allow_exec=True)
    token = access_.server().endpoint.token
    assert token is not None
    assert [token.token(), token.token()] == [TOKEN, TOKEN]
    assert runs(tmp_path) == 2
    plugin(tmp_path, PRINT % "")
    assert token.token() == TOKEN
    assert runs(tmp_path) == 3
    assert access_.server().endpoint.token is token
    assert token.token() == TOKEN
    assert runs(tmp_path) == 3
    assert token.token(refresh=True) == TOKEN
    assert runs(tmp_path) == 4
    assert TOKEN not in repr(token)
    assert TOKEN.encode() not in pickle.dumps(token)


def test_exec_runs_once_for_threads_whose_token_was_refused_together(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ExecToken("plugin")
    runs: list[int] = []
    both = threading.Barrier(2)

    def run(_: ExecToken) -> tuple[str, float]:
        runs.append(1)
        return f"token-{len(runs)}", float("inf")

    class Lock:
        """Is taken once both threads are there, by one after the other."""

        def __enter__(self) -> None:
            both.wait(20)
            lock.acquire()

        def __exit__(self, *_: object) -> None:
            lock.release()

    lock = threading.Lock()
    monkeypatch.setattr(ExecToken, "_run", run)
    assert source.token() == "token-1"
    monkeypatch.setattr(source._state, "lock", Lock())
    got: list[str] = []
    threads = [threading.Thread(target=lambda: got.append(source.token(refresh=True))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert got == ["token-2", "token-2"]


def test_exec_is_told_what_it_wants_to_know(tmp_path: Path) -> None:
    body = (
        "info = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "print(json.dumps({'status': {'token': '-'.join([info['kind'], os.environ['EXTRA'], sys.argv[1]])}}))"
    )
    spec = plugin(tmp_path, body, args=["arg"], env=[{"name": "EXTRA", "value": "env"}])
    token = access(write(tmp_path / "c", kubeconfig({"server": URL}, spec)), allow_exec=True).server().endpoint.token
    assert token is not None
    assert token.token() == "ExecCredential-env-arg"


@pytest.mark.parametrize(
    ("body", "spec", "words"),
    [
        ("sys.stderr.write(TOKEN); sys.exit(3)", {}, "exit code 3"),
        ("print('not json', TOKEN)", {}, "no token"),
        ("print(json.dumps({'status': {'clientCertificateData': TOKEN}}))", {}, "client certificate"),
        ("print(json.dumps({'status': {'token': 'a b'}}))", {}, "character"),
        ("", {"command": "/nowhere/x", "installHint": "install x"}, "cannot be run"),
        ("", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "not supported"),
        ("", {"interactiveMode": "Always"}, "person"),
        ("", {"command": ""}, "no command|program"),
    ],
)
def test_exec_that_fails(tmp_path: Path, body: str, spec: Any, words: str) -> None:
    path = write(tmp_path / "c", kubeconfig({"server": URL}, plugin(tmp_path, body, **spec)))
    with pytest.raises(ConfigurationError, match=words) as caught:
        access(path, allow_exec=True).server().endpoint.token.token()  # type: ignore[union-attr]
    assert TOKEN not in str(caught.value)


# --- in a pod ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(cluster.SERVICE_ACCOUNT)
    folder.mkdir()
    write(folder / "token", f"{TOKEN}\n")
    write(folder / "namespace", NS)
    monkeypatch.setenv(cluster.HOST_VARIABLE, "10.0.0.1")
    monkeypatch.setenv(cluster.PORT_VARIABLE, "443")
    return folder


def test_the_service_account(pod: Path) -> None:
    server = ClusterAccess().server()
    assert (server.endpoint.base_url, server.namespace, server.in_cluster) == ("https://10.0.0.1", NS, True)
    write(pod / "token", "rotated")
    assert server.endpoint.token is not None
    assert server.endpoint.token.token() == "rotated"


@pytest.mark.parametrize("host", ["fd00::1", "[fd00::1]"])
def test_ipv6(pod: Path, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv(cluster.HOST_VARIABLE, host)
    monkeypatch.setenv(cluster.PORT_VARIABLE, "6443")
    assert ClusterAccess().server().endpoint.base_url == "https://[fd00::1]:6443"


def test_which_comes_first(pod: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".kube").mkdir()
    config = kubeconfig({"server": URL}, {"token": TOKEN})
    default = write(tmp_path / ".kube" / "config", config)
    assert ClusterAccess().server().in_cluster
    assert not ClusterAccess(context="here").server().in_cluster
    assert not access(default).server().in_cluster
    monkeypatch.setenv("KUBECONFIG", str(default))
    assert not ClusterAccess().server().in_cluster
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    assert ClusterAccess().server().in_cluster
    monkeypatch.delenv("KUBECONFIG")
    (pod / "token").unlink()
    assert not ClusterAccess().server().in_cluster


@pytest.fixture
def tls() -> tuple[trustme.CA, ssl.SSLContext]:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1", "kubernetes.example").configure_cert(context)
    return ca, context


def test_a_pod_believes_its_own_ca(pod: Path, tls: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, context = tls
    with Kube({ISVC: isvc()}, tokens={TOKEN}, tls=context) as kube:
        monkeypatch.setenv(cluster.HOST_VARIABLE, "127.0.0.1")
        monkeypatch.setenv(cluster.PORT_VARIABLE, str(kube.port))
        (pod / "ca.crt").write_bytes(ca.cert_pem.bytes())
        found = discover("m")
        assert (found.url, found.source) == (OUTSIDE, "the pod's service account")
        (pod / "ca.crt").write_bytes(trustme.CA().cert_pem.bytes())
        with pytest.raises(TLSError):
            discover("m")


def test_inside_is_chosen_in_the_cluster_that_is_asked(
    pod: Path, tls: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca, context = tls
    with Kube({ISVC: isvc()}, tokens={TOKEN}, tls=context) as kube:
        monkeypatch.setenv(cluster.HOST_VARIABLE, "127.0.0.1")
        monkeypatch.setenv(cluster.PORT_VARIABLE, str(kube.port))
        (pod / "ca.crt").write_bytes(ca.cert_pem.bytes())
        assert discover("m").where == "outside"  # the cluster's names are not known here
        monkeypatch.setattr(connect, "CLUSTER_NAME", "localhost")
        assert discover("m").url == INSIDE
        assert discover("m", where="outside").url == OUTSIDE
        monkeypatch.setenv(cluster.HOST_VARIABLE, "10.9.9.9")
        other = kube.kubeconfig(tmp_path, cluster={"insecure-skip-tls-verify": True})
        with pytest.warns(match="not checked"):
            assert discover("m", kubeconfig=other).where == "outside"  # it may be another cluster


# --- TLS to the API server --------------------------------------------------------------------------------------


async def both(path: Path) -> None:
    assert discover("m", kubeconfig=path).url == OUTSIDE
    assert (await adiscover("m", kubeconfig=path)).url == OUTSIDE


async def test_a_ca_inline_and_in_a_file(tls: Any, tmp_path: Path) -> None:
    ca, context = tls
    pem = ca.cert_pem.bytes()
    (tmp_path / "ca.pem").write_bytes(pem)
    with Kube({ISVC: isvc()}, tls=context) as kube:
        await both(kube.kubeconfig(tmp_path, cluster={"certificate-authority": "ca.pem"}))
        data = base64.b64encode(pem).decode()
        await both(kube.kubeconfig(tmp_path, cluster={"certificate-authority-data": data}))
        with pytest.raises(TLSError):
            discover("m", kubeconfig=kube.kubeconfig(tmp_path))


def test_the_clusters_ca_is_the_only_one(tls: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, context = tls
    (tmp_path / "shared.pem").write_bytes(ca.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "shared.pem"))
    other = base64.b64encode(trustme.CA().cert_pem.bytes()).decode()
    with Kube({ISVC: isvc()}, tls=context) as kube, pytest.raises(TLSError):
        discover("m", kubeconfig=kube.kubeconfig(tmp_path, cluster={"certificate-authority-data": other}))


async def test_the_servers_name(tmp_path: Path) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("kubernetes.example").configure_cert(context)
    entry = {"certificate-authority-data": base64.b64encode(ca.cert_pem.bytes()).decode()}
    with Kube({ISVC: isvc()}, tls=context) as kube:
        with pytest.raises(TLSError):
            discover("m", kubeconfig=kube.kubeconfig(tmp_path, cluster=entry))
        await both(kube.kubeconfig(tmp_path, cluster={**entry, "tls-server-name": "kubernetes.example"}))


async def test_a_client_certificate(tls: Any, tmp_path: Path) -> None:
    ca, context = tls
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    own = ca.issue_cert("me@example.com")
    chain, key = own.cert_chain_pems[0].bytes(), own.private_key_pem.bytes()
    (tmp_path / "me.crt").write_bytes(chain)
    (tmp_path / "me.key").write_bytes(key)
    entry = {"certificate-authority-data": base64.b64encode(ca.cert_pem.bytes()).decode()}
    inline = {
        "client-certificate-data": base64.b64encode(chain).decode(),
        "client-key-data": base64.b64encode(key).decode(),
    }
    with Kube({ISVC: isvc()}, tls=context) as kube:
        for user in (
            {"client-certificate": "me.crt", "client-key": "me.key"},
            inline,
            {"client-certificate": "me.crt", "client-key-data": inline["client-key-data"]},
        ):
            path = kube.kubeconfig(tmp_path, cluster=entry, user=user)
            await both(path)
            server = access(path).server()
            assert key.decode()[40:80] not in repr(server) + repr(server.endpoint.trust)
        broken = {**inline, "client-key-data": base64.b64encode(b"-----BEGIN x").decode()}
        with pytest.raises(ConfigurationError, match="client certificate"):
            discover("m", kubeconfig=kube.kubeconfig(tmp_path, cluster=entry, user=broken))


async def test_through_the_proxy_the_kubeconfig_names(kube: Kube, tmp_path: Path) -> None:
    kube.documents = {f"http://127.0.0.1:9{ISVC}": isvc()}  # what a proxy is asked for
    path = kube.kubeconfig(tmp_path, cluster={"server": "http://127.0.0.1:9", "proxy-url": kube.url})
    await both(path)
