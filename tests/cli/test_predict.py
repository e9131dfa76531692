"""`calipose predict`: what it writes, what it never overwrites, and how it ends."""

import csv
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

import calipose.io.sources
from calipose.calibration.maps import Calibration
from calipose.calibration.regions import RegionGroup, RegionMap
from calipose.cli import app
from calipose.config.settings import PredictSettings
from calipose.draw import save_image
from calipose.formats.csv import COLUMNS
from calipose.formats.table import FORMATS
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.predictor import Predictor
from calipose.io.images import read_image
from calipose.skeleton import Skeleton
from video_with_tone import RATE, TONE, frames_of, tone_of, write_video

SPOT = Skeleton("spot", ("left", "middle", "right"), ((0, 2),), ((0, 1), (1, 2)), (0.5, 0.5, 0.5))
SIZE = (128, 96)
BLUE = 40


class SpotBackend:
    """Finds red spots: a joint in the middle and one at either side; the green of the middle is the score."""

    skeleton = SPOT
    pad_colour = (0, 0, 0)
    settings, calibration = PredictSettings(), Calibration()

    def __init__(self) -> None:
        self.seen = 0  # images
        self.batches: list[int] = []
        self.before: Callable[[int], None] = lambda _: None  # called with the number of each image, from 1

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        self.batches.append(len(images))
        keypoints, scores = np.zeros((len(images), max_poses, 3, 2)), np.full((len(images), max_poses), -np.inf)
        for b, image in enumerate(images):
            self.seen += 1
            self.before(self.seen)
            spots = (image[..., 0] > 150).astype(np.uint8)
            middles = cv2.connectedComponentsWithStats(spots)[3][1:]
            found = sorted(((image[round(y), round(x), 1] / 255, x, y) for x, y in middles), reverse=True)
            for i, (score, x, y) in enumerate(found):
                keypoints[b, i] = [(x - 4, y - 1), (x, y), (x + 4, y + 1)]
                scores[b, i] = score
        return BatchCandidates(keypoints, scores)


def spots(*places: tuple[float, float, float]) -> np.ndarray:
    """An image of `SIZE` with a spot at each (x, y) of a score."""
    image = np.full((SIZE[1], SIZE[0], 3), (20, 20, BLUE), np.uint8)
    for x, y, score in places:
        cv2.circle(image, (round(x), round(y)), 5, (255, round(255 * score), BLUE), -1)
    return image


def walk(frames: int, missing: tuple[int, ...] = (), weak: tuple[int, ...] = ()) -> list[np.ndarray]:
    """One who stands, and one who walks, unseen or hardly seen in some frames."""
    images = []
    for i in range(frames):
        walker = [] if i in missing else [(20 + i, 70, 0.2 if i in weak else 0.8)]
        images.append(spots((100, 20, 0.6), *walker))
    return images


@pytest.fixture(autouse=True)
def backend(monkeypatch: pytest.MonkeyPatch) -> SpotBackend:
    """Stands for the model, whatever is asked for."""
    stub = SpotBackend()
    settings = PredictSettings(short_side=SIZE[1], nms_threshold=0.9)
    monkeypatch.setattr("calipose.cli.predict.open_predictor", lambda *_, **__: Predictor(stub, settings))
    return stub


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with four images in `in`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for i in range(1, 5):
        save_image(tmp_path / "in" / f"{i}.jpg", spots(*((30 * j, 50, 0.9 - j / 10) for j in range(1, i))))
    return tmp_path


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def words(result: Result) -> str:
    """All that was printed, without frames and line breaks."""
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", result.output).split())


def entries(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def names(path: str | Path) -> set[str]:
    return {file.name for file in Path(path).iterdir()}


def interrupt_at(number: int) -> Callable[[int], None]:
    """Ctrl-C while the image of that number is in the network."""

    def press(seen: int) -> None:
        if seen == number:
            os.kill(os.getpid(), signal.SIGINT)

    return press


def test_images_are_drawn_and_written(folder: Path) -> None:
    save_image("in/1.png", spots((40, 40, 0.7)))
    (folder / "more").mkdir()
    save_image("more/2.JPG", spots((40, 40, 0.7), (80, 40, 0.2)))
    done = call("in", "more/2.JPG", "in/1.jpg", "--batch-size", 3)
    assert done.exit_code == 0, done.output
    drawn = {"1.jpg", "1.png", "2.jpg", "3.jpg", "4.jpg", "2-2.jpg"}
    assert names("calipose-out") == drawn | {"poses.jsonl"}
    found = entries("calipose-out/poses.jsonl")
    assert {entry["file"]: entry["drawing"] for entry in found} == {
        "in/1.jpg": "1.jpg", "in/1.png": "1.png", "in/2.jpg": "2.jpg", "in/3.jpg": "3.jpg", "in/4.jpg": "4.jpg",
        "more/2.JPG": "2-2.jpg",
    }  # fmt: skip
    assert [len(entry["poses"]) for entry in found if entry["file"] == "more/2.JPG"] == [1]  # 0.2 is too weak
    assert re.search(r"^calipose-out/3\.jpg  2 poses  0\.[78]\d 0\.[67]\d$", done.output, re.MULTILINE)
    assert "8 poses of score >= 0.3 in 6 images" in words(done)
    before, after = read_image("in/3.jpg").astype(int), read_image("calipose-out/3.jpg").astype(int)
    assert (abs(before - after).max(-1) > 60).sum() > 50


def test_options_reach_the_drawing_and_the_data(folder: Path, backend: SpotBackend) -> None:
    assert call("in", "--no-draw", "--min-score", 0.75, "-q").output == ""
    assert names("calipose-out") == {"poses.jsonl"}
    assert [len(entry["poses"]) for entry in entries("calipose-out/poses.jsonl")] == [0, 1, 1, 1]
    assert {entry["drawing"] for entry in entries("calipose-out/poses.jsonl")} == {None}


def test_a_batch_changes_nothing(folder: Path, backend: SpotBackend) -> None:
    (folder / "in" / "2b.jpg").write_text("no image")
    for size in (1, 3):
        assert call("in", "--out", f"out{size}", "--batch-size", size).exit_code == 1
    assert backend.batches == [1, 1, 1, 1, 3, 1]
    assert (folder / "out1/poses.jsonl").read_text() == (folder / "out3/poses.jsonl").read_text()


def make_broken(folder: Path) -> list[str]:
    """Files that cannot be read, of many kinds."""
    whole = (folder / "in" / "4.jpg").read_bytes()
    contents = {
        "empty.jpg": b"", "text.jpg": b"no image", "cut.jpg": whole[: len(whole) // 2], "cut.png": b"\x89PNG\r\n",
        "zeros.jpg": bytes(500), "html.jpg": b"<html>not found</html>", "bad.mp4": b"no video", "empty.mp4": b"",
    }  # fmt: skip
    for name, content in contents.items():
        (folder / "in" / name).write_bytes(content)
    (folder / "in" / "folder.jpg").mkdir()
    (folder / "in" / "link.jpg").symlink_to("nowhere.jpg")
    return [f"in/{name}" for name in contents] + ["in/link.jpg", "in/none.jpg"]


@pytest.mark.parametrize("more", [[], ["--batch-size", 3], ["-q"]])
def test_broken_files_are_named_and_all_others_done(folder: Path, more: list[object]) -> None:
    broken = make_broken(folder)
    done = call("in", "in/none.jpg", *more)
    assert done.exit_code == 1
    for name in broken:
        assert f"{name} " in done.output
    assert f"{len(broken)} of {len(broken) + 4} could not be read" in words(done)
    assert names("calipose-out") == {"1.jpg", "2.jpg", "3.jpg", "4.jpg", "poses.jsonl"}
    assert len(entries("calipose-out/poses.jsonl")) == 4
    assert "Traceback" not in done.output


def test_resuming_does_what_is_missing(folder: Path, backend: SpotBackend) -> None:
    assert call("in/1.jpg", "in/2.jpg", "in/3.jpg").exit_code == 0
    whole = (folder / "calipose-out/poses.jsonl").read_text()
    (folder / "calipose-out/poses.jsonl").write_text(whole[:-20])  # an interruption while 3.jpg was written
    (folder / "calipose-out/2.jpg").unlink()  # and as if 2.jpg had not been drawn
    (folder / "calipose-out/3.jpg").unlink()
    backend.seen = 0
    done = call("in", "--resume", "--save", "csv")
    assert done.exit_code == 0, done.output
    assert backend.seen == 3
    assert "1 of 4 are complete" in words(done)
    assert [entry["file"] for entry in entries("calipose-out/poses.jsonl")] == [f"in/{i}.jpg" for i in (1, 2, 3, 4)]
    assert names("calipose-out") == {"1.jpg", "2.jpg", "3.jpg", "4.jpg", "poses.jsonl", "poses.csv"}
    assert len((folder / "calipose-out/poses.csv").read_text().splitlines()) == 1 + 3 * (1 + 2 + 3)  # all, also 1.jpg
    backend.seen = 0
    assert call("in", "--resume", "--no-draw").exit_code == 0
    assert backend.seen == 0


def test_an_interrupted_prediction_goes_on(folder: Path, backend: SpotBackend) -> None:
    assert call("in", "--out", "whole").exit_code == 0
    backend.seen, backend.before = 0, interrupt_at(2)
    done = call("in", "--out", "parts")
    assert done.exit_code == 130
    assert "2 of 4 done; the same command with --resume goes on" in words(done)
    assert names("parts") == {"1.jpg", "2.jpg", "poses.jsonl"}
    assert [entry["file"] for entry in entries("parts/poses.jsonl")] == ["in/1.jpg", "in/2.jpg"]
    assert call("in", "--out", "parts", "--resume").exit_code == 0
    assert backend.seen == 4
    assert (folder / "parts/poses.jsonl").read_text() == (folder / "whole/poses.jsonl").read_text()


def test_a_second_interruption_is_hard(folder: Path, backend: SpotBackend) -> None:
    def press(seen: int) -> None:
        if seen == 2:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    backend.before = press
    assert call("in").exit_code == 130
    assert [entry["file"] for entry in entries("calipose-out/poses.jsonl")] == ["in/1.jpg"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("more", "space"), [([], 1200), (["--no-draw"], 1000), (["--no-draw", "--save", "cvat"], 2000)]
)
def test_a_full_disk_is_said_and_resume_goes_on(
    folder: Path, full_disk: Callable[[int], AbstractContextManager[None]], more: list[str], space: int
) -> None:
    """A drawing, the journal or a file of --save has no space."""
    (folder / "in/0.jpg").write_text("no image")
    with full_disk(space):
        done = call("in", *more)
    assert done.exit_code == 1
    assert isinstance(done.exception, SystemExit)
    last = done.output.splitlines()[-1]
    assert re.fullmatch(r"error: calipose-out/\S+ cannot be written: File too large", last)
    assert "image in/0.jpg cannot be decoded" in words(done)
    assert not [name for name in names("calipose-out") if name.endswith(".part")]
    assert all(entry["file"] for entry in entries("calipose-out/poses.jsonl"))
    (folder / "in/0.jpg").unlink()
    assert call("in", "--resume", *more).exit_code == 0
    assert call("in", "--out", "whole", *more).exit_code == 0
    assert names("calipose-out") == names("whole")
    assert (folder / "calipose-out/poses.jsonl").read_text() == (folder / "whole/poses.jsonl").read_text()


@pytest.mark.parametrize(
    ("name", "empty"),
    [
        (
            "csv",
            ",".join(["file", "frame", "seconds", "drawing", *COLUMNS]) + "\n",
        ),
        ("coco", "[]\n"),
        ("label-studio", "[]\n"),
        ("cvat", None),
    ],
)
def test_a_broken_image_alone_is_named_and_files_of_nobody_are_whole(
    folder: Path, name: str, empty: str | None
) -> None:
    (folder / "bad.jpg").write_text("no image")
    for more in ([], ["--resume"], ["--no-draw"]):  # the second finds what the first made
        done = call("bad.jpg", "--save", name, *more)
        assert done.exit_code == 1
        assert words(done).endswith(
            "error: image bad.jpg cannot be decoded: it is damaged or not an image 1 of 1 could not be read"
        )
        file = folder / "calipose-out" / str(FORMATS[name].file_name)
        assert names("calipose-out") == {"poses.jsonl", *FORMATS[name].file_names}
        assert entries("calipose-out/poses.jsonl") == []
        if empty is None:
            assert ElementTree.parse(file).getroot().findall("image") == []
        else:
            assert file.read_text() == empty


@pytest.mark.parametrize("name", FORMATS)
def test_a_broken_image_alone_on_standard_output(folder: Path, name: str) -> None:
    if not FORMATS[name].can_stream:
        return
    (folder / "bad.jpg").write_text("no image")
    done = call("bad.jpg", "--out", "-", "--format", name)
    assert done.exit_code == 1
    assert "error: image bad.jpg cannot be decoded" in words(done)
    assert names(folder) == {"in", "bad.jpg"}


def test_poses_of_yesterday_are_not_todays(folder: Path) -> None:
    """An image that cannot be read now is in no file that is written now; poses that nothing replaces stay."""
    assert call("in/3.jpg", "in/4.jpg", "--save", "csv").exit_code == 0
    (folder / "in/4.jpg").write_text("no image")
    done = call("in/4.jpg", "--save", "csv")
    assert done.exit_code == 1
    assert len((folder / "calipose-out/poses.csv").read_text().splitlines()) == 1
    assert [entry["file"] for entry in entries("calipose-out/poses.jsonl")] == ["in/3.jpg", "in/4.jpg"]
    write_video(folder / "walk.mp4", walk(3))
    assert call("in/4.jpg", "walk.mp4").exit_code == 1
    assert [entry["file"] for entry in entries("calipose-out/poses.jsonl")] == ["in/3.jpg"]
    assert "4.jpg" not in names("calipose-out")


def test_an_anamorphic_video_is_predicted_and_drawn_as_displayed(folder: Path) -> None:
    images = [np.ascontiguousarray(image[:, ::2]) for image in walk(3)]  # pixels of twice their height
    write_video(folder / "wide.mp4", images, pixel_aspect=2)
    assert call("wide.mp4").exit_code == 0
    for entry in entries("calipose-out/wide.poses.jsonl"):
        assert entry["image_size"] == list(SIZE)
        middles = sorted(
            (pose["keypoints"]["middle"]["x"], pose["keypoints"]["middle"]["y"]) for pose in entry["poses"]
        )
        assert np.allclose(middles, [(20 + entry["index"], 70), (100, 20)], atol=1.5)
    drawn = frames_of(folder / "calipose-out/wide.mp4")[0]
    assert (drawn.width, drawn.height) == SIZE
    with av.open(str(folder / "calipose-out/wide.mp4")) as video:
        assert video.streams.video[0].sample_aspect_ratio in {None, 1}


@pytest.mark.parametrize("suffix", ["gif", "png", "webp"])
def test_an_animation_is_a_video(folder: Path, suffix: str) -> None:
    first, *more = map(Image.fromarray, walk(8))
    first.save(f"dance.{suffix}", save_all=True, append_images=more, duration=40)
    done = call(f"dance.{suffix}")
    assert done.exit_code == 0, done.output
    assert "calipose-out/dance.mp4 8 frames, 2 people followed" in words(done)
    assert "sound" not in words(done)
    found = entries("calipose-out/dance.poses.jsonl")
    assert [entry["seconds"] for entry in found] == pytest.approx([i / 25 for i in range(8)])
    assert [len(entry["poses"]) for entry in found] == [2] * 8


def test_of_a_tiff_of_several_pages_the_first_is_predicted(folder: Path) -> None:
    first, *more = map(Image.fromarray, walk(3))
    first.save("pages.tiff", save_all=True, append_images=more)
    assert "pages.tiff holds several images; only the first is predicted" in words(call("pages.tiff"))
    assert "several" not in words(call("pages.tiff", "-q")) + words(call("in/4.jpg"))


def test_files_of_an_earlier_call_are_named(folder: Path) -> None:
    assert call("in", "--save", "csv", "--save", "coco").exit_code == 0
    assert "not written" not in words(call("in", "--resume"))  # nothing is new
    done = call("in", "--save", "coco")
    assert done.exit_code == 0
    stale = "calipose-out: older files of an earlier run, which may hold other poses: poses.csv (--save csv)"
    assert stale in words(done)
    assert "results.json (--save" not in words(done)
    assert "not written" not in words(call("in", "--save", "csv", "--save", "coco"))
    assert call("in", "-q").output == ""


def test_formats_of_still_images_say_so_of_videos(folder: Path) -> None:
    write_video(folder / "walk.mp4", walk(3))
    both = ["--save", "label-studio", "--save", "cvat"]
    done = call("walk.mp4", *both, "--save", "csv")
    assert done.exit_code == 0
    assert "--save label-studio and cvat: for still images only; of videos only, no such file is written" in words(done)
    assert names("calipose-out") == {"walk.mp4", "walk.poses.jsonl", "poses.csv"}
    done = call("walk.mp4", "in/4.jpg", *both, "--out", "both")
    assert "--save label-studio and cvat: for still images only; the videos are left out of it" in words(done)
    assert names("both") >= {"label_studio.json", "cvat.xml"}
    assert len(json.loads((folder / "both/label_studio.json").read_text())) == 1
    assert "still images only" not in words(call("in/4.jpg", *both, "--out", "images"))


LOCAL = "/data/local-files/?d="


def test_label_studio_gets_addresses_and_its_interface(folder: Path) -> None:
    done = call("in", "--save", "label-studio", "--image-prefix", LOCAL, "--no-draw")
    assert done.exit_code == 0, done.output
    out = folder / "calipose-out"
    assert names(out) == {"poses.jsonl", "label_studio.json", "label_studio.xml"}
    tasks = json.loads((out / "label_studio.json").read_text())
    assert {task["data"]["image"] for task in tasks} == {f"{LOCAL}in/{name}" for name in names(folder / "in")}
    labels = [label.get("value") for label in ElementTree.parse(out / "label_studio.xml").iter("Label")]
    assert labels == ["person", *SPOT.keypoints]
    assert "image-prefix" not in done.output
    assert "images are named as in the command" in words(call("in", "--save", "label-studio", "--no-draw"))


def test_an_address_needs_an_image_in_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    done = call("../in", "--save", "label-studio", "--image-prefix", LOCAL)
    assert done.exit_code == 1
    assert "is outside of" in words(done)
    assert names(folder / "elsewhere") == set()  # said before anything is predicted
    done = call("../in", "--save", "csv", "--image-prefix", LOCAL)
    assert done.exit_code == 2
    assert "--image-prefix is for --save label-studio" in words(done)


def test_an_interface_that_is_not_ours_is_not_replaced(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "label_studio.xml").write_text("mine")
    done = call("in", "--save", "label-studio", "--out", "out")
    assert done.exit_code == 1
    assert "label_studio.xml is there, and no prediction made it" in words(done)
    assert (folder / "out" / "label_studio.xml").read_text() == "mine"


def test_a_full_disk_leaves_nothing_of_a_video(
    folder: Path, full_disk: Callable[[int], AbstractContextManager[None]]
) -> None:
    write_video(folder / "walk.mp4", walk(60))
    with full_disk(4000):
        done = call("in/1.jpg", "walk.mp4")
    assert done.exit_code == 1
    assert re.fullmatch(
        r"error: calipose-out/walk\.\S+ cannot be written: File too large", done.output.splitlines()[-1]
    )
    assert "1 of 2 done; the same command with --resume goes on" in words(done)
    assert names("calipose-out") == {"1.jpg", "poses.jsonl"}
    assert call("in/1.jpg", "walk.mp4", "--resume").exit_code == 0
    assert names("calipose-out") == {"1.jpg", "poses.jsonl", "walk.mp4", "walk.poses.jsonl"}


def test_another_prediction_loses_nothing_of_an_earlier_one(folder: Path, backend: SpotBackend) -> None:
    """Nor do two predictions of the same files hinder each other, in whatever order and however interrupted."""
    for source in ("in/1.jpg", "in/2.jpg", "in/1.jpg"):
        assert call(source).exit_code == 0
    assert [entry["file"] for entry in entries("calipose-out/poses.jsonl")] == ["in/2.jpg", "in/1.jpg"]
    (folder / "other").mkdir()
    save_image("other/2.jpg", spots((40, 40, 0.7)))
    assert call("other/2.jpg", "--save", "coco").exit_code == 0
    assert names("calipose-out") == {"1.jpg", "2.jpg", "2-2.jpg", "poses.jsonl", "results.json"}
    assert len(json.loads((folder / "calipose-out/results.json").read_text())) == 1  # of this command's images only
    backend.seen, backend.before = 0, interrupt_at(1)
    assert call("in").exit_code == 130
    assert names("calipose-out") == {"1.jpg", "2-2.jpg", "poses.jsonl", "results.json"}
    assert call("in", "--resume").exit_code == 0
    assert len(entries("calipose-out/poses.jsonl")) == 5


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("out/2.jpg", "mine", ["in"], "2.jpg is there, and no prediction made it"),
        ("out/poses.jsonl", '{"mine": 1}\n', ["in"], "not from calipose predict; name another folder"),
        ("out/walk.poses.jsonl", "mine\n", ["in"], "not from calipose predict; the line is not valid JSON"),
        ("out/poses.csv", "mine", ["in", "--save", "csv"], "poses.csv is there, and no prediction made it"),
        ("out", "mine", ["in"], "this is a file; name a folder"),
    ],
)
def test_foreign_files_are_not_touched(
    folder: Path, name: str, content: str, arguments: list[object], message: str
) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    for more in ([], ["--resume"]):
        done = call(*arguments, "--out", "out", *more)
        assert done.exit_code == 1
        assert message in words(done)
        assert (folder / name).read_text() == content
        assert len([file for file in folder.rglob("*") if file.is_file()]) == 5


def test_originals_are_not_overwritten(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in (folder / "in").iterdir()}
    for out in ("in", "link"):
        (folder / "link").unlink(missing_ok=True)
        (folder / "link").symlink_to("in")
        done = call("in", "--out", out)
        assert done.exit_code == 1
        assert "would overwrite the original" in words(done)
    assert {file.name: file.read_bytes() for file in (folder / "in").iterdir()} == before
    write_video(folder / "in" / "walk.mp4", walk(3), None)
    video = (folder / "in" / "walk.mp4").read_bytes()
    for _ in range(2):  # poses alone may lie beside the originals
        assert call("in", "--out", "in", "--no-draw").exit_code == 0
        assert (folder / "in" / "walk.mp4").read_bytes() == video
        assert {"poses.jsonl", "walk.poses.jsonl"} <= names("in")


def test_drawings_are_not_drawn_again(folder: Path, backend: SpotBackend) -> None:
    for _ in range(2):
        backend.seen = 0
        assert call(".", "-r").exit_code == 0
        assert backend.seen == 4


def test_a_broken_video_leaves_no_folder(folder: Path) -> None:
    (folder / "bad.mp4").write_text("no video")
    done = call("bad.mp4")
    assert done.exit_code == 1
    assert "1 of 1 could not be read" in words(done)
    assert names(folder) == {"in", "bad.mp4"}


def test_all_formats_are_saved(folder: Path) -> None:
    write_video(folder / "walk.mp4", walk(3), None)
    saved = itertools.chain.from_iterable(("--save", name) for name in ("csv", "coco", "label-studio", "cvat"))
    done = call("in", "walk.mp4", *saved)
    assert done.exit_code == 0, done.output
    out = folder / "calipose-out"
    table = list(csv.DictReader((out / "poses.csv").open()))
    assert len(table) == 3 * (6 + 2 * 3)
    assert {row["frame"] for row in table if row["file"] == "walk.mp4"} == {"0", "1", "2"}
    assert [result["image_id"] for result in json.loads((out / "results.json").read_text())[:6]] == [2, 3, 3, 4, 4, 4]
    assert len(json.loads((out / "label_studio.json").read_text())) == 4
    assert (out / "cvat.xml").read_text().count("<skeleton") == 6
    assert str(Path("calipose-out/cvat.xml")) in done.output


@pytest.mark.parametrize("kind", ["jsonl", "csv", "coco"])
def test_poses_go_to_standard_output(folder: Path, kind: str) -> None:
    write_video(folder / "walk.mp4", walk(3), None)
    (folder / "bad.jpg").write_text("no image")
    done = call("in", "bad.jpg", "walk.mp4", "--out", "-", "--format", kind)
    assert done.exit_code == 1
    assert "bad.jpg cannot be decoded" in done.stderr
    assert names(folder) == {"in", "walk.mp4", "bad.jpg"}
    if kind == "jsonl":
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["file"] for line in lines] == ["in/1.jpg", "in/2.jpg", "in/3.jpg", "in/4.jpg"] + 3 * ["walk.mp4"]
        assert [line.get("index") for line in lines] == [None] * 4 + [0, 1, 2]
        assert [line["seconds"] for line in lines[4:]] == pytest.approx([0, 1 / RATE, 2 / RATE])
        assert [pose["track_id"] for pose in lines[4]["poses"]] == [1, 2]
    elif kind == "csv":
        assert len(list(csv.DictReader(io.StringIO(done.stdout)))) == 3 * 12
    else:
        assert len(json.loads(done.stdout)) == 12


def test_an_interrupted_list_is_whole_json(folder: Path, backend: SpotBackend) -> None:
    backend.before = interrupt_at(3)
    done = call("in", "--out", "-", "--format", "coco")
    assert done.exit_code == 130
    assert len(json.loads(done.stdout)) == 3
    assert "3 of 4 done" in done.stderr
    assert "--resume" not in done.stderr


def test_a_reader_that_leaves_ends_it_quietly(folder: Path) -> None:
    """As `| head -1` does."""
    write_video(folder / "walk.mp4", walk(60), None)
    program = f"""
import sys; sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
import importlib, test_predict as t
stub = t.Predictor(t.SpotBackend(), t.PredictSettings(short_side=96))
importlib.import_module("calipose.cli.predict").open_predictor = lambda *_, **__: stub
sys.argv = "calipose predict walk.mp4 in --out -".split()
importlib.import_module("calipose.cli").main()
"""
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    assert run.stderr is not None
    assert json.loads(run.stdout.readline())["index"] == 0
    run.stdout.close()
    assert run.stderr.read() == ""
    assert run.wait(20) == 1


def test_a_video_is_drawn_with_its_sound_and_people_are_followed(folder: Path) -> None:
    write_video(folder / "walk.mkv", walk(20, missing=(9, 10), weak=(14,)), "flac")
    done = call("walk.mkv")
    assert done.exit_code == 0, done.output
    assert names("calipose-out") == {"walk.mp4", "walk.poses.jsonl"}
    assert "calipose-out/walk.mp4  20 frames, 2 people followed" in done.output
    lines = entries("calipose-out/walk.poses.jsonl")
    assert [line["index"] for line in lines] == list(range(20))
    assert [line["seconds"] for line in lines] == pytest.approx([i / RATE for i in range(20)], abs=1e-3)
    assert {(line["file"], line["drawing"]) for line in lines} == {("walk.mkv", "walk.mp4")}
    for i, line in enumerate(lines):
        walker = next(pose for pose in line["poses"] if pose["track_id"] == 1)  # the better score
        assert walker["keypoints"]["middle"]["x"] == pytest.approx(20 + i, abs=0.8)
        assert walker["filled"] == (i in (9, 10))
        assert walker["score"] == pytest.approx(0.2 if i == 14 else 0.8, abs=0.05)  # weak, but where it was
        assert len(line["poses"]) == 2
    frames = frames_of(folder / "calipose-out/walk.mp4")
    assert len(frames) == 20
    assert (frames[0].width, frames[0].height) == SIZE
    seen = frames[10].to_ndarray(format="rgb24").astype(int)
    assert (abs(seen - walk(20, missing=(10,))[10]).max(-1) > 60).sum() > 100  # drawn, also the one filled in
    codec, seconds, frequency = tone_of(folder / "calipose-out/walk.mp4")
    assert (codec, round(seconds, 1), round(frequency / TONE, 2)) == ("aac", 0.8, 1.0)


@pytest.mark.parametrize(
    ("more", "poses", "indices"),
    [
        (["--no-track"], [2, 1, 2, 1, 2, 2], [0, 1, 2, 3, 4, 5]),  # missing in 1, weak in 3
        (["--track", "--smooth"], [2] * 6, [0, 1, 2, 3, 4, 5]),
        (["--every", 2, "--no-track"], [2, 2, 2], [0, 2, 4]),
        (["--every", 4], [2, 2], [0, 4]),
        (["--batch-size", 4], [2] * 6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_options_of_videos(folder: Path, more: list[object], poses: list[int], indices: list[int]) -> None:
    write_video(folder / "walk.mp4", walk(6, missing=(1,), weak=(3,)))
    assert call("walk.mp4", *more).exit_code == 0
    lines = entries("calipose-out/walk.poses.jsonl")
    assert [len(line["poses"]) for line in lines] == poses
    assert [line["index"] for line in lines] == indices
    assert ("track_id" in lines[0]["poses"][0]) == ("--no-track" not in more)
    frames = frames_of(folder / "calipose-out/walk.mp4")
    assert [frame.time for frame in frames] == pytest.approx([i / RATE for i in indices], abs=1e-3)


def test_an_interrupted_video_leaves_nothing_and_is_done_again(folder: Path, backend: SpotBackend) -> None:
    for name in ("a", "b"):
        write_video(folder / f"{name}.mp4", walk(5))
    backend.before = interrupt_at(4 + 5 + 2)
    done = call("in", "a.mp4", "b.mp4")
    assert done.exit_code == 130
    assert "5 of 6 done" in words(done)
    images = {"1.jpg", "2.jpg", "3.jpg", "4.jpg", "poses.jsonl"}
    assert names("calipose-out") == images | {"a.mp4", "a.poses.jsonl"}
    backend.seen, backend.before = 0, lambda _: None
    done = call("in", "a.mp4", "b.mp4", "--resume", "--save", "csv")
    assert done.exit_code == 0, done.output
    assert backend.seen == 5
    everything = images | {"a.mp4", "a.poses.jsonl", "b.mp4", "b.poses.jsonl", "poses.csv"}
    assert names("calipose-out") == everything
    assert len((folder / "calipose-out/poses.csv").read_text().splitlines()) == 1 + 3 * (6 + 10 + 10)
    assert call("in", "a.mp4", "b.mp4").exit_code == 0  # replaced
    assert names("calipose-out") == everything


def test_a_damaged_video_is_kept_as_far_as_it_goes_and_named(folder: Path) -> None:
    whole = write_video(folder / "walk.mkv", walk(50), None).read_bytes()
    (folder / "walk.mkv").write_bytes(whole[: len(whole) * 6 // 10])
    done = call("walk.mkv", "in/1.jpg")
    assert done.exit_code == 1
    assert "walk.mkv" in done.output
    assert "1 of 2 could not be read" in words(done)
    assert names("calipose-out") == {"walk.mp4", "walk.poses.jsonl", "1.jpg", "poses.jsonl"}
    assert 10 < len(entries("calipose-out/walk.poses.jsonl")) < 50


def test_a_webcam_runs_until_it_is_stopped(folder: Path, backend: SpotBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(number: int) -> Iterator[tuple[np.ndarray, float]]:
        return ((image, i / 7) for i, image in enumerate(itertools.cycle(walk(5))))

    monkeypatch.setattr(calipose.io.sources, "read_webcam", endless)
    backend.before = interrupt_at(6)
    done = call("webcam:0")
    assert done.exit_code == 0, done.output  # there is no other way to end it
    lines = entries("calipose-out/webcam-0.poses.jsonl")
    assert len(lines) == 6
    frames = frames_of(folder / "calipose-out/webcam-0.mp4")
    assert [frame.time for frame in frames] == pytest.approx([i / 7 for i in range(6)], abs=1e-3)
    backend.before = interrupt_at(backend.seen + 3)
    done = call("webcam:0", "in", "--resume", "--save", "coco")  # a recording is never replaced
    assert done.exit_code == 130
    assert "1 of 5 done" in words(done)
    assert {"webcam-0.mp4", "webcam-0-2.mp4", "webcam-0-2.poses.jsonl"} <= names("calipose-out")
    assert len(json.loads((folder / "calipose-out/results.json").read_text())) == 6  # of this recording only


def test_a_video_is_not_held_in_memory(folder: Path, monkeypatch: pytest.MonkeyPatch, backend: SpotBackend) -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    most = [0]
    frame = calipose.io.sources.Frame

    def watched(*arguments: Any) -> Any:
        made = frame(*arguments)
        alive.add(made)
        most[0] = max(most[0], len(alive))
        return made

    monkeypatch.setattr(calipose.io.sources, "Frame", watched)
    write_video(folder / "walk.mp4", walk(60, missing=(20, 21)))
    assert call("walk.mp4").exit_code == 0
    assert len(entries("calipose-out/walk.poses.jsonl")) == 60
    assert most[0] <= 20  # ten for gaps, three read ahead, three written behind


def test_workers_change_nothing(folder: Path) -> None:
    write_video(folder / "walk.mkv", walk(12, missing=(4,)))
    assert call("in", "walk.mkv", "--out", "one").exit_code == 0
    assert call("in", "walk.mkv", "--out", "three", "--workers", 3).exit_code == 0
    assert names("one") == names("three") > {"poses.jsonl", "walk.poses.jsonl", "walk.mp4"}
    for name in names("one"):
        assert (folder / "one" / name).read_bytes() == (folder / "three" / name).read_bytes(), name


def test_threads_beside_the_network_change_nothing_of_a_video(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ahead, drawing and encoding in threads give the bytes that one thread gives."""
    import threading

    import calipose.cli.prediction_run
    import calipose.inference.stream

    used: set[str] = set()
    draw = calipose.cli.prediction_run.draw_poses

    def seen(*arguments: Any, **named: Any) -> np.ndarray:
        used.add(threading.current_thread().name)
        return draw(*arguments, **named)

    monkeypatch.setattr(calipose.cli.prediction_run, "draw_poses", seen)
    write_video(folder / "walk.mkv", walk(30, missing=(9, 10), weak=(14,)), "flac")
    assert call("walk.mkv", "--out", "threads").exit_code == 0
    assert used
    assert threading.current_thread().name not in used
    monkeypatch.setattr(
        calipose.cli.prediction_run, "done_ahead", lambda items, work, _: ((item, work(item)) for item in items)
    )
    monkeypatch.setattr(calipose.inference.stream, "taken_ahead", lambda items, _: items)
    assert call("walk.mkv", "--out", "serial").exit_code == 0
    assert threading.current_thread().name in used
    for name in ("walk.poses.jsonl", "walk.mp4"):
        assert (folder / "threads" / name).read_bytes() == (folder / "serial" / name).read_bytes(), name


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ("nowhere/*.jpg", 1, "nothing matches"),
        ("webcam:x", 1, "webcam:0"),
        ("ftp://example.org/a.jpg", 1, "http"),
        ("in --queries", 1, "no keypoint queries"),
        ("in --queries --track", 2, "leave out --track"),
        ("in --queries --no-draw", 2, "nothing is drawn"),
        ("in --out - --save csv", 2, "need a folder"),
        ("in --out - --resume", 2, "need a folder"),
        ("in --format csv", 2, "--save csv"),
        ("in --save xml", 2, "xml"),
        ("in --min-score 2", 2, "--min-score"),
        ("in --every 0", 2, "--every"),
    ],
)
def test_what_makes_no_sense_is_said(folder: Path, arguments: str, code: int, message: str) -> None:
    done = call(*arguments.split())
    assert done.exit_code == code
    assert message in words(done)
    assert "Traceback" not in done.output
    assert names(folder) == {"in"}


def test_lines_are_for_few_sources_or_on_demand(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calipose.cli.prediction_run.MAX_LISTED", 3)
    assert "calipose-out/4.jpg" not in call("in").output
    assert "calipose-out/4.jpg" in call("in", "-v").output


def test_without_a_terminal_a_line_now_and_then_says_how_far_it_is(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(folder / "walk.mp4", walk(6), None)
    assert "left" not in call("in", "walk.mp4").stderr
    monkeypatch.setattr("calipose.cli.console.LINE_SECONDS", 0.0)
    first, *lines = call("in", "walk.mp4", "--every", 2).stderr.splitlines()
    assert first == "scores are the model's own; calipose calibrate makes them the expected OKS"
    assert [line.split()[0] for line in lines] == [f"{i}/7" for i in range(1, 8)]
    assert re.fullmatch(r"7/7  [\d.]+ images/s  0 s left", lines[-1])
    assert call("in", "-q").output == ""


def test_regions_are_drawn_and_written(folder: Path, backend: SpotBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    group = RegionGroup(quantiles=tuple(np.linspace(0.5, 1.0, 41).tolist()), images=10, keypoints=99)
    regions = RegionMap(group=group, by_score=False, labelled=(9, 9, 0), kind_factors=(1.0, 1.0, 1.0))
    calibrated = Predictor(backend, PredictSettings(short_side=SIZE[1]), calibration=Calibration(regions=regions))
    monkeypatch.setattr("calipose.cli.predict.open_predictor", lambda *_, **__: calibrated)
    plain = call("in/2.jpg", "--out", "plain")
    assert plain.exit_code == 0, plain.output
    done = call("in/2.jpg", "--regions", 0.9, "--out", "o", "--save", "coco", "--save", "csv")
    assert done.exit_code == 0, done.output
    entry = json.loads(Path("o/poses.jsonl").read_text())
    assert entry["coverage"] == 0.9
    keypoints = entry["poses"][0]["keypoints"]
    assert keypoints["left"]["radius"] == keypoints["middle"]["radius"] > 0
    assert "radius" not in keypoints["right"]  # nobody labelled it
    (result,) = json.loads(Path("o/results.json").read_text())
    assert result["keypoint_radii"] == [keypoints["left"]["radius"]] * 2 + [None]
    assert Path("o/poses.csv").read_text().splitlines()[0].endswith(",radius,coverage")
    assert (cv2.imread("o/2.jpg") != cv2.imread("plain/2.jpg")).any()
    assert "coverage" not in Path("plain/poses.jsonl").read_text()
    refused = call("in/2.jpg", "--regions", 0.95, "--out", "p")
    assert refused.exit_code == 1
    assert "support up to 0.9" in refused.output
    assert not Path("p").exists()


def test_regions_of_a_model_without_them_are_refused(folder: Path) -> None:
    done = call("in", "--regions", 0.9, "--out", "o")
    assert done.exit_code == 1
    assert "calipose calibrate fits them" in " ".join(done.output.split())
    assert not Path("o").exists()
