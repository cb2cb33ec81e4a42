"""Where a bearer token comes from: text, a file that rotates, the environment, or a function.

A source is asked before every request, so a token that changes is picked up without a restart. After a 401 it is
asked once more with `refresh=True`, and the request is sent once more. No source shows its token in `repr`.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

from kserve_core.errors import ConfigurationError

NO_TOKEN = "EMPTY"  # noqa: S105 - the placeholder people give an OpenAI client for a server without authentication
"""An `api_key` of this text means: send no token."""


@runtime_checkable
class SecretText(Protocol):
    """A wrapped secret, such as pydantic's `SecretStr`."""

    def get_secret_value(self) -> str:
        """The secret itself."""


class TokenSource(ABC):
    """Gives the bearer token for the next request.

    Attributes:
        refreshable: Whether asking again after a 401 can give another token.
    """

    refreshable: bool = True

    @abstractmethod
    def token(self, *, refresh: bool = False) -> str:
        """The token to send now.

        Args:
            refresh: The last token was refused; do not answer from a cache.

        Raises:
            ConfigurationError: If there is no token, or it cannot be sent in a header.
        """

    async def atoken(self, *, refresh: bool = False) -> str:
        """As `token`, from inside an event loop."""
        return self.token(refresh=refresh)


@dataclass(frozen=True)
class StaticToken(TokenSource):
    """A token given as text. It travels in a pickle; it is never shown."""

    value: str = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", clean_token(self.value, "the api_key"))

    @property
    def refreshable(self) -> bool:  # type: ignore[override]
        """Never: the text stays what it is."""
        return False

    def token(self, *, refresh: bool = False) -> str:  # noqa: ARG002
        """The text."""
        return self.value


@dataclass(frozen=True)
class EnvToken(TokenSource):
    """A token in an environment variable, read anew for every request."""

    name: str

    def token(self, *, refresh: bool = False) -> str:  # noqa: ARG002
        """The variable's value now."""
        value = os.environ.get(self.name)
        if not value:
            msg = f"The environment variable {self.name} that should hold the token is not set."
            raise ConfigurationError(msg, hint=f"Set {self.name}, or give api_key another source.")
        return clean_token(value, f"the token in {self.name}")


@dataclass(frozen=True)
class FileToken(TokenSource):
    """A token in a file, read again whenever the file changes.

    This is what a pod's projected service account token needs: the kubelet replaces it while the program runs.
    """

    path: str
    _seen: list[tuple[tuple[int, int, int], str]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        object.__setattr__(self, "path", os.fspath(path))
        object.__setattr__(self, "_seen", [])

    def token(self, *, refresh: bool = False) -> str:
        """The file's content, surrounding white space removed."""
        try:
            stat = os.stat(self.path)  # noqa: PTH116 - on the path of every request
            stamp = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            if not refresh and self._seen:
                known, token = self._seen[0]
                if known == stamp:
                    return token
            text = Path(self.path).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
            msg = f"The token file {self.path} cannot be read: {reason}."
            raise ConfigurationError(msg, hint="Give api_key the path of a readable file.") from None
        token = clean_token(text, f"the token in {self.path}")
        self._seen[:] = [(stamp, token)]
        return token

    def __reduce__(self) -> tuple[Any, ...]:
        return (FileToken, (self.path,))


@dataclass(frozen=True)
class CallableToken(TokenSource):
    """A token that a function returns; the function may be a coroutine function.

    It is called for every request (and once more after a 401), so it should cache what is costly. Blocking calls
    run it in this thread, or in a helper thread if it is a coroutine function; async calls await it, or run it
    in a worker thread if it is an ordinary one.
    """

    function: Callable[[], Any] = field(repr=False)

    def token(self, *, refresh: bool = False) -> str:  # noqa: ARG002
        """What the function returns now."""
        value = self.function()
        if inspect.isawaitable(value):
            value = _run_awaitable(value)
        return _returned(value)

    async def atoken(self, *, refresh: bool = False) -> str:  # noqa: ARG002
        """What the function returns now."""
        if inspect.iscoroutinefunction(self.function):
            value = await self.function()
        else:
            value = await asyncio.to_thread(self.function)
            if inspect.isawaitable(value):
                value = await value
        return _returned(value)


ApiKey: TypeAlias = "str | SecretText | os.PathLike[str] | Callable[[], str | Awaitable[str]] | TokenSource"
"""What `api_key` may be: the token, a wrapped token, the path of a token file, a function, or a source."""


def as_token_source(value: ApiKey | None) -> TokenSource | None:
    """The source an `api_key` stands for.

    Args:
        value: See `ApiKey`. `None` and the placeholder text `EMPTY` mean no token.

    Raises:
        ConfigurationError: If it is none of these, or text that cannot be a token.
    """
    if value is None or isinstance(value, TokenSource):
        return value
    if isinstance(value, SecretText):
        value = value.get_secret_value()
    if isinstance(value, str):
        return None if value == NO_TOKEN else StaticToken(value)
    if isinstance(value, os.PathLike):
        return FileToken(value)
    if callable(value):
        return CallableToken(value)
    msg = f"api_key cannot be of type {type(value).__name__}."
    raise ConfigurationError(msg, hint="Give the token's text, pathlib.Path('token file'), or a function.")


def clean_token(text: str, what: str) -> str:
    """Makes sure a token can stand in a header; drops white space around it and a leading `Bearer`.

    Args:
        text: The token.
        what: What to call it in an error; must not contain it.

    Raises:
        ConfigurationError: If it is empty or has characters a header may not have.
    """
    token = text.strip()
    if token[:6].lower() == "bearer" and not token[6:7].strip():
        token = token[6:].strip()
    if not token:
        msg = f"There is no token: {what} is empty."
        raise ConfigurationError(msg, hint="Leave api_key out if the endpoint needs no token.")
    if not (token.isascii() and token.isprintable()) or " " in token:
        msg = (
            f"{what[:1].upper()}{what[1:]} has a character that no token can have (white space, control or non-ASCII)."
        )
        raise ConfigurationError(msg, hint="Check that only the token was copied.")
    return token


def _returned(value: object) -> str:
    if isinstance(value, SecretText):
        value = value.get_secret_value()
    if not isinstance(value, str):
        msg = f"The api_key function returned {type(value).__name__} instead of text."
        raise ConfigurationError(msg, hint="It must return the token as a str.")
    return clean_token(value, "the token the api_key function returned")


def _run_awaitable(value: Awaitable[Any]) -> object:
    """Awaits outside any running loop: here if this thread has none, else in a thread of its own."""

    async def wait() -> object:
        return await value

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    done: Future[object] = Future()

    def work() -> None:
        try:
            done.set_result(asyncio.run(wait()))
        except BaseException as exc:  # noqa: BLE001 - handed to the caller
            done.set_exception(exc)

    threading.Thread(target=work, name="kserve-token", daemon=True).start()
    return done.result()
