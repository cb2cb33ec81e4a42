"""What a development server pretends to be."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

TASKS = frozenset({"generate", "embed", "score"})


@dataclass(frozen=True, kw_only=True)
class Model:
    """One served model.

    Attributes:
        name: The id clients send.
        aliases: Further served names of the same model.
        max_model_len: Context window in tokens.
        dimensions: Length of its embeddings.
        matryoshka: Whether shorter embeddings may be asked for.
        reasoning: Whether every answer starts with a reasoning part.
        parent: For a LoRA adapter, the name of its base model.
    """

    name: str
    aliases: tuple[str, ...] = ()
    max_model_len: int = 8192
    dimensions: int = 256
    matryoshka: bool = False
    reasoning: bool = False
    parent: str | None = None

    @classmethod
    def named(cls, name: str) -> Model:
        """A model whose habits follow from its name.

        One called `...reason...` reasons before it answers, one called `...matryoshka...` can give shorter
        embeddings.
        """
        low = name.lower()
        return cls(name=name, matryoshka="matryoshka" in low, reasoning="reason" in low)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything the wires need to know about the server they speak for.

    Attributes:
        runtime: Whose wire is spoken.
        version: Version of the runtime whose wire is spoken; old versions have old shapes.
        models: Served models; the first answers when a request names none.
        api_keys: Accepted bearer tokens; none means no authentication.
        protect_all: Ask for the token on every path, as a proxy in front of the runtime does.
        pace: Seconds per generated token.
        tasks: What the served models can do (`generate`, `embed`, `score`); other routes do not exist.
        auto_tools: Whether the server was started with a tool parser.
        cached_tokens: Whether usage tells how much of a prompt was cached.
        request_id_headers: Whether answers carry `x-request-id`.
        force_usage: Whether every stream event carries usage, asked for or not.
        max_logprobs: Most alternatives a request may ask for.
        release: The first two numbers of the version.
        by_name: Every served name with its model.
    """

    runtime: str = "vllm"
    version: str = "0.32.0"
    models: tuple[Model, ...] = (Model(name="dev-model"),)
    api_keys: tuple[str, ...] = ()
    protect_all: bool = False
    pace: float = 0.0
    tasks: frozenset[str] = TASKS
    auto_tools: bool = True
    cached_tokens: bool = True
    request_id_headers: bool = False
    force_usage: bool = False
    max_logprobs: int = 20
    release: tuple[int, int] = field(init=False, repr=False)
    by_name: dict[str, Model] = field(init=False, repr=False, default_factory=dict)

    def __post_init__(self) -> None:
        if not self.models:
            msg = "a server needs at least one model"
            raise ValueError(msg)
        unknown = self.tasks - TASKS
        if unknown:
            msg = f"unknown tasks {sorted(unknown)}; known are {sorted(TASKS)}"
            raise ValueError(msg)
        for model in self.models:
            for name in (model.name, *model.aliases):
                self.by_name[name] = model
        found = re.match(r"(\d+)\.(\d+)", self.version)
        if found is None:
            msg = f"version {self.version!r} does not look like 0.32.0"
            raise ValueError(msg)
        object.__setattr__(self, "release", (int(found[1]), int(found[2])))


def as_models(models: Iterable[str | Model], *, max_model_len: int | None = None) -> tuple[Model, ...]:
    """Models from names; the ones already given in full are kept."""
    made = []
    for model in models:
        entry = Model.named(model) if isinstance(model, str) else model
        made.append(entry if max_model_len is None else replace(entry, max_model_len=max_model_len))
    return tuple(made)
