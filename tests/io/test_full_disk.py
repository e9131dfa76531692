"""A full disk: whatever writes a file names it and the reason, and leaves the earlier file, or nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pytest

from calipose.data.synthetic.scene import EASY, write_synthetic_data
from calipose.draw import save_image
from calipose.errors import WriteError
from calipose.evaluation.run import save_results
from calipose.formats.entries import Entry
from calipose.formats.journal import Journal
from calipose.formats.one_image import save_poses
from calipose.formats.table import FORMATS
from calipose.io.video_writer import VideoWriter
from calipose.poses import Poses
from calipose.skeleton import COCO_17

Limit = Callable[[int], AbstractContextManager[None]]

SPACE = 20_000  # bytes, less than any of the writers below wants
NOISE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)  # hardly compressible
PLACES = np.random.default_rng(1).uniform(0, 480, (100, 17, 2))
CROWD = Poses(PLACES, np.full(100, 0.5), (640, 480), skeleton=COCO_17, track_ids=np.arange(1, 101))
REASON = "File too large"  # what the limit gives; a full disk has its own words


def entries(takes_images: bool = True) -> list[Entry]:
    """Of images, or of a video's frames."""
    frames = [{"file": f"{i}.jpg"} if takes_images else {"file": "dance.mp4", "index": i} for i in range(3)]
    return [{**frame, **CROWD.to_dict()} for frame in frames]


def write_video(path: Path) -> None:
    with VideoWriter(path, 25, (640, 480)) as video:
        for _ in range(60):  # as many as the encoder looks ahead, so that it fails in the middle
            video.write(NOISE)


def write_short_video(path: Path) -> None:
    with VideoWriter(path, 25, (640, 480)) as video:
        for _ in range(3):  # all are written at the end
            video.write(NOISE)


def write_checkpoint(path: Path) -> None:
    torch = pytest.importorskip("torch")
    from calipose.model.checkpoint import save_tensors

    save_tensors(path, {"weights": torch.zeros(SPACE)}, {})


def write_chart(path: Path) -> None:
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    from calipose.report.chart import Chart

    figure = Figure(figsize=(8, 8))
    figure.add_subplot().imshow(NOISE, interpolation="nearest")
    Chart("chart", "a title", "what it shows", "0 poses", figure, ["x"], []).save(path.parent)


def write_onnx(path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from calipose.io.atomic import replacing

    weights = onnx.numpy_helper.from_array(np.zeros(SPACE, np.float32), "weights")
    graph = onnx.helper.make_graph([], "graph", [], [], [weights])
    with replacing(path) as temporary:
        onnx.save(onnx.helper.make_model(graph), temporary)


WRITERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    **{
        name: (f"poses.{name}", lambda path, row=row: row.write(path, entries(row.takes_images), COCO_17))
        for name, row in FORMATS.items()
    },
    "one image": ("poses.json", lambda path: save_poses(CROWD, path)),
    "drawing": ("drawing.png", lambda path: save_image(path, NOISE)),
    "video": ("video.mp4", write_video),
    "short video": ("video.mp4", write_short_video),
    "results": ("results.json", lambda path: save_results(path, CROWD.to_coco(1))),
    "checkpoint": ("last.safetensors", write_checkpoint),
    "chart": ("chart.png", write_chart),
    "onnx": ("model.onnx", write_onnx),
    "synthetic people": ("people", lambda path: write_synthetic_data(path, 1, EASY, (640, 480), 0)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_every_writer_names_file_and_reason(tmp_path: Path, full_disk: Limit, writer: str) -> None:
    name, write = WRITERS[writer]
    path = tmp_path / name
    with full_disk(SPACE), pytest.raises(WriteError) as raised:
        write(path)
    assert str(path) in str(raised.value)
    assert REASON in str(raised.value)
    assert "does the folder exist" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
    write(path)
    assert path.exists()


def fill(path: Path) -> None:
    with Journal(path) as journal:
        for i in range(100):
            journal.add(f"{i}.jpg", None, CROWD)


def test_a_journal_keeps_whole_lines(tmp_path: Path, full_disk: Limit) -> None:
    path = tmp_path / "poses.jsonl"
    with full_disk(20 * SPACE):
        with pytest.raises(WriteError, match=f"poses.jsonl cannot be written: {REASON}$"):
            fill(path)
        assert path.stat().st_size > SPACE
        done = [json.loads(line)["file"] for line in path.read_text().splitlines()]
        assert done == [f"{i}.jpg" for i in range(len(done))]
        with pytest.raises(WriteError), Journal(path, resume=True) as again:
            again.add("more.jpg", None, CROWD)
    with Journal(path, resume=True) as journal:
        assert journal.done == set(done)
        journal.add(f"{len(done)}.jpg", None, CROWD)
    assert [json.loads(line)["file"] for line in path.read_text().splitlines()] == [*done, f"{len(done)}.jpg"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="hardware: this operating system has no /dev/full")
def test_standard_output_that_is_full() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "calipose", "info"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert done.stderr == "error: standard output cannot be written: No space left on device\n"
