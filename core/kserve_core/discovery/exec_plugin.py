"""Credentials that a program of the user's kubeconfig prints. It runs only where that was allowed."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from kserve_core.credentials import TokenSource, clean_token
from kserve_core.discovery.documents import Json, mapping, objects, text, texts
from kserve_core.discovery.times import epoch
from kserve_core.errors import ConfigurationError

_VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
_SECONDS = 60.0
_EARLY = 30.0
"""Seconds before its end at which a token is no longer used."""


class _State:
    """The token last given, and how often one was."""

    def __init__(self) -> None:
        self.runs = 0
        self.lock = threading.Lock()
        self.token = ""
        self.until = 0.0


@dataclass(frozen=True)
class ExecToken(TokenSource):
    """Runs a client-go credential plugin and keeps its token until it expires or is refused.

    Attributes:
        command: The program; with a `/` in it, relative to the kubeconfig's folder.
        args: Its arguments.
        env: Variables added to this program's own, as pairs.
        version: The version of the protocol to speak.
        folder: The kubeconfig's folder.
        install_hint: What the kubeconfig says to do if the program is not there.
    """

    command: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    version: str = _VERSIONS[0]
    folder: str = ""
    install_hint: str = ""
    _state: Any = field(default_factory=_State, init=False, repr=False, compare=False)

    @classmethod
    def of(cls, spec: Json, folder: str) -> ExecToken:
        """Reads a user's `exec`.

        Raises:
            ConfigurationError: If it cannot be run.
        """
        version = text(spec, "apiVersion")
        if version not in _VERSIONS:
            msg = f"The kubeconfig's exec plugin speaks {version or 'no named version'}, which is not supported."
            raise ConfigurationError(msg, hint=f"Supported are {' and '.join(_VERSIONS)}.")
        if not text(spec, "command"):
            msg = "The kubeconfig's exec plugin names no command."
            raise ConfigurationError(msg)
        if text(spec, "interactiveMode") == "Always":
            msg = f"The kubeconfig's exec plugin {text(spec, 'command')} wants to talk to a person."
            raise ConfigurationError(msg, hint="Log in with it first, or use a service account's token.")
        pairs = tuple((text(item, "name"), text(item, "value")) for item in objects(spec, "env") if text(item, "name"))
        return cls(text(spec, "command"), tuple(texts(spec, "args")), pairs, version, folder, text(spec, "installHint"))

    def token(self, *, refresh: bool = False) -> str:
        """The plugin's token.

        Raises:
            ConfigurationError: If the plugin gives none.
        """
        runs = self._state.runs
        with self._state.lock:
            ran = self._state.runs != runs  # for somebody else, who asked a moment earlier
            if (ran or not refresh) and self._state.token and time.time() < self._state.until:
                return self._state.token  # type: ignore[no-any-return]
            token, until = self._run()
            self._state.token, self._state.until = token, until
            self._state.runs += 1
            return token

    async def atoken(self, *, refresh: bool = False) -> str:
        """As `token`; the plugin runs beside the event loop."""
        if not refresh and self._state.token and time.time() < self._state.until:
            return self._state.token  # type: ignore[no-any-return]
        return await asyncio.to_thread(self.token, refresh=refresh)

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.command, self.args, self.env, self.version, self.folder, self.install_hint))

    def _run(self) -> tuple[str, float]:
        info = {"apiVersion": self.version, "kind": "ExecCredential", "spec": {"interactive": False}}
        env = {**os.environ, **dict(self.env), "KUBERNETES_EXEC_INFO": orjson.dumps(info).decode()}
        try:
            done = subprocess.run(  # noqa: S603 - allowed by allow_exec, and without a shell
                [self._program(), *self.args],
                env=env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_SECONDS,
                check=False,
            )
        except OSError as exc:
            msg = f"The kubeconfig's exec plugin {self.command} cannot be run: {exc.strerror}."
            raise ConfigurationError(msg, hint=self.install_hint) from None
        except subprocess.TimeoutExpired:
            msg = f"The kubeconfig's exec plugin {self.command} did not end within {_SECONDS:g} s."
            raise ConfigurationError(msg, hint="Run it by hand to see what it waits for.") from None
        if done.returncode:
            msg = f"The kubeconfig's exec plugin {self.command} failed with exit code {done.returncode}."
            raise ConfigurationError(msg, hint="Run it by hand to see why; you may have to log in again.")
        return self._read(done.stdout)

    def _read(self, output: bytes) -> tuple[str, float]:
        try:
            value = orjson.loads(output)
        except orjson.JSONDecodeError:
            value = None
        status = mapping(value, "status")
        token = text(status, "token")
        if not token:
            what = "a client certificate" if text(status, "clientCertificateData") else "no token"
            msg = f"The kubeconfig's exec plugin {self.command} gave {what}."
            raise ConfigurationError(msg, hint="Only tokens are supported: use a context with one.")
        until = epoch(text(status, "expirationTimestamp"))
        return clean_token(token, "the exec plugin's token"), float("inf") if until is None else until - _EARLY

    def _program(self) -> str:
        if "/" in self.command or os.sep in self.command:
            return str(Path(self.folder) / self.command)
        return shutil.which(self.command) or self.command
