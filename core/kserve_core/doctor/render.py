"""A report as text for people: a line per step, what to do below each that failed, programs to paste at the end."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from kserve_core.doctor.findings import Finding, Report, duration

LABELS = {
    "cluster": "Cluster",
    "dns": "DNS",
    "tcp": "TCP",
    "tls": "TLS",
    "http2": "HTTP/2",
    "auth": "Auth",
    "ready": "Ready",
    "runtime": "Runtime",
    "models": "Models",
    "generate": "Generate",
    "embed": "Embed",
    "rerank": "Rerank",
}
"""Steps as people read them."""

_SIGNS = {"ok": "✓", "warning": "!", "failed": "✗", "skipped": "-"}
_PLAIN_SIGNS = {"ok": "+", "warning": "!", "failed": "x", "skipped": "-"}
_COLOURS = {"ok": "32", "warning": "33", "failed": "31", "skipped": "2"}
_FRAMEWORKS = {"langchain": "LangChain", "llamaindex": "LlamaIndex", "kserve_core": "tensors"}
_INDENT = " " * 13


class Painter:
    """How text is put on a terminal.

    Args:
        colour: Whether to use colours.
        width: How many characters a line may have.
        unicode: Whether the output takes more than ASCII.
    """

    def __init__(self, *, colour: bool = False, width: int = 100, unicode: bool = True) -> None:
        self._colour = colour
        self._width = max(60, width)
        self._signs = _SIGNS if unicode else _PLAIN_SIGNS

    def head(self, target: str) -> str:
        """The first line."""
        return f"{self._paint('1', 'kserve-doctor')} {target}\n"

    def finding(self, finding: Finding) -> str:
        """A step's lines; none for one that was left out because of another."""
        if finding.facts.get("after"):
            return ""
        colour = _COLOURS[finding.status]
        sign = self._paint(colour, self._signs[finding.status])
        label = self._paint("1", f"{LABELS.get(finding.step, finding.step):<9}")
        title = self._wrapped(finding.title, first=0)
        if finding.status == "skipped":
            title = [self._paint("2", line) for line in title]
        elif finding.status == "failed":
            title = [self._paint("31", line) for line in title]
        if finding.seconds is not None and finding.seconds >= 0.0005:
            title[-1] += self._paint("2", f"  {duration(finding.seconds)}")
        lines = [f"{sign} {label}  {title[0]}", *(f"{_INDENT}{line}" for line in title[1:])]
        for line in finding.detail.splitlines():
            lines += [f"{_INDENT}{self._paint('2', part)}" for part in self._wrapped(line)]
        mark = "fix: "
        for line in finding.fix.splitlines():
            parts = [line] if line.startswith("  ") else self._wrapped(line, less=5)
            for part in parts:
                lines.append(f"{_INDENT}{self._paint('36', mark)}{part}")
                mark = " " * 5
        return "\n".join(lines)

    def tail(self, report: Report) -> str:
        """The programs and the verdict."""
        parts = []
        left = [LABELS.get(item.step, item.step) for item in report.findings if item.facts.get("after")]
        if left:
            parts.append(self._paint("2", f"{self._signs['skipped']} not tried  {', '.join(left)}"))
        for key, program in report.snippets.items():
            title = self._paint("1", f"# --- {_FRAMEWORKS.get(key, key)} ---")
            parts.append(f"\n{title}\n{program.rstrip()}")
        parts.append(f"\n{self._verdict(report)}")
        return "\n".join(parts)

    def _verdict(self, report: Report) -> str:
        failed = [finding for finding in report.findings if finding.status == "failed"]
        warned = sum(finding.status == "warning" for finding in report.findings)
        took = f"({duration(report.seconds)})"
        if failed:
            labels = ", ".join(LABELS.get(finding.step, finding.step) for finding in failed)
            return f"{self._paint('1;31', f'Failed: {labels}.')} What to do stands below each. {took}"
        if warned:
            text = f"It works, with {warned} warning{'' if warned == 1 else 's'}."
            return f"{self._paint('1;33', text)} {took}"
        return f"{self._paint('1;32', 'Everything works.')} {took}"

    def _wrapped(self, text: str, *, first: int = 0, less: int = 0) -> list[str]:
        width = self._width - len(_INDENT) - less
        lead = len(text) - len(text.lstrip())
        if text[:1].isdigit() and text[1:3] == ". ":  # an entry of a list
            lead = 3
        wrapped = textwrap.wrap(
            text,
            width,
            initial_indent=" " * first,
            subsequent_indent=" " * lead,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        )
        return wrapped or [text]

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text


def render(report: Report, *, colour: bool = False, width: int = 100, unicode: bool = True) -> str:
    """A report as text.

    Args:
        report: The report.
        colour: Whether to use colours.
        width: How many characters a line may have; commands are not broken.
        unicode: Whether the output takes more than ASCII.
    """
    painter = Painter(colour=colour, width=width, unicode=unicode)
    findings: Sequence[Finding] = report.findings
    parts = [painter.head(report.target), *map(painter.finding, findings), painter.tail(report)]
    return "\n".join(part for part in parts if part)
