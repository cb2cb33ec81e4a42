"""Writes `docs/faults.md` from the table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from faults.table import CONNECTIONS, TABLES, Row, Want

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
KINDS = ("rest", "sse", "grpc", "grpc-stream")
HEAD = """# What goes wrong, and what you get

Each row is a fault that the tests play against the classes of both frameworks, blocking and from an event loop
(`tests/faults/`): four runs a cell. A cell says how the call ends and how many requests with a prompt in them reached the
server. `✓` is the whole answer; `text` means that the pieces handed out before are on the error too, as
`partial_text`. An empty cell cannot have the fault. In every run nothing hangs and no task and no socket is left.

A request is sent again twice at most (`max_retries=2`), never after the first piece of a stream was handed out. Models
that are being loaded are waited for within `timeout`. Errors are described in [errors.md](errors.md).

This page is made from the tests' table: `python -m faults.publish` in `tests/`.
"""


def page() -> str:
    """The page's text."""
    parts = [HEAD]
    for title, rows in {"Connections": CONNECTIONS, **TABLES}.items():
        parts += [f"## {title}\n", *_table(rows), ""]
    return "\n".join(parts)


def _table(rows: Iterable[Row]) -> Iterable[str]:
    shown = [kind for kind in KINDS if any(kind in row.cells for row in rows)]
    yield "| fault | " + " | ".join(_NAMES[kind] for kind in shown) + " |"
    yield "|---|" + "---|" * len(shown)
    for row in rows:
        yield f"| {row.what} | " + " | ".join(_cell(row.cells.get(kind)) for kind in shown) + " |"


_NAMES = {"rest": "REST", "sse": "REST, streamed", "grpc": "gRPC", "grpc-stream": "gRPC, streamed"}


def _cell(want: Want | None) -> str:
    if want is None:
        return ""
    text = "✓" if want.outcome == "ok" else f"`{want.outcome}`"
    if want.text and want.outcome != "ok":
        text += ", text"
    if want.layer not in {None, "network", "runtime"}:
        text += f", {want.layer}"
    return text if want.sent == 1 else f"{text}, {want.sent} sent"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
