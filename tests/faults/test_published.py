"""The published table is the tested one."""

from __future__ import annotations

from faults.publish import PAGE, page


def test_the_page_is_the_table() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run: cd tests && python -m faults.publish"
