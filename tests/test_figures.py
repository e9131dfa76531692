"""Figures that stand in several documents are equal: the model card owns those of the packaged models."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from calipose.inference.predictor import Predictor

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", "CHANGELOG.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]


def text(name: str) -> str:
    """A document on one line."""
    return " ".join((ROOT / name).read_text(encoding="utf-8").split())


CARD = text("src/calipose/weights/README.md")
OWNED = {  # what a document says of the packaged models: a pattern, and where the card says the same
    "AP of accurate": (r"`accurate`, has \**AP (0\.\d+)", r"\*\*accurate\*\* \| (0\.\d+) "),
    "AP with its interval": (r"AP (0\.4\d+ \([^)]+\))\*\* on 154", r"\*\*accurate\*\* \| (0\.\d+ \([^)]+\))"),
    "AP of fast": (r"`fast` .{0,40}AP (0\.\d+ \([^)]+\)) in", r"\*\*fast\*\* \| (0\.\d+ \([^)]+\))"),
    "time of fast": (r"in (\d\.\d) times the time of MoveNet", r"\*\*fast\*\* \|.* \| (\d\.\d) \| \| \*\*onepass"),
    "AP of onepass": (r"`onepass`, has AP (0\.\d+ \([^)]+\))", r"\*\*onepass\*\* \| (0\.\d+ \([^)]+\))"),
    "AP of MoveNet": (r"MultiPose, which has AP (0\.\d+ \([^)]+\))", r"MultiPose, long side 512 \| (0\.\d+ \([^)]+\))"),
    "calibration images": (r"calibrated on (\d+) images", r"fitted on (\d+) images"),
}


@pytest.mark.parametrize("what", OWNED)
def test_documents_repeat_the_card(what: str) -> None:
    shown, owned = OWNED[what]
    (figure,) = set(re.findall(owned, CARD))
    said = {page: set(re.findall(shown, text(page))) for page in PAGES}
    assert any(said.values()), f"no document says it as {shown}: mend the pattern"
    assert {page: figures for page, figures in said.items() if figures - {figure}} == {}, f"the card says {figure}"


def test_the_card_knows_the_files() -> None:
    """The data of the calibrations are those that the card names."""
    for name in ("accurate", "fast", "onepass"):
        calibration = Predictor(name).calibration
        assert calibration.score.data == "39 of coco-train and coco-val"
        assert calibration.regions.max_coverage == 0.99
    weights = ROOT / "src" / "calipose" / "weights"
    assert {path.name for path in weights.iterdir() if path.suffix in {".onnx", ".json", ".safetensors"}} <= set(
        re.findall(r"`([\w.]+)`", CARD)
    )
