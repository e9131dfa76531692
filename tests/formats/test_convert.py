"""`calipose convert poses.jsonl OUT --format F`: every format, what it holds and what it cannot."""

import json
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from typer.testing import CliRunner

from calipose.cli import app
from calipose.errors import InputError
from calipose.formats.convert import convert_poses
from calipose.formats.jsonl import write_jsonl
from calipose.formats.table import FORMATS
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

POSES = Poses(np.linspace(5.0, 40.0, 34).reshape(1, 17, 2), np.array([0.9]), (64, 48), track_ids=np.array([1]))
STILLS = [{"file": f"in/{name}.png", "drawing": None, **POSES.to_dict()} for name in "ab"]
FRAMES = [{"file": "dance.mp4", "index": i, "seconds": i / 25, **POSES.to_dict()} for i in range(3)]


def made(folder: Path, entries: list[dict]) -> str:
    path = folder / "poses.jsonl"
    write_jsonl(path, entries)
    return str(path)


def call(*arguments: str) -> tuple[int, str]:
    run = CliRunner().invoke(app, ["convert", *arguments])
    return run.exit_code, " ".join(f"{run.output}{run.exception or ''}".split())


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_what_its_writer_writes(name: str, tmp_path: Path) -> None:
    row = FORMATS[name]
    code, said = call(made(tmp_path, [*STILLS, *FRAMES]), str(tmp_path / "new" / "out.x"), "--format", name)
    assert code == 0, said
    row.write(tmp_path / "direct", iter([*STILLS, *FRAMES]), COCO_17)
    assert (tmp_path / "new" / "out.x").read_bytes() == (tmp_path / "direct").read_bytes()
    assert ("2 images" in said) == row.takes_images
    assert ("3 frames" in said) == row.takes_videos
    assert (f"format '{name}' holds no" in said) == (not (row.takes_images and row.takes_videos))


@pytest.mark.parametrize(
    ("name", "entries", "held"),
    [("trc", STILLS, "frames of videos"), ("yolo", FRAMES, "still images"), ("cvat", FRAMES, "still images")],
)
def test_what_a_format_cannot_hold_is_no_file(name: str, entries: list[dict], held: str, tmp_path: Path) -> None:
    code, said = call(made(tmp_path, entries), str(tmp_path / "out"), "--format", name)
    assert code
    assert f"only, format '{name}' holds {held} only" in said
    assert [path.name for path in tmp_path.iterdir()] == ["poses.jsonl"]


def test_what_belongs_to_a_format_is_written_beside(tmp_path: Path) -> None:
    source = made(tmp_path, STILLS)
    done = convert_poses(source, tmp_path / "tasks.json", "label-studio")
    assert done.files == (tmp_path / "tasks.json", tmp_path / "tasks.xml")
    assert ElementTree.parse(tmp_path / "tasks.xml").getroot().tag == "View"
    assert call(source, str(tmp_path / "results.json"))[0] == 0  # COCO results by default
    assert [entry["file"] for entry in json.loads((tmp_path / "results.json").read_text())] == ["in/a.png", "in/b.png"]
    assert call(source, str(tmp_path / "openpose.zip"), "--format", "openpose", "-q") == (0, "")
    assert zipfile.is_zipfile(tmp_path / "openpose.zip")


def test_other_keypoints_need_their_skeleton(tmp_path: Path) -> None:
    stick = Skeleton("stick", ("head", "foot"), (), (), (0.1, 0.1))
    poses = Poses(np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([0.5]), (64, 48), skeleton=stick)
    source = made(tmp_path, [{"file": "a.png", **poses.to_dict()}])
    (tmp_path / "stick.json").write_text(json.dumps(stick.to_dict()))
    code, said = call(source, str(tmp_path / "out.json"))
    assert code
    assert "the poses are of skeleton 'stick'" in said
    code, said = call(source, str(tmp_path / "out.json"), "--skeleton", str(tmp_path / "stick.json"))
    assert code == 0, said
    assert json.loads((tmp_path / "out.json").read_text())[0]["keypoints"][:2] == [1, 2]


def test_what_is_refused(tmp_path: Path) -> None:
    source = made(tmp_path, STILLS)
    with pytest.raises(InputError, match="unknown format 'xml'"):
        convert_poses(source, tmp_path / "out", "xml")
    with pytest.raises(InputError, match="is the file itself"):
        convert_poses(source, source, "jsonl")
    (tmp_path / "other.jsonl").write_text('{"file": "a.png"}\n')
    with pytest.raises(InputError, match=r"other\.jsonl, line 1: not from calipose predict"):
        convert_poses(tmp_path / "other.jsonl", tmp_path / "out")
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read"):
        convert_poses(tmp_path / "none.jsonl", tmp_path / "out")
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read"):
        convert_poses(tmp_path / "none.jsonl", tmp_path / "other.jsonl")  # which is there
    with pytest.raises(InputError, match=r"tasks\.xml: .* goes there; name the file tasks\.json"):
        convert_poses(source, tmp_path / "tasks.xml", "label-studio")
    (tmp_path / "frames.jsonl").write_text(json.dumps({**FRAMES[0], "index": None}) + "\n")
    with pytest.raises(InputError, match=r"frames\.jsonl, line 1: not from calipose predict"):
        convert_poses(tmp_path / "frames.jsonl", tmp_path / "out", "openpose")
    (tmp_path / "labels.json").write_text("[]")
    code, said = call(str(tmp_path / "labels.json"), str(tmp_path / "out"), "--format", "yolo")
    assert code
    assert "labels become COCO annotations; --format is for poses" in said
