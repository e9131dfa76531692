"""The table of formats: every row is offered, written and documented; a new format is one row."""

import json
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import calipose
from calipose.cli import app
from calipose.errors import InputError
from calipose.formats.entries import Entry, Target, open_target, read_entries
from calipose.formats.table import FORMATS, Format, saved_formats, streamed_formats
from calipose.inference.output_folder import OutputFolder
from calipose.inference.stream import ImageResult
from calipose.io.sources import Frame
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

DOCS = Path(__file__).resolve().parents[2] / "docs" / "predict.md"


def words(result: Result) -> str:
    """All that was printed, without frames and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())


def help_text() -> str:
    done = CliRunner().invoke(app, ["predict", "--help"], env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return words(done)


def write_names(target: Target, entries: Iterable[Entry], skeleton: Skeleton, /) -> None:
    """A format of our own: the file's name and the number of poses."""
    with open_target(target) as stream:
        stream.writelines(f"{entry['file']} {len(entry['poses'])}\n" for entry in entries)


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An image, in which a stand-in for the model finds one person."""
    monkeypatch.chdir(tmp_path)
    calipose.save_image(tmp_path / "photo.jpg", np.full((48, 64, 3), 90, np.uint8))
    poses = Poses(np.linspace(5.0, 40.0, 34).reshape(1, 17, 2), np.array([0.9]), (64, 48))

    class Model:
        skeleton = COCO_17
        calibration = calipose.Calibration()
        settings = calipose.PredictSettings(short_side=48)
        setting = settings.setting

    def predict_images(_: object, sources: Iterable[calipose.Source], *__: object) -> Iterable[ImageResult]:
        return (ImageResult(source, Frame(next(iter(source.frames())).image, source.name), poses) for source in sources)

    monkeypatch.setattr("calipose.cli.predict.open_predictor", lambda *_, **__: Model())
    monkeypatch.setattr("calipose.cli.prediction_run.predict_images", predict_images)
    return tmp_path


def test_a_new_format_is_one_row(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Format("names and numbers of poses", "names.txt", write_names, takes_videos=False, can_stream=True)
    monkeypatch.setitem(FORMATS, "names", row)
    assert "names: names and numbers of poses (names.txt)" in help_text()
    assert "jsonl, csv, csv-wide, coco or names" in help_text()
    done = CliRunner().invoke(app, ["predict", "photo.jpg", "--save", "names", "--save", "csv"])
    assert done.exit_code == 0, done.output
    assert (photo / "calipose-out" / "names.txt").read_text() == "photo.jpg 1\n"
    assert {file.name for file in (photo / "calipose-out").iterdir()} == {
        "photo.jpg", "poses.jsonl", "poses.csv", "names.txt"
    }  # fmt: skip
    done = CliRunner().invoke(app, ["predict", "photo.jpg", "--out", "-", "--format", "names"])
    assert done.stdout == "photo.jpg 1\n"
    done = CliRunner().invoke(app, ["predict", "photo.jpg", "--save", "xml"])
    assert done.exit_code == 2
    assert "label-studio, cvat, coco-dataset, yolo, openpose, trc or names" in words(done)


def test_every_format_is_offered() -> None:
    text = help_text()
    for name, file in saved_formats().items():
        assert f"{name}: {FORMATS[name].description} ({file})" in text
    assert set(saved_formats()) | {"jsonl"} == set(FORMATS)
    assert set(streamed_formats()) <= set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_formats_take_what_they_say(tmp_path: Path, name: str) -> None:
    """A file of a still image and a video's frame tells whether the frame is in it."""
    points = np.linspace(5.0, 40.0, 34).reshape(1, 17, 2)
    poses = Poses(points, np.array([0.9]), (64, 48), track_ids=np.array([1])).to_dict()
    still, frame = {"file": "photo.jpg", **poses}, {"file": "dance.mp4", "index": 3, "seconds": 0.125, **poses}
    FORMATS[name].write(tmp_path / "out", iter([still, frame]), COCO_17)
    path = tmp_path / "out"
    text = " ".join(zipfile.ZipFile(path).namelist()) if zipfile.is_zipfile(path) else path.read_text()
    assert ("photo" in text) == FORMATS[name].takes_images
    assert ("dance" in text) == FORMATS[name].takes_videos


def test_the_docs_have_the_table() -> None:
    """docs/predict.md, "Formats": a line for each row, with what the row says."""
    section = DOCS.read_text(encoding="utf-8").partition("## Formats")[2].partition("\n## ")[0]
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("| `")
    ]
    yes_or_no = {True: "yes", False: "no"}
    assert lines == [
        [
            f"`{name}`",
            f"`{row.file_name or 'poses.jsonl'}`",
            row.description,
            yes_or_no[row.takes_videos],
            yes_or_no[row.can_stream],
        ]
        for name, row in FORMATS.items()
    ]


def test_an_unknown_format_is_named(tmp_path: Path) -> None:
    for name in ("xml", "jsonl"):  # JSON lines are always written
        with pytest.raises(InputError, match=f"unknown format '{name}'; use one of csv, csv-wide, coco"):
            OutputFolder(tmp_path / "out", [], formats=[name])


def test_json_lines_are_read_again(photo: Path) -> None:
    assert CliRunner().invoke(app, ["predict", "photo.jpg", "-q"]).exit_code == 0
    (entry,) = read_entries(photo / "calipose-out" / "poses.jsonl", ("file", "drawing", "image_size"))
    assert (entry["drawing"], entry["image_size"]) == ("photo.jpg", [64, 48])
    assert json.loads(json.dumps(entry)) == entry
