"""Writers: the journal through interruptions, the formats entry by entry."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.formats.coco import image_ids, write_coco
from calipose.formats.csv import write_csv, write_wide_csv
from calipose.formats.cvat import write_cvat
from calipose.formats.entries import read_entries
from calipose.formats.journal import Journal
from calipose.formats.jsonl import write_jsonl
from calipose.formats.label_studio import write_label_studio
from calipose.poses import Poses
from calipose.skeleton import Skeleton

STICK = Skeleton("stick", ("head", "foot"), (), ((0, 1),), (0.1, 0.1))
STREAMED: list[Callable[..., None]] = [write_csv, write_wide_csv, write_coco, write_label_studio, write_cvat]


def poses(*scores: float) -> Poses:
    points = np.arange(4.0 * len(scores)).reshape(-1, 2, 2) + 1 / 3
    return Poses(points, np.array(scores), (64, 48), skeleton=STICK)


def entry(file: str, *scores: float, **more: Any) -> dict[str, Any]:
    return {"file": file, **more, **poses(*scores).to_dict()}


def files_in(path: Path) -> list[str]:
    return [found["file"] for found in read_entries(path)]


def test_a_journal_is_written_line_by_line(tmp_path: Path) -> None:
    with Journal(tmp_path / "poses.jsonl") as journal:
        assert not list(tmp_path.iterdir())  # nothing before the first line
        journal.add("a/1.jpg", "1.jpg", poses(0.5, 0.25))
        (line,) = (tmp_path / "poses.jsonl").read_text().splitlines()  # there at once
        journal.add("a/2.jpg", None, poses())
        assert journal.done == {"a/1.jpg", "a/2.jpg"}
    read = json.loads(line)
    assert (read.pop("file"), read.pop("drawing")) == ("a/1.jpg", "1.jpg")
    assert np.array_equal(Poses.from_dict(read, STICK).keypoints_img, poses(0.5, 0.25).keypoints_img)  # not rounded


@pytest.mark.parametrize("left", ['{"file": "c.jpg", "dra', '{"file": "c.jpg", "drawing": null}', "{", "\0\0"])
def test_a_journal_goes_on_after_a_half_line(tmp_path: Path, left: str) -> None:
    path = tmp_path / "poses.jsonl"
    with Journal(path) as journal:
        journal.add("a.jpg", None, poses(0.5))
        journal.add("b.jpg", "b.jpg", poses())
    with path.open("a") as file:
        file.write(left)
    with Journal(path, resume=True) as journal:
        assert journal.done == {"a.jpg", "b.jpg"}
        assert journal.earlier == {"a.jpg": None, "b.jpg": "b.jpg"}
        journal.add("c.jpg", None, poses(0.25))
    assert files_in(path) == ["a.jpg", "b.jpg", "c.jpg"]


def test_what_is_taken_out_of_done_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    with Journal(path) as journal:
        for name in "abc":
            journal.add(name, None, poses(0.5))
    with Journal(path, resume=True) as journal:
        journal.done.discard("b")
        assert files_in(path) == ["a", "b", "c"]
        journal.add("b", None, poses(0.25))
        journal.close()
        journal.add("d", None, poses())  # opens it again
    assert files_in(path) == ["a", "c", "b", "d"]
    assert not list(tmp_path.glob(".*"))


def test_a_new_journal_replaces_the_old_at_its_first_line(tmp_path: Path) -> None:
    path = tmp_path / "poses.jsonl"
    with Journal(path) as journal:
        journal.add("a", None, poses(0.5))
    with Journal(path) as journal:
        assert journal.done == set()
        assert files_in(path) == ["a"]
        journal.add("b", None, poses(0.5))
    assert files_in(path) == ["b"]


@pytest.mark.parametrize("content", ['{"image_id": 3}\n', "[1]\n", "text\n", '{"file": "a"}\n', "3\n"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_journal_touches_no_other_file(tmp_path: Path, content: str, resume: bool) -> None:
    path = tmp_path / "poses.jsonl"
    path.write_text(content)
    with pytest.raises(InputError, match=r"poses\.jsonl, line 1: not from calipose predict"):
        Journal(path, resume)
    assert path.read_text() == content


@pytest.mark.parametrize(
    ("files", "ids"),
    [
        (["000000000139.jpg", "x/7.png"], [139, 7]),
        (["a.jpg", "b.jpg"], [1, 2]),
        (["a.jpg", "1.jpg", "b.jpg", "3.jpg", "c.jpg"], [1, 2, 3, 4, 5]),  # no id twice
        (["x/5.jpg", "y/5.jpg"], [5, 1]),
        (["12345678901234567890.jpg", "٣.jpg", "1.5.jpg"], [1, 2, 3]),  # an Arabic digit
    ],
)
def test_image_ids(files: list[str], ids: list[int]) -> None:
    number = image_ids()
    assert [number({"file": file}) for file in files] == ids


def test_frames_are_numbered() -> None:
    number = image_ids()
    assert [number({"file": "7.mp4", "index": i}) for i in (0, 5)] == [1, 2]


def test_json_lines_are_the_entries(tmp_path: Path) -> None:
    entries = [entry("a.jpg", 0.5), entry("b.mp4", index=3, seconds=0.125)]
    write_jsonl(tmp_path / "x.jsonl", entries)
    assert list(read_entries(tmp_path / "x.jsonl")) == entries


def test_csv_has_a_row_a_keypoint() -> None:
    stream = io.StringIO()
    write_csv(stream, [entry("a, b.jpg", 0.5, 0.25), entry("c.mp4", 0.75, index=3, seconds=0.125)], STICK)
    rows = list(csv.DictReader(io.StringIO(stream.getvalue())))
    assert len(rows) == 6
    assert [row["file"] for row in rows] == ["a, b.jpg"] * 4 + ["c.mp4"] * 2
    assert [row["pose"] for row in rows] == list("001100")
    assert (rows[2]["frame"], rows[4]["frame"], rows[4]["seconds"]) == ("", "3", "0.125")
    assert (rows[3]["keypoint"], rows[3]["x"], rows[3]["track_id"]) == ("foot", "6.33", "")


def test_csv_is_fit_for_a_spreadsheet() -> None:
    """Few digits, a box, the drawing; and with one row a pose the keypoints side by side."""
    found = Poses(
        np.array([[[10 / 3, 20 / 3], [40.0, 5.0]]]), np.array([1 / 3]), (64, 48), np.array([[0.123456789, 1.0]]), STICK
    )
    entries = [{"file": "a.jpg", "drawing": "a.png", **found.to_dict()}]
    texts = []
    for write in (write_csv, write_wide_csv):
        stream = io.StringIO()
        write(stream, entries, STICK)
        texts.append(stream.getvalue())
    head, nose, _ = texts[0].splitlines()
    assert head == (
        "file,frame,seconds,drawing,pose,keypoint,x,y,keypoint_score,score,raw_score,p_oks50,p_oks75,track_id,filled,"
        "left,top,right,bottom"
    )
    assert nose == "a.jpg,,,a.png,0,head,3.33,6.67,0.1235,0.3333,,,,,,3.33,5.0,40.0,6.67"
    (row,) = csv.DictReader(io.StringIO(texts[1]))
    keypoints = {"head_x": "3.33", "head_y": "6.67", "head_score": "0.1235", "foot_x": "40.0", "foot_y": "5.0"}
    assert {name: row[name] for name in keypoints} == keypoints
    assert (row["drawing"], row["score"], row["bottom"], row["foot_score"]) == ("a.png", "0.3333", "6.67", "1.0")
    assert "keypoint" not in row


def test_coco_results() -> None:
    stream = io.StringIO()
    write_coco(stream, [entry("x/139.jpg", 0.5, 0.25), entry("c.mp4", 0.75, index=3, seconds=0.1)], STICK)
    results = json.loads(stream.getvalue())
    assert [result["image_id"] for result in results] == [139, 139, 1]
    assert [result["score"] for result in results] == [0.5, 0.25, 0.75]
    assert (results[2]["file"], results[2]["index"]) == ("c.mp4", 3)
    assert results[1]["keypoints"] == [4 + 1 / 3, 5 + 1 / 3, 1.0, 6 + 1 / 3, 7 + 1 / 3, 1.0]


def test_label_studio_and_cvat_have_the_images() -> None:
    entries = [entry("x/a.jpg", 0.5, 0.25), entry("c.mp4", 0.75, index=0, seconds=0.0), entry("b & c.jpg")]
    stream = io.StringIO()
    write_label_studio(stream, entries, STICK)
    assert [task["data"]["image"] for task in json.loads(stream.getvalue())] == ["x/a.jpg", "b & c.jpg"]
    stream = io.StringIO()
    write_cvat(stream, entries, STICK)
    images = ElementTree.fromstring(stream.getvalue()).findall("image")
    assert [(image.get("id"), image.get("name")) for image in images] == [("0", "a.jpg"), ("1", "b & c.jpg")]
    assert [len(image) for image in images] == [2, 0]


@pytest.mark.parametrize("write", [*STREAMED, write_jsonl])
def test_entries_are_written_as_they_come(write: Callable[..., None]) -> None:
    stream, sizes = io.StringIO(), []

    def entries() -> Iterator[dict[str, Any]]:
        for i in range(3):
            sizes.append(len(stream.getvalue()))
            yield entry(f"{i}.jpg", 0.5)

    write(stream, entries(), STICK)
    sizes.append(len(stream.getvalue()))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("write", STREAMED)
def test_nobody_is_a_whole_file(tmp_path: Path, write: Callable[..., None]) -> None:
    for entries in ([], [entry("a.jpg")]):
        write(tmp_path / "x", iter(entries), STICK)
        content = (tmp_path / "x").read_text()
        if write is write_cvat:
            assert len(ElementTree.fromstring(content).findall("image")) == len(entries)
        elif write in (write_csv, write_wide_csv):
            assert content.count("\n") == 1
        else:
            assert len(json.loads(content)) == (len(entries) if write is write_label_studio else 0)


@pytest.mark.parametrize("write", STREAMED)
def test_a_file_appears_whole_or_not_at_all(tmp_path: Path, write: Callable[..., None]) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    foreign = Poses.empty((3, 3)).to_dict()
    with pytest.raises(InputError, match="skeleton 'coco"):
        write(path, [entry("a.jpg", 0.5), {"file": "b.jpg", **foreign}], STICK)
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "old"
    with pytest.raises(InputError, match="does the folder exist"):
        write(tmp_path / "none" / "x", [], STICK)


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")  # as a file of an old system is named
    with Journal(tmp_path / "poses.jsonl") as journal:
        journal.add(name, None, poses(0.5))
    assert Journal(tmp_path / "poses.jsonl", resume=True).done == {name}
    write_csv(tmp_path / "x.csv", read_entries(tmp_path / "poses.jsonl"), STICK)
    assert b"caf\xe9.jpg" in (tmp_path / "x.csv").read_bytes()
