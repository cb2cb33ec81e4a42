"""Finding out what serves a model, and how to reach it: from the cluster's own records, or by asking the server.

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kserve_core.discovery.cluster import ClusterAccess
    from kserve_core.discovery.connect import adiscover, afrom_inference_service, discover, from_inference_service
    from kserve_core.discovery.detect import Detected, adetect_runtime, detect_runtime
    from kserve_core.discovery.facts import Authority, Discovery
    from kserve_core.discovery.maas import MaaSModel, MaaSToken, alist_maas_models, list_maas_models
    from kserve_core.discovery.problems import NotReachableError
    from kserve_core.discovery.status import Condition
    from kserve_core.discovery.tokens import ClusterToken, TokenRequestToken

_MODULES = {
    "cluster": ("ClusterAccess",),
    "connect": ("adiscover", "afrom_inference_service", "discover", "from_inference_service"),
    "detect": ("Detected", "adetect_runtime", "detect_runtime"),
    "facts": ("Authority", "Discovery"),
    "maas": ("MaaSModel", "MaaSToken", "alist_maas_models", "list_maas_models"),
    "problems": ("NotReachableError",),
    "status": ("Condition",),
    "tokens": ("ClusterToken", "TokenRequestToken"),
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "Authority",
    "ClusterAccess",
    "ClusterToken",
    "Condition",
    "Detected",
    "Discovery",
    "MaaSModel",
    "MaaSToken",
    "NotReachableError",
    "TokenRequestToken",
    "adetect_runtime",
    "adiscover",
    "afrom_inference_service",
    "alist_maas_models",
    "detect_runtime",
    "discover",
    "from_inference_service",
    "list_maas_models",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
