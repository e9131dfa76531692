"""Models in the hub's form, against a local folder; the hub itself is a stand-in."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import calipose.inference.hub
from calipose.calibration.maps import Calibration, CalibrationMap, Setting
from calipose.config.recipe import Recipe
from calipose.errors import InputError
from calipose.inference.hub import from_pretrained, push_to_hub, save_pretrained
from calipose.inference.predictor import Predictor
from calipose.model.checkpoint import Checkpoint, save_checkpoint
from calipose.model.network import Network
from calipose.skeleton import COCO_17

MAP = CalibrationMap(
    x=(-1.0, 1.0), y=(0.1, 0.8), setting=Setting(short_side=64, flip=False, nms_threshold=0.3), data="drawn",
    poses=70, images=9,
)  # fmt: skip


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    recipe = Recipe.from_dict(
        {
            "name": "tiny",
            "backbone": {"name": "mobilenetv2-0.1"},
            "method": {"keypoint_width": 2, "instance_width": 4},
            "predict": {"short_side": 64, "score_threshold": -10.0, "max_poses": 5},
        }
    )
    path = tmp_path_factory.mktemp("run") / "last.safetensors"
    state = Network("mobilenetv2-0.1", 17, recipe.method).state_dict()
    save_checkpoint(path, Checkpoint(recipe, COCO_17, state, {"images": 9}, Calibration(score=MAP)))
    return path


def test_there_and_back(checkpoint: Path, tmp_path: Path) -> None:
    folder = save_pretrained(checkpoint, tmp_path / "model", licence="mit")
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["recipe"]["name"] == "tiny"
    assert config["calibration"]["score"]["poses"] == 70
    card = (folder / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: "calipose"\n')
    assert 'license: "mit"' in card
    assert "calibrated on drawn (70 poses of 9 images)" in card
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    want = Predictor(checkpoint).predict(image)
    for predictor in (from_pretrained(folder), Predictor(folder)):
        got = predictor.predict(image)
        assert np.array_equal(got.keypoints_img, want.keypoints_img)
        assert np.array_equal(got.scores, want.scores)


def test_from_the_hub(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_pretrained(checkpoint, tmp_path / "cache")
    asked = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setattr(calipose.inference.hub, "_hub", lambda _: SimpleNamespace(snapshot_download=snapshot_download))
    assert from_pretrained("owner/name").settings.max_poses == 5
    assert asked == [("owner/name", ["model.safetensors", "config.json", "README.md"])]


def test_push(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []

    class Api:
        def create_repo(self, name: str, private: bool, exist_ok: bool) -> None:
            done.append((name, private, exist_ok))

        def upload_folder(self, repo_id: str, folder_path: str, allow_patterns: list[str]) -> str:
            assert allow_patterns == ["model.safetensors", "config.json", "README.md"]
            done.append({file.name: file.read_bytes() for file in Path(folder_path).iterdir()})
            return f"address of {repo_id}"

    monkeypatch.setattr(calipose.inference.hub, "_hub", lambda _: SimpleNamespace(HfApi=Api))
    assert push_to_hub(checkpoint, "me/mine", private=True) == "address of me/mine"
    assert done[0] == ("me/mine", True, True)
    assert set(done[1]) == {"README.md", "config.json", "model.safetensors"}
    own = save_pretrained(checkpoint, tmp_path / "own", card="# My own card")
    push_to_hub(own, "me/mine")
    assert done[3]["README.md"].endswith(b"# My own card")


def test_what_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"holds no model\.safetensors"):
        from_pretrained(tmp_path)

    def refused(*_: object, **__: object) -> None:
        raise OSError("no such repository")

    monkeypatch.setattr(calipose.inference.hub, "_hub", lambda _: SimpleNamespace(snapshot_download=refused))
    with pytest.raises(InputError, match="'owner/none': no such folder, and the hub does not give it: no such repos"):
        from_pretrained("owner/none")
