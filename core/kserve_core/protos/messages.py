"""Message classes of the gRPC services, made at first use from the compiled descriptor set.

They live in a descriptor pool of their own. Other packages (tritonclient, kserve, mlserver, caikit, a server's own
stubs) register messages of the same names in protobuf's default pool, where two definitions of one name clash.

    from kserve_core.protos import messages

    request = messages.fmaas.ModelInfoRequest(model_id="m")
    cls = messages.get("caikit_data_model.caikit_nlp.EmbeddingResult")

A namespace is a proto package with its dots as underscores, in lower case. Enums have `Name`, `Value` and their
values as attributes. `messages.pyi` and the stubs in `_types`, which type checkers read, are generated.
"""

from __future__ import annotations

import threading
from importlib import import_module, resources
from typing import Any

DESCRIPTORS = "descriptors.binpb"
"""The compiled descriptor set, beside this module; `scripts/protos.py` writes it."""

_WELL_KNOWN = ("google.protobuf.any_pb2", "google.protobuf.duration_pb2", "google.protobuf.struct_pb2")
"""Files that come with protobuf: their descriptors are taken from the installed version, into our pool."""

_lock = threading.RLock()
_loaded: _Registry | None = None


class _Registry:
    """The private pool, and which packages are in it."""

    def __init__(self) -> None:
        from google.protobuf import descriptor_pb2, descriptor_pool

        self.pool: Any = descriptor_pool.DescriptorPool()
        self.packages: dict[str, str] = {}
        descriptors = descriptor_pb2.FileDescriptorSet()
        descriptors.ParseFromString(resources.files(__package__ or "").joinpath(DESCRIPTORS).read_bytes())
        for module in _WELL_KNOWN:
            well_known = import_module(module).DESCRIPTOR
            self.pool.AddSerializedFile(well_known.serialized_pb)
            self._add_package(well_known.package)
        for file in descriptors.file:
            self.pool.AddSerializedFile(file.SerializeToString())
            self._add_package(file.package)

    def _add_package(self, package: str) -> None:
        self.packages[package.replace(".", "_").lower()] = package


class Namespace:
    """The messages and enums of one proto package, as attributes."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            value = get(f"{self._package}.{name}")
        except KeyError:
            msg = f"the proto package {self._package} has no {name}"
            raise AttributeError(msg) from None
        self.__dict__[name] = value
        return value

    def __repr__(self) -> str:
        return f"<messages of {self._package}>"


def get(name: str) -> Any:
    """The class of a message, or the wrapper of an enum, by its full name.

    Raises:
        KeyError: If there is none of this name.
    """
    from google.protobuf import message_factory

    pool = _registry().pool
    try:
        descriptor = pool.FindMessageTypeByName(name)
    except KeyError:
        from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper

        return EnumTypeWrapper(pool.FindEnumTypeByName(name))
    return _with_nested(message_factory.GetMessageClass(descriptor))


def _with_nested(cls: Any) -> Any:
    """The class, with those nested in it as attributes, which protobuf's pure Python implementation leaves out."""
    from google.protobuf import message_factory

    for nested in cls.DESCRIPTOR.nested_types:
        if not hasattr(cls, nested.name):
            setattr(cls, nested.name, _with_nested(message_factory.GetMessageClass(nested)))
    return cls


def _registry() -> _Registry:
    global _loaded  # noqa: PLW0603 - made once per process
    if _loaded is None:
        with _lock:
            if _loaded is None:
                _loaded = _Registry()
    return _loaded


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    package = _registry().packages.get(name)
    if package is None:
        msg = f"there is no proto package {name}"
        raise AttributeError(msg)
    namespace = globals()[name] = Namespace(package)
    return namespace
