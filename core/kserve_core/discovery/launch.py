"""How a model server is started: its command line and environment, out of the documents that describe its pods."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from kserve_core.discovery.documents import Json, dig, mapping, objects, text, texts

_NAME = re.compile(r"\{\{\s*\.Name\s*\}\}")
_VARIABLE = re.compile(r"\$\(([A-Za-z_][A-Za-z0-9_.-]*)\)")
_SHELL = re.compile(r"-[a-z]*c")


@dataclass(frozen=True, slots=True)
class Launch:
    """What the containers of a predictor run.

    Attributes:
        words: Command lines of all containers, those that win last.
        env: Environment variables with plain values.
        images: The containers' images.
        containers: The containers' names.
        ports: The containers' ports, as (number, name).
        complete: Whether the ServingRuntime, or a custom predictor's own containers, were there to read.
    """

    words: tuple[str, ...] = field(default=(), repr=False)  # where keys are given, now and then
    env: Mapping[str, str] | None = field(default=None, repr=False)
    images: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    ports: tuple[tuple[int, str], ...] = ()
    complete: bool = False

    @classmethod
    def of(cls, name: str, predictor: Json, runtime: Json | None) -> Launch:
        """Puts together what KServe puts together.

        Args:
            name: The InferenceService's name, which stands for `{{.Name}}`.
            predictor: Its `spec.predictor`.
            runtime: The ServingRuntime, or None if it could not be read.
        """
        own = objects(predictor, "containers")
        model = mapping(predictor, "model")
        sources = [*objects(runtime, "spec", "containers"), *([model] if model else []), *own]
        env: dict[str, str] = {}
        words: list[str] = []
        for source in sources:
            for item in objects(source, "env"):
                if isinstance(item.get("name"), str) and isinstance(item.get("value"), str):
                    env[item["name"]] = _NAME.sub(name, item["value"])
        for source in sources:
            words += _split([*texts(source, "command"), *texts(source, "args")])
        return cls(
            words=tuple(_fill(_NAME.sub(name, word), env) for word in words),
            env=env,
            images=tuple(image for source in sources if (image := text(source, "image"))),
            containers=tuple(found for source in sources if source is not model and (found := text(source, "name"))),
            ports=_ports(model, own, objects(runtime, "spec", "containers")),
            complete=runtime is not None or bool(own),
        )

    @property
    def everything(self) -> str:
        """Words and images as one lower-case text, to look for the name of a program in."""
        return " ".join((*self.words, *self.images)).lower()

    def variable(self, name: str) -> str:
        """An environment variable's value, or `""`."""
        return (self.env or {}).get(name, "")

    def option(self, *names: str) -> list[str]:
        """The values of a command line option; the last of several wins, and `_` is as good as `-`."""
        wanted = {name.lstrip("-").replace("_", "-") for name in names}
        values: list[str] = []
        for position, word in enumerate(self.words):
            if not word.startswith("-"):
                continue
            key, equals, value = word.lstrip("-").partition("=")
            if key.replace("_", "-") not in wanted:
                continue
            values = [value] if equals else _until_option(self.words[position + 1 :])
        return values

    def has(self, *names: str) -> bool:
        """Whether an option is on the command line."""
        wanted = {name.lstrip("-").replace("_", "-") for name in names}
        return any(
            word.lstrip("-").partition("=")[0].replace("_", "-") in wanted
            for word in self.words
            if word.startswith("-")
        )


def is_grpc_port(name: str) -> bool:
    """Whether a port's name says that it speaks gRPC."""
    return name == "h2c" or name.startswith(("grpc", "h2c-"))


def _split(words: Sequence[str]) -> list[str]:
    """The words, with what a shell is given to run (`sh -c "..."`) taken apart."""
    result: list[str] = []
    before = ""
    for word in words:
        parts = [word]
        if _SHELL.fullmatch(before) and any(char.isspace() for char in word):
            try:
                parts = shlex.split(word, comments=True)
            except ValueError:
                parts = word.split()
        result += parts
        before = word
    return result


def _until_option(words: Sequence[str]) -> list[str]:
    values = []
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word):
            break
        values.append(word)
    return values


def _fill(word: str, env: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda match: env.get(match[1], match[0]), word)


def _ports(model: Json, own: list[Json], containers: list[Json]) -> tuple[tuple[int, str], ...]:
    """The ports of the first source that names any: the service's own come before its runtime's."""
    for source in ([model], own, containers):
        found = [
            (number, text(port, "name"))
            for container in source
            for port in objects(container, "ports")
            if type(number := dig(port, "containerPort")) is int
        ]
        if found:
            return tuple(found)
    return ()
