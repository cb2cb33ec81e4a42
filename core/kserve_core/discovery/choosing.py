"""Choosing the class for what is there: the factories of the frameworks' packages, without their frameworks."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from kserve_core.discovery.adoption import ASKING, CONNECTION, check_base_url, endpoint_arguments
from kserve_core.discovery.families import Family, FrameworkClass, own_fields, title
from kserve_core.errors import ConfigurationError, PermissionDeniedError
from kserve_core.names import PARAMETER, nearest
from kserve_core.runtimes.registry import get_runtime

if TYPE_CHECKING:
    from kserve_core.discovery.detect import Detected
    from kserve_core.endpoint import Endpoint

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a factory was asked for, checked as far as it can be before anybody is asked anything.

    Attributes:
        family: The classes to choose from.
        base_url: The server's URL; None to take it from the environment, or with a service's name.
        runtime: The runtime's key, if the user says it.
        service: The name of a service in a cluster, or None.
        asking: How to ask the cluster.
        fields: The fields for whatever class it is going to be.
        for_runtime: Fields by the key of the runtime they are for.
    """

    family: Family
    base_url: str | None
    runtime: str | None
    service: str | None
    asking: Mapping[str, Any]
    fields: Mapping[str, Any]
    for_runtime: Mapping[str, Mapping[str, Any]]

    @classmethod
    def create(
        cls,
        family: Family,
        /,
        base_url: str | None = None,
        *,
        runtime: str | None = None,
        inference_service: str | None = None,
        namespace: str | None = None,
        for_runtime: Mapping[str, Mapping[str, Any]] | None = None,
        **fields: Any,
    ) -> Plan:
        """Takes a factory's arguments.

        Raises:
            ConfigurationError: If they do not go together, or one is known to no class.
        """
        named = _renamed(fields, family.aliases)
        if base_url is not None and named.get("base_url") is not None:
            msg = "base_url was given twice."
            raise ConfigurationError(msg, hint="Give it once.")
        base_url = base_url if base_url is not None else named.get("base_url")
        asking = {name: named[name] for name in ASKING if name in named}
        if namespace is not None:
            asking["namespace"] = namespace
        if inference_service is not None:
            check_base_url({"base_url": base_url})
        elif asking:
            msg = f"{next(iter(asking))} goes with inference_service='...' only."
            raise ConfigurationError(msg)
        own = {name: value for name, value in named.items() if name not in (*asking, "base_url")}
        _check_names(family, own)
        key = None if runtime is None else _key(runtime, family)
        if key is not None:
            family.load(key)
        return cls(
            family=family,
            base_url=base_url,
            runtime=key,
            service=inference_service,
            asking=asking,
            fields=own,
            for_runtime=_checked_sets(family, for_runtime or {}),
        )

    def cluster_arguments(self) -> dict[str, Any]:
        """What `Endpoint.from_inference_service` is called with, besides the name."""
        protocol = self.fields.get("protocol")
        return {**self.asking, **endpoint_arguments(self.fields), **({"protocol": protocol} if protocol else {})}

    def server_arguments(self) -> dict[str, Any]:
        """What `Endpoint.create` is called with to ask the server."""
        url = self.base_url
        if self.fields.get("protocol") == "grpc" and url is not None and url.startswith("http"):
            url = f"grpc{url.removeprefix('http')}"
        return {"base_url": url, **endpoint_arguments(self.fields)}

    def adopted(self, endpoint: Endpoint) -> Any:
        """The instance for a discovered endpoint.

        Raises:
            ConfigurationError: If there is no class for it, or the class lacks one of the fields.
        """
        found = endpoint.discovered
        key = self.runtime or (None if found is None else found.runtime)
        where = "" if found is None else f"{found.kind} {found.namespace}/{found.name}"
        if key is None or key not in self.family.classes:
            what = title(key) if key else (found and found.variant) or "of a runtime that is not known"
            raise self.family.missing(key, what, where=where)
        cls, fields = self._class(key, where)
        return cls.adopt(endpoint, fields, cluster_token=bool(self.asking.get("use_cluster_token")))

    def told(self) -> Any:
        """The instance for the runtime the user named; nobody is asked."""
        cls, fields = self._class(self.runtime or "", "")
        return cls(**({} if self.base_url is None else {"base_url": self.base_url}), **fields)

    def detected(self, found: Detected) -> Any:
        """The instance for a server that was asked.

        Raises:
            ConfigurationError: As in `adopted`.
        """
        key = found.runtime
        if key is None or key not in self.family.classes:
            raise self.family.missing(key, title(key) if key else found.variant, where=found.base_url)
        cls, fields = self._class(key, found.base_url)
        url = found.base_url
        if key == "openvino" and self.base_url is not None and self.base_url.rstrip("/").endswith(("/v2", "/v3")):
            url = self.base_url  # tells which of the server's APIs the model is served by
        return cls(base_url=url, **fields)

    def _class(self, key: str, where: str) -> tuple[FrameworkClass, dict[str, Any]]:
        cls = self.family.load(key)
        lacking = next((name for name in self.fields if not cls.takes(name)), None)
        if lacking is not None:
            raise self._lacking(cls, lacking, title(key) + (f" ({where})" if where else ""))
        return cls, {**own_fields(key), **self.fields, **self.for_runtime.get(key, {})}

    def _lacking(self, cls: FrameworkClass, name: str, served: str) -> ConfigurationError:
        having = {key: one.__name__ for key, one in self.family.loaded().items() if one.takes(name)}
        names = ", ".join(dict.fromkeys(having.values()))
        msg = f"{cls.__name__}, the class for {served}, has no argument {name!r}. It is one of {names}."
        hint = f"To give it where it is known only: for_runtime={{{next(iter(having))!r}: {{{name!r}: ...}}}}."
        return ConfigurationError(msg, hint=hint)


class Factories:
    """What a package's functions that choose a class do; they themselves have the names, types and docstrings.

    Args:
        families: Gives the package's families, by the function's name.
        within: What an error passes on its way out, to become one of the framework's.
    """

    def __init__(
        self,
        families: Callable[[], Mapping[str, Family]],
        within: AbstractContextManager[Any] = nullcontext(),  # noqa: B008 - it holds nothing
    ) -> None:
        self._families = families
        self._within = within

    def make(self, factory: str, base_url: str | None, **arguments: Any) -> Any:
        """The instance that a function of this name returns for its arguments, those of `Plan.create`."""
        with self._within:
            return make(Plan.create(self._families()[factory], base_url, **arguments))

    def without_blocking(self, factory: Callable[P, T]) -> Callable[P, Coroutine[Any, Any, T]]:
        """The same function for event loops: its arguments, and what it returns when awaited."""
        name = factory.__name__

        @wraps(factory)
        async def chosen(*args: P.args, **kwargs: P.kwargs) -> T:
            with self._within:
                plan = Plan.create(self._families()[name], *args, **kwargs)  # type: ignore[arg-type]
                return await amake(plan)  # type: ignore[no-any-return]

        chosen.__name__ = chosen.__qualname__ = f"a{name}"
        chosen.__doc__ = f"The same as `{name}`, without blocking."
        return chosen


def make(plan: Plan) -> Any:
    """The instance for what is there, asking the cluster or the server if the user did not say what it is.

    Raises:
        ConfigurationError: If no class is for it, or the class lacks one of the fields.
        KServeError: If what was asked does not answer.
    """
    from kserve_core.discovery.detect import detect_runtime
    from kserve_core.endpoint import Endpoint

    if plan.service is not None:
        return plan.adopted(Endpoint.from_inference_service(plan.service, **plan.cluster_arguments()))
    if plan.runtime is not None:
        return plan.told()
    with _asking:
        found = detect_runtime(**plan.server_arguments())
    return plan.detected(found)


async def amake(plan: Plan) -> Any:
    """As `make`, from an event loop."""
    from kserve_core.discovery.detect import adetect_runtime
    from kserve_core.endpoint import Endpoint

    if plan.service is not None:
        return plan.adopted(await Endpoint.afrom_inference_service(plan.service, **plan.cluster_arguments()))
    if plan.runtime is not None:
        return plan.told()
    with _asking:
        found = await adetect_runtime(**plan.server_arguments())
    return plan.detected(found)


class _Asking:
    """Says what else can be done where a token may call the model, but not ask which server it is."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, exc: BaseException | None, traceback: object) -> None:
        if isinstance(exc, PermissionDeniedError):
            exc.hint = f"{exc.hint} {_MAY_NOT_ASK}".strip()


_asking = _Asking()
_MAY_NOT_ASK = (
    "If the token may call the model all the same, say which runtime it is, so that nobody is asked: runtime='vllm', "
    "'caikit', 'triton', ..."
)


def _renamed(fields: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """The fields of the connection by their own names; the class sees to the others."""
    named: dict[str, Any] = {}
    for given, value in fields.items():
        target = aliases.get(given, given)
        name = target if target in (*CONNECTION, "base_url", "model", "protocol") else given
        if name in named or (name != given and name in fields):
            msg = f"Both {name} and another name of it were given."
            raise ConfigurationError(msg, hint=f"Give {name} only.")
        named[name] = value
    return named


def _key(runtime: object, family: Family) -> str:
    if not isinstance(runtime, str):
        msg = "A runtime must be text."
        raise ConfigurationError(msg, hint="For example runtime='vllm'.")
    return get_runtime(runtime, among=family.classes).key


def _check_names(family: Family, fields: Mapping[str, Any]) -> None:
    classes = list(family.loaded().values())
    for name in fields:
        if not any(cls.takes(name) for cls in classes):
            known = {known for cls in classes for known in getattr(cls, "model_fields", ())}
            near = nearest(name, sorted(known), likeness=PARAMETER)
            msg = f"No class that {family.package}.{family.factory} chooses from has an argument {name!r}."
            raise ConfigurationError(msg, hint=f"Did you mean {near}?" if near else "")


def _checked_sets(family: Family, sets: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    checked = {}
    for runtime, fields in sets.items():
        key = _key(runtime, family)
        cls = family.load(key)
        for name in fields:
            if family.aliases.get(name, name) in (*CONNECTION, "base_url", "protocol"):
                msg = f"for_runtime cannot say {name}: the server has to be asked with it."
                raise ConfigurationError(msg, hint=f"Give {name} outside for_runtime.")
            if not cls.takes(name):
                msg = f"{cls.__name__} has no argument {name!r} (for_runtime, {key!r})."
                raise ConfigurationError(msg)
        checked[key] = dict(fields)
    return checked
