"""What an examination found: one finding per step, and the report of them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one step found. Holds neither token nor prompt.

    Attributes:
        step: The step's key (`dns`, `tls`, `auth`, ...).
        status: `ok`, `warning` (works, but look at it), `failed`, or `skipped` (and `title` says why).
        title: What was found, in one line.
        detail: More of it, a line each; `""` for nothing more.
        fix: What to do about it; may have several lines, commands indented. `""` for nothing to do.
        seconds: How long it took; None where nothing was done.
        facts: The same for programs: JSON values only.
    """

    step: str
    status: Status
    title: str
    detail: str = ""
    fix: str = ""
    seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The finding as JSON values."""
        return {
            "step": self.step,
            "status": self.status,
            "title": self.title,
            "detail": self.detail,
            "fix": self.fix,
            "seconds": None if self.seconds is None else round(self.seconds, 4),
            "facts": dict(self.facts),
        }


def duration(seconds: float) -> str:
    """A length of time as people read it: `35 ms`, `1.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The findings about one endpoint, in the order of the steps.

    Attributes:
        target: What was examined: a URL, or a service's name.
        findings: One finding per step.
        snippets: Python programs that use what was found, by framework (`langchain`, `llamaindex`, or `kserve_core`
            where no framework's class fits); empty if a step failed.
        seconds: How long it took in all.
    """

    target: str
    findings: tuple[Finding, ...]
    snippets: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether no step failed."""
        return all(finding.status != "failed" for finding in self.findings)

    @property
    def exit_code(self) -> int:
        """What the command exits with: 0 if `ok`, else 1."""
        return 0 if self.ok else 1

    def finding(self, step: str) -> Finding | None:
        """A step's finding, or None if there is no such step."""
        return next((finding for finding in self.findings if finding.step == step), None)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, as `kserve-doctor --json` prints it."""
        return {
            "target": self.target,
            "ok": self.ok,
            "seconds": round(self.seconds, 4),
            "steps": [finding.to_dict() for finding in self.findings],
            "snippets": dict(self.snippets),
        }

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __str__(self) -> str:
        from kserve_core.doctor.render import render

        return render(self)
