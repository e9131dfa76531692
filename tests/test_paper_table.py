"""docs/paper.md is true: every place it names exists, and its docstring names the equation or table."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

PAPER = Path(__file__).resolve().parents[1] / "docs" / "paper.md"
SYMBOLS = {
    "R_g", "R_k", "R_I", "D_cq", "D_qq', q'", "R'_k", "D_qk", "D_ck", "I (label)", "Omega", "gamma", "W", "OKS",
    "d, s, k", "v", "R'_I", "L_I", "L_D", "CIR, KQE, PQE", "QEB", "Auto, SP, KPS, KQ", "K", "N", "C",
}  # fmt: skip


def rows() -> dict[str, tuple[list[str], str]]:
    """Symbol -> places (module:name) and the numbered thing in the paper, of the first table."""
    table = PAPER.read_text(encoding="utf-8").split("\n## ")[0]
    cells = [line.strip("|").split("|") for line in table.splitlines() if line.startswith("| ")][1:]
    return {row[0].strip(): (re.findall(r"`([^`]+)`", row[3]), row[4].strip()) for row in cells}


def numbered(text: str) -> set[str]:
    """What a text mentions: "Eq. 1", "Table 3", "Figure 2"; "Tables 2 and 3" are two."""
    found = set()
    for kind, numbers in re.findall(r"(Eq|Table|Figure)s?\.? (\d(?:(?:, | and )\d)*)", text):
        found |= {f"{kind} {number}" for number in re.findall(r"\d", numbers)}
    return found


def test_all_symbols_are_there() -> None:
    assert rows().keys() >= SYMBOLS


@pytest.mark.parametrize(
    ("place", "source"),
    sorted({(place, source) for places, source in rows().values() for place in places}),
)
def test_place_exists_and_names_its_source(place: str, source: str) -> None:
    module_name, _, name = place.partition(":")
    module = importlib.import_module(module_name)
    found = module
    for part in name.split("."):
        found = getattr(found, part)
    said = f"{inspect.getdoc(found)} {module.__doc__}"
    assert numbered(source) <= numbered(said), f"{place} does not name {source}"


def test_every_row_has_a_place() -> None:
    assert all(places and source for places, source in rows().values())
