"""Where things are on a server, given any base URL people paste, and how models and versions are named in a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kserve_core.errors import ConfigurationError, UnsupportedParameterError
from kserve_core.runtimes.open_inference.dialects import OPENVINO, Dialect

_API = "/v2"
_OPERATION = re.compile(r"^(?P<root>.*?)/v2/(?P<rest>(models|health|repository|logging|trace|cudasharedmemory).*)$")
_OTHER_API = re.compile(r"(/openai|/v3)?/v[13]$")
# What a path may hold literally; `/` would end the name.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@]+\Z")


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths of a server, absolute and without a trailing slash.

    Attributes:
        root: What is in front of `/v2` (`""`, `/namespace/model`).
        dialect: Whose server it is.
    """

    root: str
    dialect: Dialect

    @classmethod
    def of(cls, base_path: str, dialect: Dialect) -> Paths:
        """Reads a base path: with or without `/v2`, with or without something in front.

        Raises:
            ConfigurationError: If the path is that of one operation, or of another API.
        """
        base = base_path.strip("/")
        root = f"/{base}" if base else ""
        if match := _OPERATION.match(f"{root}/"):
            msg = f"The base URL ends in /v2/{match['rest'].rstrip('/')}, which is one operation, not the root of all."
            raise ConfigurationError(msg, hint=f"Give the URL up to {match['root'] or 'the host name'}.")
        if match := _OTHER_API.search(root):
            if dialect != OPENVINO:  # its servers have both APIs, and people give either's URL
                msg = f"The base URL ends in {match[0]}, which is another API than the Open Inference Protocol's."
                hint = f"Give the URL up to {root[: match.start()] or 'the host name'}; /v2 is added."
                raise ConfigurationError(msg, hint=hint)
            root = root[: match.start()]
        return cls(root.removesuffix(_API), dialect)

    @property
    def api(self) -> str:
        """The root of the protocol's own paths."""
        return f"{self.root}{_API}"

    def model(self, name: str, version: str | None = None) -> str:
        """The path of a model, or of one version of it.

        Raises:
            ConfigurationError: If the server has no way to name it in a path.
        """
        path = f"{self.api}/models/{self._segment(name, 'model')}"
        return path if version is None else f"{path}/versions/{self._segment(version, 'model_version')}"

    def repository_model(self, name: str, action: str) -> str:
        """The path at which a model is loaded or unloaded."""
        return f"{self.api}/repository/models/{self._segment(name, 'model')}/{action}"

    def _segment(self, name: str, what: str) -> str:
        if _PLAIN_NAME.match(name) and name not in {".", ".."}:
            return name
        if self.dialect.quoted_names and "/" not in name and name not in {".", ".."}:
            return quote(name, safe="")
        msg = f"{what}={name!r} has a character that a {self.dialect.title} path cannot carry."
        raise ConfigurationError(msg, hint="Over gRPC any name can be sent: protocol='grpc'.")


def checked_model(name: Any) -> str:
    """A model's name.

    Raises:
        ConfigurationError: If it is none.
    """
    if not isinstance(name, str) or not name or any(ord(char) < 32 for char in name):
        msg = f"model must be a name, not {name!r}."
        raise ConfigurationError(msg)
    return name


def checked_version(version: Any, dialect: Dialect) -> str | None:
    """A model's version as it is sent; whole numbers may be given as numbers.

    Raises:
        ConfigurationError: If the server can have no such version.
    """
    if version is None or version == "":
        return None
    if isinstance(version, bool) or not isinstance(version, (str, int)):
        msg = f"model_version must be text or a whole number, not {version!r}."
        raise ConfigurationError(msg)
    text = str(version)
    if not dialect.versions:
        msg = f"{dialect.title}'s own server has no model versions (model_version={text!r})."
        raise UnsupportedParameterError(msg, hint="Leave model_version out.")
    if dialect.numeric_versions and not (text.isascii() and text.isdigit()):
        msg = f"{dialect.title}'s versions are whole numbers, not {text!r}."
        raise ConfigurationError(msg, hint="For example model_version='1'.")
    return text
