"""Documents, docstrings and messages use the field's words, which a newcomer searches for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(
    path
    for folder in ("src", "docs", "tools", "benchmarks", "experiments", "examples")
    for suffix in ("py", "md", "js", "mjs", "html", "toml")
    for path in (ROOT / folder).rglob(f"*.{suffix}")
    if "node_modules" not in path.parts
) + [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
WORDS = {  # what is not written: what is
    r"\bpictures?\b": "image",
    r"\bdrawn (?:people|scenes?|crowds?)\b": "synthetic people",
    r"\bdraw-data\b|\bdemo-train\b": "synthesize, train-demo",
    r"\bwish(?:es|ed)?\b": "target precision",
    r"\bof (?:nobody|somebody)\b": "false positive; matched with a person",
    r"\bjoint_(?!of\b)\w+|--\S*joint\S*": "keypoint, in names and options",
    r"\bScoreMap\b": "CalibrationMap",
}


@pytest.mark.parametrize("word", WORDS)
def test_the_fields_words(word: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in FILES
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(word, line, re.IGNORECASE)
    ]
    assert not found, f"write {WORDS[word]!r}:\n" + "\n".join(found)


def test_there_are_files() -> None:
    assert {"docs/start.md", "src/calipose/poses.py"} <= {path.relative_to(ROOT).as_posix() for path in FILES}
