"""The file beside a model: whose it is, what it takes the place of, and what becomes of it when that is written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from calipose.calibration.maps import Calibration, CalibrationMap
from calipose.config.settings import PredictSettings
from calipose.config.stored import StoredModel, renew_stored, stored_calibration, stored_path, write_stored
from calipose.errors import InputError
from calipose.model.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

OWN = Calibration(score=CalibrationMap(x=(0.0, 1.0), y=(0.0, 0.5)), keypoint=CalibrationMap(x=(0.0, 1.0), y=(0.2, 0.7)))
OTHER = Calibration(score=CalibrationMap(x=(0.0, 1.0), y=(0.1, 0.9)))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "mine.onnx"
    path.write_bytes(b"a network")
    return path


def test_the_whole_calibration_is_taken(model: Path) -> None:
    assert stored_calibration(model, OWN) == OWN
    assert write_stored(model, StoredModel(calibration=OTHER), any_file=True) == stored_path(model)
    assert stored_calibration(model, OWN) == OTHER  # no field of the model's own, though OTHER has no keypoint map
    assert stored_calibration(model.with_suffix(".safetensors"), OWN) == OTHER
    assert json.loads(stored_path(model).read_text())["sha256"] == ""


def test_a_file_of_one_model_is_refused_for_another(model: Path) -> None:
    write_stored(model, StoredModel(calibration=OTHER))
    assert stored_calibration(model, OWN) == OTHER
    other = model.with_suffix(".safetensors")
    other.write_bytes(b"a network")
    with pytest.raises(InputError, match=r"mine\.calipose\.json: was made for another model \(mine\.onnx\)"):
        stored_calibration(other, OWN)
    model.write_bytes(b"another network")
    with pytest.raises(InputError, match="was made for another model"):
        stored_calibration(model, OWN)


def test_what_a_model_of_ours_knows_itself_is_refused(model: Path) -> None:
    write_stored(model, StoredModel(predict=PredictSettings(short_side=64)))
    with pytest.raises(InputError, match=r"gives form, skeleton or predict, which .*mine\.onnx knows itself"):
        stored_calibration(model, OWN)


def test_a_model_that_is_written_anew_is_not_misread(model: Path) -> None:
    renew_stored(model, OWN)
    assert not stored_path(model).exists()  # nothing lay there
    write_stored(model, StoredModel(calibration=OTHER), any_file=True)
    before = stored_path(model).read_bytes()
    renew_stored(model, OTHER)
    assert stored_path(model).read_bytes() == before  # still of each model of that name
    renew_stored(model, OWN)
    assert stored_calibration(model, OTHER) == OWN
    with pytest.raises(InputError, match="was made for another model"):
        stored_calibration(model.with_suffix(".safetensors"), OWN)


def test_checkpoints_take_it_and_renew_it(tmp_path: Path, tiny_checkpoint: Checkpoint) -> None:
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, replace(tiny_checkpoint, calibration=OWN))
    assert load_checkpoint(path).calibration == OWN
    write_stored(path, StoredModel(calibration=OTHER), any_file=True)
    assert load_checkpoint(path).calibration == OTHER
    save_checkpoint(path, replace(tiny_checkpoint, calibration=OWN))
    assert load_checkpoint(path).calibration == OWN
