"""Reads kubeconfig files: several are merged, the first one that says something wins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from kserve_core.discovery.documents import Json, mapping, objects, text
from kserve_core.errors import ConfigurationError

VARIABLE = "KUBECONFIG"
DEFAULT = "~/.kube/config"

_YAML = (
    "pip install 'kserve-integrations[discovery]' brings the YAML reader; without it, write the file as JSON: "
    "kubectl config view --raw --flatten -o json > config.json"
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a kubeconfig's lists, and the folder its relative paths start from."""

    value: Json = field(repr=False)
    folder: str = ""

    def path(self, key: str) -> str:
        """A file's path, or `""`."""
        name = text(self.value, key)
        return os.path.normpath(Path(self.folder) / name) if name else ""


@dataclass(frozen=True, slots=True)
class Context:
    """What a context means.

    Attributes:
        name: Its name.
        namespace: Its namespace, or `""`.
        cluster: Its cluster.
        user: Its user.
    """

    name: str
    namespace: str
    cluster: Entry
    user: Entry


def kubeconfig_files(given: str | os.PathLike[str] | None = None) -> list[str]:
    """The files to read: the one given, else the list in `KUBECONFIG`, else `~/.kube/config`; those that exist.

    Raises:
        ConfigurationError: If the one given does not exist.
    """
    if given is not None:
        path = os.path.expanduser(os.fspath(given))  # noqa: PTH111 - a text is wanted
        if not Path(path).is_file():
            msg = f"There is no kubeconfig file {path}."
            raise ConfigurationError(msg, hint="Give kubeconfig the path of a file.")
        return [path]
    listed = [name for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    names = listed or [os.path.expanduser(DEFAULT)]  # noqa: PTH111
    return [name for name in names if Path(name).is_file()]


def read_context(files: Sequence[str], context: str | None = None) -> Context:
    """A context of the merged files.

    Args:
        files: The files, those that win first.
        context: The context's name; the current one if None.

    Raises:
        ConfigurationError: If a file cannot be read, or the context is not complete.
    """
    current, lists = _merged(files)
    where = ", ".join(files) or "kubeconfig"
    name = context or current
    if not name:
        msg = f"No context is chosen in {where}."
        raise ConfigurationError(msg, hint=_choices("context", lists["contexts"]))
    entry = lists["contexts"].get(name)
    if entry is None:
        msg = f"There is no context {name!r} in {where}."
        raise ConfigurationError(msg, hint=_choices("context", lists["contexts"]))
    found = {}
    for kind, key in (("clusters", "cluster"), ("users", "user")):
        wanted = text(entry.value, key)
        if not wanted and key == "user":
            found[key] = Entry({})
        elif wanted in lists[kind]:
            found[key] = lists[kind][wanted]
        else:
            msg = f"The context {name!r} names a {key} ({wanted!r}) that is not in {where}."
            raise ConfigurationError(msg, hint="Log in again, or choose another context=...")
    return Context(name, text(entry.value, "namespace"), found["cluster"], found["user"])


def _merged(files: Sequence[str]) -> tuple[str, dict[str, dict[str, Entry]]]:
    current = ""
    lists: dict[str, dict[str, Entry]] = {"contexts": {}, "clusters": {}, "users": {}}
    for file in files:
        document = _load(file)
        current = current or text(document, "current-context")
        folder = str(Path(file).absolute().parent)
        for kind, entries in lists.items():
            for item in objects(document, kind):
                name = text(item, "name")
                if name:
                    entries.setdefault(name, Entry(mapping(item, kind[:-1]), folder))
    return current, lists


def _load(file: str) -> Json:
    try:
        data = Path(file).read_bytes()
    except OSError as exc:
        msg = f"The kubeconfig file {file} cannot be read: {exc.strerror}."
        raise ConfigurationError(msg, hint="Check its permissions.") from None
    value = _parse(data, file)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        msg = f"The kubeconfig file {file} does not hold an object."
        raise ConfigurationError(msg, hint="Check that it is a kubeconfig.")
    return value


def _parse(data: bytes, file: str) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        pass
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
    except ImportError:
        msg = f"The kubeconfig file {file} is YAML, and there is no YAML reader."
        raise ConfigurationError(msg, hint=_YAML) from None
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(data, Loader=loader)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, ValueError, RecursionError):  # whose texts quote the file
        msg = f"The kubeconfig file {file} is neither JSON nor YAML."
        raise ConfigurationError(msg, hint="kubectl config view shows what kubectl makes of it.") from None


def _choices(what: str, entries: Mapping[str, Entry]) -> str:
    names = ", ".join(repr(name) for name in sorted(entries)[:20])
    return f"Give {what}=...; there are {names}." if names else "Log in first (oc login)."
