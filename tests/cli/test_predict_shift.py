"""`calipose predict` says when images are not like the calibration's, in words and as JSON."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest
from test_predict import SIZE, SpotBackend, spots
from typer.testing import CliRunner, Result

from calipose.calibration.maps import Calibration, CalibrationMap
from calipose.calibration.shift import ImageSummaries
from calipose.cli import app
from calipose.config.settings import PredictSettings
from calipose.draw import save_image
from calipose.inference.predictor import Predictor


def calibration(size: float) -> Calibration:
    """Of forty images with one spot each, whose pose was so large."""
    rng = np.random.default_rng(0)
    raw, sizes = rng.uniform(0.4, 0.95, (40, 1)), rng.normal(size, 1, (40, 1))
    return Calibration(
        score=CalibrationMap(x=(0.0, 1.0), y=(0.0, 1.0), kind="isotonic", poses=40, images=40),
        images=ImageSummaries.of(list(zip(raw, sizes, strict=True))),
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty images of one spot each, of about the sizes and scores that the backend always gives."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(1)
    for i in range(30):
        save_image(tmp_path / "in" / f"{i}.png", spots((40 + i, 50, rng.uniform(0.4, 0.95))))
    return tmp_path


def call(monkeypatch: pytest.MonkeyPatch, size: float, *arguments: str) -> Result:
    settings = PredictSettings(short_side=SIZE[1], nms_threshold=0.9)
    predictor = Predictor(SpotBackend(), settings, calibration=calibration(size))
    monkeypatch.setattr("calipose.cli.predict.open_predictor", lambda *_, **__: predictor)
    return CliRunner().invoke(app, ["predict", *arguments])


def found_size(monkeypatch: pytest.MonkeyPatch) -> float:
    done = call(monkeypatch, 1000.0, "in", "--no-draw", "--json", "--out", "first")
    return float(json.loads(done.stdout)["shift"]["medians"]["size"]["here"])


def test_it_speaks_where_images_differ_and_only_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = found_size(monkeypatch)
    quiet = call(monkeypatch, usual, "in", "--no-draw", "--out", "same")
    assert quiet.exit_code == 0, quiet.output
    assert "may not hold" not in quiet.output
    loud = call(monkeypatch, 4 * usual, "in", "--no-draw", "--out", "other")
    assert loud.exit_code == 0
    assert "scores may not hold here: these 30 images have smaller people" in " ".join(loud.output.split())


def test_the_run_as_json(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = call(monkeypatch, 500.0, "in", "--no-draw", "--json", "--out", "out")
    assert done.exit_code == 0, done.output
    run = json.loads(done.stdout)  # one line, and nothing else
    assert (run["images"], run["poses"], run["errors"], run["folder"]) == (30, 30, [], "out")
    assert run["shift"]["alarm"] is True
    assert run["shift"]["images"] == 30
    assert run["shift"]["p_each"]["size"] <= 0.02
    few = call(monkeypatch, 500.0, "in/1.png", "--no-draw", "--json", "--out", "few")
    assert json.loads(few.stdout)["shift"]["p"] is None
    assert call(monkeypatch, 500.0, "in", "--json", "--out", "-").exit_code == 2


def test_another_setting_is_not_compared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PredictSettings(short_side=SIZE[1], nms_threshold=0.9)
    predictor = Predictor(SpotBackend(), settings, calibration=calibration(500.0))
    other = msgspec.structs.replace(predictor.setting, short_side=999)
    fitted = calibration(500.0)
    fitted = msgspec.structs.replace(fitted, score=msgspec.structs.replace(fitted.score, setting=other))
    monkeypatch.setattr("calipose.cli.predict.open_predictor", lambda *_, **__: predictor.with_calibration(fitted))
    done = CliRunner().invoke(app, ["predict", "in", "--no-draw", "--json"])
    assert json.loads(done.stdout)["shift"] is None
