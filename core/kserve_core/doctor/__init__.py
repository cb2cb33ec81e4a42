"""Examines an endpoint step by step, and says what is wrong and what to do about it.

    kserve-doctor https://llm-demo.apps.example.com --token-file token

    from kserve_core.doctor import examine

    report = examine("https://llm-demo.apps.example.com", api_key=Path("token"))
    assert report.ok, str(report)

Names are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kserve_core.doctor.cluster import aexamine_service, examine_service
    from kserve_core.doctor.examination import aexamine, examine
    from kserve_core.doctor.findings import Finding, Report

_HOME = {
    "Finding": "findings",
    "Report": "findings",
    "aexamine": "examination",
    "aexamine_service": "cluster",
    "examine": "examination",
    "examine_service": "cluster",
}

__all__ = ["Finding", "Report", "aexamine", "aexamine_service", "examine", "examine_service"]


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
