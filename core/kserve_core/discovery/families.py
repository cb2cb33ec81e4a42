"""Which class of a framework's package is for which runtime. Classes are named here, and imported when needed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from kserve_core.errors import ConfigurationError
from kserve_core.runtimes.registry import RUNTIMES

if TYPE_CHECKING:
    from kserve_core.discovery.facts import Discovery
    from kserve_core.endpoint import Endpoint

_OWN_FIELDS: Mapping[str, Mapping[str, Any]] = {"kserve": {"server": "kserve"}}
"""Fields that a class for several runtimes tells them apart by."""


class FrameworkClass(Protocol):
    """What a class has to offer to be chosen."""

    __name__: str

    def __call__(self, **fields: Any) -> Any:
        """Makes an instance."""

    def takes(self, name: str) -> bool:
        """Whether there is a field of this name, or of a name that means one."""

    def adopt(self, endpoint: Endpoint, fields: Mapping[str, Any], *, cluster_token: bool) -> Any:
        """Makes an instance for an endpoint that was discovered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A package's classes for one task.

    Attributes:
        package: The package.
        factory: The name of its function that chooses among them.
        task: What they do, for people.
        classes: Their names by the runtime's key.
        aliases: Names that mean a field of every class.
    """

    package: str
    factory: str
    task: str
    classes: Mapping[str, str]
    aliases: Mapping[str, str] = field(default_factory=dict)

    def load(self, key: str) -> FrameworkClass:
        """The class for a runtime.

        Raises:
            ConfigurationError: If the runtime does not do this.
        """
        name = self.classes.get(key)
        if name is None:
            raise self.missing(key, title(key))
        cls: FrameworkClass = getattr(importlib.import_module(self.package), name)
        return cls

    def loaded(self) -> dict[str, FrameworkClass]:
        """All of them, by the runtime's key."""
        return {key: self.load(key) for key in self.classes}

    def missing(self, key: str | None, what: str, *, where: str = "") -> ConfigurationError:
        """The error for a server that is of no use here."""
        if key is None:
            msg = f"{where or 'The server'} is {what}, for which {self.package} has no class."
            return ConfigurationError(msg, hint="If you know what it speaks, say so: runtime='vllm', 'mlserver', ...")
        others = ", ".join(dict.fromkeys(title(other) for other in self.classes))
        msg = f"{what} is of no use for {self.task}{f' ({where})' if where else ''}."
        return ConfigurationError(msg, hint=f"{self.package}.{self.factory} is for {others}.")


def title(key: str) -> str:
    """A runtime's name as people write it."""
    return RUNTIMES[key].title


def own_fields(key: str | None) -> dict[str, Any]:
    """The fields that a class has to be told for this runtime."""
    return dict(_OWN_FIELDS.get(key or "", {}))


def check_class(families: Sequence[Family], cls: type, found: Discovery) -> dict[str, Any]:
    """Makes sure that a class is for what was found; a server that nothing is known of is left to the user's word.

    Args:
        families: The families of the class's package.
        cls: The class, or a subclass of one.
        found: What the cluster says.

    Returns:
        The fields that the class has to be told.

    Raises:
        ConfigurationError: If it is for another runtime; it names the right class.
    """
    key = found.runtime
    for base in cls.__mro__:
        for family in families:
            mine = [known for known, name in family.classes.items() if name == base.__name__]
            if mine and base.__module__.startswith(f"{family.package}."):
                return _checked(family, cls.__name__, mine, key, found)
    return own_fields(key)


def _checked(family: Family, name: str, mine: Sequence[str], key: str | None, found: Discovery) -> dict[str, Any]:
    if key in mine or (key is None and not found.variant):
        return own_fields(key)
    where = f"{found.kind} {found.namespace}/{found.name}"
    why = f" [{found.runtime_evidence}]" if found.runtime_evidence else ""
    served = title(key) if key is not None else found.variant
    msg = f"{where} is served by {served}{why}, and {name} is for {title(mine[0])}."
    if key is None:
        hint = f"{family.package} has no class for it. If that is a mistake, give {name} the base_url."
    elif key in family.classes:
        hint = (
            f"Use {family.classes[key]}.from_inference_service({found.name!r}, ...), or "
            f"{family.package}.{family.factory}(inference_service={found.name!r}, ...), which finds the class."
        )
    else:
        hint = f"{served} is of no use for {family.task}."
    raise ConfigurationError(msg, hint=hint)
