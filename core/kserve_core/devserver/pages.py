"""Named bodies: what routers, auth proxies and starting models answer instead of a runtime."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A canned answer of something in front of, or instead of, the model."""

    status: int
    content_type: str
    text: str


_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"

_ROUTER = """<!DOCTYPE html>
<html>
  <head>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <style type="text/css">body { font-family: sans-serif; margin: 80px auto; max-width: 40em; }</style>
  </head>
  <body>
    <div>
      <h1>Application is not available</h1>
      <p>No pod answers behind this address: the application was not started, or it is starting.</p>
      <ul>
        <li><strong>Wrong host?</strong> Compare the host name with the route.</li>
        <li><strong>Wrong path?</strong> The route may serve another path only.</li>
        <li><strong>No pods?</strong> They may all be down or scaled to zero.</li>
      </ul>
    </div>
  </body>
</html>
"""

_SIGN_IN = """<!DOCTYPE html>
<html lang="en" charset="utf-8">
<head><title>Log In</title></head>
<body>
  <form method="GET" action="/oauth/start">
    <input type="hidden" name="rd" value="/">
    <button type="submit" class="btn">Log in with OpenShift</button>
  </form>
</body>
</html>
"""

_FORBIDDEN = "Forbidden (user=system:serviceaccount:demo:default, verb=get, resource=inferenceservices, subresource=)\n"

PAGES: dict[str, Page] = {
    "router-page": Page(503, _HTML, _ROUTER),
    "not-ready": Page(400, _JSON, '{"error":"Model m is not ready yet."}'),
    "model-unavailable": Page(404, _TEXT, '{"error":"Request for unknown model: \'m\' has no available versions"}'),
    "restricted": Page(403, _TEXT, '{"error":"This API is restricted, expecting header \'authorization\'"}'),
    "oauth-sign-in": Page(403, _HTML, _SIGN_IN),
    "kube-rbac-unauthorized": Page(401, _TEXT, "Unauthorized\n"),
    "kube-rbac-forbidden": Page(403, _TEXT, _FORBIDDEN),
    "bad-gateway": Page(
        502,
        _HTML,
        "<html><body><h1>502 Bad Gateway</h1>\nThe server returned an invalid or "
        "incomplete response.\n</body></html>\n",
    ),
    "gateway-timeout": Page(
        504, _HTML, "<html><body><h1>504 Gateway Time-out</h1>\nThe server didn't respond in time.\n</body></html>\n"
    ),
    "upstream-reset": Page(
        503, _TEXT, "upstream connect error or disconnect/reset before headers. reset reason: connection termination"
    ),
    "too-large": Page(413, _TEXT, "Payload Too Large"),
    "rate-limited": Page(
        429, _JSON, '{"error":{"message":"Too many requests","type":"RateLimitError","param":null,"code":429}}'
    ),
    "engine-dead": Page(
        500,
        _JSON,
        '{"error":{"message":"EngineCore encountered an issue. See stack trace '
        '(above) for the root cause.","type":"InternalServerError","param":null,"code":500}}',
    ),
    "flat-error": Page(
        400, _JSON, '{"object":"error","message":"bad request","type":"BadRequestError","param":null,"code":400}'
    ),
    "html": Page(200, _HTML, "<html><body><h1>It works</h1></body></html>\n"),
    "empty": Page(200, _TEXT, ""),
}
