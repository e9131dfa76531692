"""Images in tars are found once and read where they lie; training from them is training from the folder."""

import io
import json
import tarfile
from pathlib import Path

import msgspec
import numpy as np
import pytest

from calipose.config.method import Method
from calipose.config.recipe import Recipe
from calipose.config.settings import BackboneSettings, DataSettings
from calipose.data.locate import find_data, read_data
from calipose.data.store import KeypointData
from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.data.tars import find_images
from calipose.errors import ImageError, InputError
from calipose.model.checkpoint import load_tensors
from calipose.training.loop import Trainer
from calipose.training.samples import read_stored

RECIPE = Recipe(
    name="tiny", size=64, batch_size=2, epochs=1,
    backbone=BackboneSettings(name="mobilenetv2-0.1"),
    method=Method(keypoint_width=4, instance_width=8, semantic_points=2),
    data=DataSettings(workers=0),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images in a folder, and in two tars as WebDataset has them: in folders, with other files between."""
    folder = write_synthetic_data(tmp_path_factory.mktemp("drawn") / "data", 6, EASY, (80, 64), seed=3).parent
    (folder / "tars").mkdir()
    names = sorted(path.name for path in (folder / "images").iterdir())
    for number, part in enumerate((names[:2], names[2:])):
        with tarfile.open(folder / "tars" / f"{number}.tar", "w") as tar:
            for name in reversed(part):
                tar.add(folder / "images" / name, f"train/{name}")
                text = tarfile.TarInfo(f"train/{name}.json")
                text.size = 2
                tar.addfile(text, io.BytesIO(b"{}"))
    return folder


def in_tars(folder: Path) -> KeypointData:
    return read_data([f"{folder / 'annotations.json'}={folder / 'tars'}"])


def test_images_and_their_paths(folder: Path) -> None:
    files, tars = read_data([folder]), in_tars(folder)
    assert len(tars) == 6
    for i in range(6):
        assert np.array_equal(read_stored(tars, i), read_stored(files, i))
        assert tars.image_path(i).parent.parent == folder / "tars" / f"{int(i > 1)}.tar"
        assert tars.image_path(i).name == files.image_path(i).name
    both = read_data([str(folder), f"{folder / 'annotations.json'}={folder / 'tars'}"])
    chosen = both.subset([8, 1])
    for i, index in enumerate((2, 1)):
        assert np.array_equal(read_stored(chosen, i), read_stored(files, index))


@pytest.mark.parametrize("workers", [0, 2])
def test_training_from_tars_is_training_from_the_folder(folder: Path, tmp_path: Path, workers: int) -> None:
    recipe = msgspec.structs.replace(RECIPE, data=DataSettings(workers=workers))
    ends = []
    for name, data in (("files", read_data([folder])), ("tars", in_tars(folder))):
        result = Trainer(recipe, data, tmp_path / name).run()
        ends.append((load_tensors(result.last)[0], result.history))
    assert ends[0][1] == ends[1][1]
    assert all((ends[1][0][name] == value).all() for name, value in ends[0][0].items())


def test_sizes_are_measured_in_tars(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "annotations.json").read_text())
    for image in content["images"]:
        del image["width"], image["height"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    data = read_data([f"{tmp_path / 'a.json'}={folder / 'tars'}"])
    assert data.sizes.tolist() == read_data([folder]).sizes.tolist()
    assert "measured" in data.assumptions[0]


def test_what_cannot_be_used(folder: Path, tmp_path: Path) -> None:
    first, second = sorted((folder / "tars").iterdir())
    with pytest.raises(InputError, match=r"(?s)4 broken entries.*no image 000003.jpg in the tars of .*0.tar"):
        read_data([f"{folder / 'annotations.json'}={first}"])
    with pytest.raises(InputError, match="images in tars are for training only; unpack them"):
        find_data(f"{folder / 'annotations.json'}={folder / 'tars'}")
    with pytest.raises(InputError, match=r"0.tar: its image train/00000\d.jpg is in .*0.tar, too"):
        find_images([first, first])
    packed = tmp_path / "packed.tar"
    with tarfile.open(packed, "w:gz") as tar:
        tar.add(folder / "annotations.json")
    with pytest.raises(InputError, match=r"packed\.tar: damaged, or not a plain tar"):
        find_images([packed])
    cut = tmp_path / "cut.tar"
    cut.write_bytes(second.read_bytes())
    data = read_data([f"{folder / 'annotations.json'}={folder / 'tars'}"])
    moved = data.subset([2])
    object.__setattr__(moved, "folders", (cut, cut))
    cut.write_bytes(second.read_bytes()[:600])
    with pytest.raises(ImageError, match=r"cut.tar ends before byte \d+: it was changed or cut off"):
        read_stored(moved, 0)
