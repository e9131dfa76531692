"""docs/decisions.md: the contents have a row for each entry: its question, and the choice that it begins with."""

from __future__ import annotations

import re
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[1] / "docs" / "decisions.md").read_text(encoding="utf-8")


def anchor(title: str) -> str:
    """As GitHub and mkdocs make it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def test_the_contents_are_the_entries() -> None:
    rows = re.findall(r"^\| \[(.+\?)\]\(#([^)]+)\) \| (.+) \|$", TEXT, re.MULTILINE)
    entries = re.findall(r"^## (?!Contents)(.+)\n\n\*\*Choice:\*\* (.+)\.\n\n", TEXT, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^## ", TEXT, re.MULTILINE)) - 1, "an entry begins with '**Choice:** ... .'"
    assert {at: choice for _, at, choice in rows} == {anchor(title): choice for title, choice in entries}
    assert len(rows) == len(entries), "one row an entry"
