"""Score maps and calibrations: strictly increasing, inverse, refusal of nonsense."""

from typing import Any

import numpy as np
import pytest

from calipose.calibration.maps import Calibration, CalibrationMap, Setting
from calipose.calibration.precision import PrecisionTable
from calipose.errors import InputError

SETTING = Setting(short_side=512, flip=False, nms_threshold=0.3)
BENT = CalibrationMap(x=(0.1, 0.4, 0.8), y=(0.05, 0.5, 0.7), setting=SETTING, data="val", poses=900, images=100)


@pytest.mark.parametrize(
    ("raw", "score"),
    [
        (0.1, 0.05), (0.4, 0.5), (0.8, 0.7), (0.25, 0.275), (0.6, 0.6),
        (0.03, 0.05 - 1e-7), (-0.6, 0.05 - 1e-6), (1.5, 0.7 + 1e-6), (-np.inf, -np.inf),
    ],
)  # fmt: skip
def test_values(raw: float, score: float) -> None:
    assert BENT(raw) == pytest.approx(score, abs=1e-12)
    if np.isfinite(raw):
        assert BENT.inverse(score) == pytest.approx(raw, abs=1e-9)


def test_strictly_increasing_far_beyond_its_ends() -> None:
    raw = np.linspace(-5, 5, 10001)
    assert (np.diff(BENT(raw)) > 0).all()
    assert BENT(raw.reshape(-1, 1)).shape == (10001, 1)
    np.testing.assert_allclose(BENT.inverse(BENT(raw)), raw, atol=1e-8)


def test_identity() -> None:
    raw = np.array([-2.0, 0.3, 7.0, -np.inf])
    assert CalibrationMap.identity().is_identity
    assert np.array_equal(CalibrationMap.identity()(raw), raw)
    assert np.array_equal(CalibrationMap.identity().inverse(raw), raw)
    assert not BENT.is_identity


@pytest.mark.parametrize("score_map", [CalibrationMap.identity(), BENT])
def test_to_dict_and_back(score_map: CalibrationMap) -> None:
    assert CalibrationMap.from_dict(score_map.to_dict()) == score_map


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"x": [0.1, 0.4]}, "2 knots in x, 3 in y"),
        ({"x": [0.1, 0.4, 0.4]}, "x must be finite and strictly increasing"),
        ({"y": [0.1, 0.3, 0.2]}, "y must be finite and strictly increasing"),
        ({"y": [0.1, 0.3, 1.2]}, r"in \[0, 1\]"),
        ({"y": [-0.1, 0.3, 0.9]}, r"in \[0, 1\]"),
        ({"x": [0.1, 0.4, float("nan")]}, "x must be finite"),
        ({"y": "high"}, "array"),
        ({"slope": 1}, "unknown field `slope`"),
        ({"poses": -1}, "poses"),
        ({"setting": {"short_side": 512}}, "missing"),
    ],
)
def test_nonsense_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words) as raised:
        CalibrationMap.from_dict(BENT.to_dict() | change, "file.safetensors")
    assert "file.safetensors" in str(raised.value)


def test_calibration_to_dict_and_back() -> None:
    table = PrecisionTable.count([0.9, 0.5], [0.8, 0.0], [0, 1], people=3)
    calibration = Calibration(score=BENT, oks50=BENT, keypoint=BENT, precision=table)
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert not calibration.is_identity
    assert Calibration().is_identity


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"score": {"x": [0.0], "y": []}}, "1 knots in x"),
        ({"precision": {"raw": [0.5], "poses": [1, 2]}}, "columns"),
        ({"scores": {}}, "unknown field"),
    ],
)
def test_a_damaged_calibration_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"model.onnx.*{words}"):
        Calibration.from_dict(Calibration().to_dict() | change, "model.onnx")
