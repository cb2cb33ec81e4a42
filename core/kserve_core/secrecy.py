"""Takes what was sent as a secret out of errors: servers, and what lies before them, repeat it in what they say."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from kserve_core.errors import KServeError

_SHORTEST = 4
"""Shorter secrets are not looked for: they would be found in ordinary words."""
_SCHEMES = frozenset({"bearer", "basic"})
_TELLING = ("authorization", "key", "token", "secret", "cookie", "password")
"""Headers with one of these in their names tell who one is."""


def secrets_of(token: str | None, headers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """What must not be repeated of a request: its token, and the values of headers that tell who one is.

    Args:
        token: The bearer token, or None.
        headers: The other headers, as pairs.
    """
    found = {token or ""}
    for name, value in headers:
        if any(word in name.lower() for word in _TELLING):
            found |= {value, *value.split()}
    kept = (secret for secret in found if len(secret) >= _SHORTEST and secret.lower() not in _SCHEMES)
    return tuple(sorted(kept, key=len, reverse=True))


def without_secrets(error: KServeError, secrets: Sequence[str]) -> KServeError:
    """The same error, with `***` in place of secrets wherever it tells what a server said."""
    if not secrets:
        return error

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    error.message, error.hint = clean(error.message), clean(error.hint)
    error.server_message = clean(error.server_message)
    error.args = tuple(clean(value) if isinstance(value, str) else value for value in error.args)
    if error.request_id:
        error.request_id = clean(error.request_id)
    if error.response is not None:
        content = error.response.content
        for secret in secrets:
            content = content.replace(secret.encode("utf-8", "surrogateescape"), b"***")
        headers: Mapping[str, str] = {name: clean(value) for name, value in error.response.headers.items()}
        error.response = replace(error.response, headers=headers, content=content)
    return error
