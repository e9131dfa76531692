"""Links between the repository's documents lead to files and headings that exist; needs no network and no mkdocs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from documents import FENCE

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "src", "examples", "benchmarks", "experiments", "tools", "tests")
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md")))
    if "node_modules" not in path.parts
)


def anchors(path: Path) -> set[str]:
    """Those of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in titles]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text(encoding="utf-8")))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{name}: no file {link}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{name}: no heading {link}"


def test_source_files_name_documents_that_exist() -> None:
    """docs/x.md in a docstring or message."""
    for path in (ROOT / "src").rglob("*.py"):
        for named in re.findall(r"\b(?:docs/[\w-]+\.md|(?:benchmarks|experiments|tools)/\w+\.py)", path.read_text()):
            assert (ROOT / named).is_file(), f"{path.relative_to(ROOT)}: {named}"


def test_documents_name_files_that_exist() -> None:
    """`tests/x.py`, `tools/x.py`, `src/...` in a document's text."""
    for name in PAGES:
        shown = re.findall(
            r"(?<!'s )`((?:tests|tools|benchmarks|experiments|src|docs|examples)/[\w./-]+\.\w+)`",
            " ".join((ROOT / name).read_text(encoding="utf-8").split()),
        )
        for named in shown:
            assert (ROOT / named).exists(), f"{name}: {named}"
