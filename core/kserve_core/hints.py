"""What to try, in words: one place for the advice that errors carry."""

from __future__ import annotations

NOT_ACCEPTED = (
    "The token was sent and refused: it may have expired, or be of another cluster or audience. "
    "For a token that rotates give api_key=pathlib.Path('token file'). A fresh one: oc create token <serviceaccount>."
)
NOTHING_SENT = "No token was sent. Give api_key=..., or set KSERVE_API_KEY. A token: oc create token <serviceaccount>."
SIGN_IN = (
    "A sign-in page for people answered instead of the model, so the token is missing or not accepted there. "
    "Give a service account's token as api_key (oc create token <serviceaccount>)."
)
PAGE = "Something that serves web pages answers at this URL. Check base_url, and that api_key is given if it needs one."
FORBIDDEN = (
    "The token's subject lacks a permission. Endpoints behind kube-rbac-proxy want verb `get` on "
    "`inferenceservices.serving.kserve.io/<name>`; behind the older oauth-proxy `get` on `services` in the namespace; "
    "llm-d routes `get` on `llminferenceservices.serving.kserve.io/<name>` (publisher routes: `post` on "
    "`models.serving.opendatahub.io`)."
)
RESTRICTED = "The server restricts this API to requests with a certain header; give it with api_key or default_headers."
ROUTE_NOT_READY = (
    "No pod serves this route: the model is being started, is stopped or scaled to zero, or the host name is wrong. "
    "A longer timeout=... waits for it."
)
LOADING = "The model is being loaded. A longer timeout=... waits for it."
STOPPED = (
    "The InferenceService has the annotation serving.kserve.io/stop. Start it from the dashboard, or: "
    "oc annotate inferenceservice <name> serving.kserve.io/stop-"
)
ROUTE_TIMEOUT = (
    "Something in front of the model gave up waiting (routes allow 30 s of silence unless told otherwise). Stream the "
    "answer (stream_invoke=True does so for whole answers), or set the annotation "
    "haproxy.router.openshift.io/timeout on the InferenceService."
)
BAD_GATEWAY = "The proxy in front of the model could not reach it; the model's pod may have been restarted."
SERVER_FAILED = "The reason is in the model server's log."
RATE_LIMITED = "Send fewer requests at once, or ask for a higher limit."
QUOTA = "The quota is used up; waiting a moment will not help. Ask for a larger one, or wait for the next period."
TOO_LARGE = "Send less in one request: a smaller batch, or shorter texts."
CONTEXT = "Shorten the prompt, or ask for fewer tokens (max_tokens)."
CHAT_TEMPLATE = (
    "The model has no chat template. Give one with chat_template=... (a built-in format such as 'chatml', Jinja text "
    "or a file), start the server with --chat-template, or use this runtime's completion class."
)
MODEL = "The name to give as model=... is the one the server lists; it may differ from the InferenceService's name."
HTTPS = "The endpoint only speaks https: start base_url with https://."
NOT_HTTP = (
    "The port speaks https (then start base_url with https://) or gRPC (then start it with grpc:// or grpcs://, if the "
    "runtime is one that speaks gRPC)."
)
PERHAPS_HTTPS = "A server that only speaks https also does this: then start base_url with https://."
DOCTOR = "To see which server answers there: kserve-doctor <base_url>."
REDIRECT = "Redirects are not followed, so that neither token nor prompt goes elsewhere. Check base_url."
NO_END_MARKER = "If this server never sends one, strict_stream=False takes a clean end for the end of the answer."
NOT_STREAMED = "The server may not stream this; ask for the whole answer instead."
TRUNCATED = "Something in between cut the connection (a proxy's timeout, or the server stopped); its log tells."
CERTIFICATE = (
    "The server's certificate is signed by a CA that is not trusted here. Give its certificate with ca_cert='file.pem' "
    "or KSERVE_CA_CERT."
)
CERTIFICATE_SERVICE = (
    "In-cluster services are signed by the service CA: give ca_cert the file with key service-ca.crt of the ConfigMap "
    "openshift-service-ca.crt (in a pod: /var/run/secrets/kubernetes.io/serviceaccount/service-ca.crt)."
)
CERTIFICATE_ROUTE = (
    "Routes are signed by the cluster's ingress CA: give ca_cert the ca-bundle.crt of the ConfigMap "
    "odh-trusted-ca-bundle, or ask the cluster's administrator for the router's CA file."
)
HOSTNAME = "The certificate is for another host name. Use the name it was made for in base_url."
EXPIRED = (
    "The server's certificate is out of date, and its owner has to renew it; or the clock of this machine is wrong."
)
OLD_TLS = "The server speaks only versions of TLS that are older than 1.2, which are not safe and not spoken here."
NOT_THIS_CLIENT = "The server may not accept the client certificate; its log tells."
CLIENT_CERTIFICATE = "The server may want a client certificate: give client_cert=(certificate file, key file)."
NOT_TLS = "The server does not speak TLS at this port: try http://, or another port."
REFUSED = "Nothing listens there. Check host and port, and that the model is running."
UNKNOWN_HOST = (
    "The host name is unknown here. Names ending in .svc or .svc.cluster.local exist only inside the cluster."
)
CONNECT_TIMEOUT = "Nothing answered there in time. Check host and port, network policies, and connect_timeout=..."
TIMEOUT = "Raise timeout=..., ask for fewer tokens, or stream the answer."
ALL_IN_USE = "Raise max_connections=..., or send fewer requests at once."
STRANGE = "Check that base_url is the API of the runtime this class is for."
IDLE = "The server sent nothing for so long. Raise idle_timeout=... if it may be slow."

NO_HTTP2 = (
    "gRPC needs HTTP/2 all the way. OpenShift routes speak it only if the router has it turned on and the route has a "
    "certificate of its own. Use REST here (protocol='rest'), or the model's internal URL from inside the cluster."
)
GRPC_OR_REST = (
    "Something that does not speak gRPC answers there: check host and port, or use REST (protocol='rest', and a URL "
    "that starts with https:// or http://)."
)
GRPC_PLAINTEXT = "The server may want TLS at this port: start base_url with grpcs:// (or https://)."
GRPC_METHOD = "The server has no such gRPC method: it is another runtime, or a model without this task."
GRPC_STRANGE = (
    "The model may have no such task (some servers then answer with another message), or be of another version."
)
GRPC_TOO_LARGE = (
    "Send less in one request. A server's own limit is 4 MiB unless it was raised there "
    "(grpc.max_receive_message_length)."
)
GRPC_PINNED = (
    "gRPC cannot leave out certificate checks: with verify=False the certificate the server shows is fetched and "
    "trusted, and this one is not usable even so. Give its CA with ca_cert=..., or use REST (protocol='rest')."
)


def not_found(path: str) -> str:
    """What to try when there is nothing at a path."""
    if "/openai/v1/" in path:
        return "Check base_url: servers that are not KServe's own have their API under /v1, not /openai/v1."
    if "/v1/v1/" in path:
        return "The path has /v1 twice: leave /v1 off base_url."
    if "/v1/" in path:
        return (
            "Check base_url: the API may be under another path (KServe's own server: /openai/v1), and a server only "
            f"has the operations its model supports. {DOCTOR}"
        )
    return f"Check base_url: the API may be under another path (did you forget /v1?). {DOCTOR}"


def certificate(host: str, reason: str = "") -> str:
    """Which CA file is likely to be missing for a host, unless the reason the certificate was refused is another."""
    if "expired" in reason or "not yet valid" in reason:
        return EXPIRED
    if host.endswith((".svc", ".svc.cluster.local")):
        return f"{CERTIFICATE} {CERTIFICATE_SERVICE}"
    if ".apps." in host:
        return f"{CERTIFICATE} {CERTIFICATE_ROUTE}"
    return CERTIFICATE


def proxy(at: str) -> str:
    """What to do about a proxy that does not answer.

    Args:
        at: Its host and port.
    """
    return (
        f"The environment names the proxy {at} (http_proxy, https_proxy, all_proxy). Add the endpoint's host to "
        "no_proxy if it is reached without one."
    )
