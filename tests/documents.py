"""What the documents show: their command lines, and the files that those name."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import textwrap
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

import foreign_graphs
import labels_of_tools
from calipose.data.synthetic.scene import EASY, synthesize_scene, write_synthetic_data
from calipose.draw import save_image
from calipose.io.video_writer import VideoWriter
from calipose.poses import Poses
from calipose.skeleton import COCO_17

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = {"", "bash", "sh", "shell", "console"}  # languages of fenced blocks


@dataclass(frozen=True)
class Command:
    """A command line of a document.

    Attributes:
        page: the document's path in the repository.
        environment: what is set before the command, NAME -> value.
        words: the program and its arguments, without comments.
    """

    page: str
    environment: dict[str, str]
    words: tuple[str, ...]

    @property
    def line(self) -> str:
        """The command as one line."""
        return shlex.join(self.words)

    def __str__(self) -> str:
        return f"{self.page}: {self.line}"


def shell_commands(page: str, text: str, program: str) -> list[Command]:
    """The command lines of `program` in a Markdown text: those of indented blocks, and of fenced shell blocks.

    Lines that end in a backslash go on in the next one. Comments are left out, and variables that a line such as
    D=../shared/data sets are put in; `program` may be a regular expression.
    """
    text = FENCE.sub(lambda block: textwrap.indent(block[2], "    ") if block[1] in SHELL else "", text)
    found: list[Command] = []
    variables: dict[str, str] = {}
    for shown in re.findall(r"^    (\S.*)$", re.sub(r"\\\n\s*", "", text), re.MULTILINE):
        line = re.sub(r"\$([A-Z]\w*)", lambda name: variables.get(name[1], name[0]), shown)
        if assigned := re.fullmatch(r"([A-Z]\w*)=(\"[^\"]*\"|\S+)", line):
            variables[assigned[1]] = assigned[2].strip('"')
        if not re.match(rf"(?:[A-Z_]+=\S* )*{program}(?:\s|$)", line):
            continue
        words = shlex.split(line, comments=True)
        environment = {}
        while "=" in words[0]:
            name, _, value = words.pop(0).partition("=")
            environment[name] = value
        found.append(Command(page, environment, tuple(words)))
    return found


def prepare(folder: Path, tiny_onnx: Path) -> None:
    """Write the files that the documents name, as small as possible.

    The data sets are twelve images of synthetic people, with several names; the models are a tiny one, and graphs with
    the inputs and outputs of other projects' models.
    """
    rng = np.random.default_rng(0)
    for name in ("photo.jpg", "team.jpg", "me.png", "holiday/1.jpg", "holiday/2.jpg", "frames/1.jpg", "photos/a b.jpg"):
        (folder / name).parent.mkdir(exist_ok=True)
        save_image(folder / name, synthesize_scene(rng, (128, 96), EASY).image)
    for name in ("dance.mp4", "clip.mp4"):
        with VideoWriter(folder / name, 25.0, (96, 64)) as video:
            for seed in range(3):
                video.write(synthesize_scene(np.random.default_rng(seed), (96, 64), EASY).image)
    _data_sets(folder, rng)
    for name in ("model.onnx", "poses.onnx"):
        shutil.copyfile(tiny_onnx, folder / name)
    (folder / "mine.toml").write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in COCO_17.to_dict().items()))
    (folder / "my-recipe.toml").write_text("name = 'my-recipe'\n[backbone]\nname = 'mobilenetv2-1.0'\n")
    people = Poses(rng.uniform(5, 90, (2, 17, 2)), np.array([0.9, 0.6]), (128, 96))
    (folder / "calipose-out").mkdir()
    line = json.dumps({"file": "holiday/1.jpg", "drawing": None, **people.to_dict()})
    (folder / "calipose-out" / "poses.jsonl").write_text(f"{line}\n")
    if find_spec("pyarrow") is not None:
        _bulk(folder / "poses")
    foreign_graphs.yolo26_pose(folder / "yolo26n-pose.onnx")
    foreign_graphs.rtmo(folder / "rtmo-s.onnx")
    foreign_graphs.detr_decoded(folder / "ecpose.onnx")
    labels_of_tools.write_cvat(folder / "photos").rename(folder / "cvat.xml")
    labels_of_tools.write_label_studio(folder / "photos").rename(folder / "export.json")
    (folder / "label-studio.json").write_bytes((folder / "export.json").read_bytes())
    (folder / "yolo").mkdir()
    labels_of_tools.write_yolo(folder / "yolo")
    for image in (folder / "photos" / "images").iterdir():
        image.rename(folder / "photos" / image.name)


def _bulk(folder: Path) -> None:
    """A folder of `calipose bulk` with one image."""
    import pyarrow as pa

    from calipose.bulk.schema import VERSION, result_schema
    from calipose.bulk.store import ResultFolder

    header = {"schema": VERSION, "model": "m-1", "calibration": None, "min_score": 0.3, "skeleton": COCO_17.to_dict()}
    point = {"x": 1.0, "y": 2.0, "score": 0.5}
    pose = {"score": 0.7, "raw_score": 0.5, "p_oks50": None, "p_oks75": None, "keypoints": [point] * 17}
    row = {"key": "/frames/1.jpg", "width": 40, "height": 30, "poses": [pose], "skeleton": "coco-17", "model": "m-1"}
    with ResultFolder(str(folder)) as results:
        results.begin(header)
        results.add(pa.Table.from_pylist([row], schema=result_schema()))
        results.flush()


def noisy_results(people: list[dict[str, Any]], noise: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    """COCO results: the annotated people with keypoints moved by `noise` pixels, and scores by chance."""
    entries = []
    for person in people:
        points = np.array(person["keypoints"], float).reshape(-1, 3)
        points[:, :2] += rng.normal(0, noise, (17, 2))
        points[:, 2] = rng.uniform(0.1, 1, 17)
        entry = {"image_id": person["image_id"], "category_id": 1, "score": float(rng.uniform(0.1, 1))}
        entries.append(entry | {"keypoints": points.ravel().tolist()})
    return entries


def _data_sets(folder: Path, rng: np.random.Generator) -> None:
    write_synthetic_data(folder / "people", 12, EASY, (96, 96), seed=3)
    truth = folder / "people" / "annotations.json"
    for name in ("annotations", "val", "val2017", "half0", "half1", "mine", "coco", "other", "image_info_test-dev2017"):
        (folder / f"{name}.json").write_bytes(truth.read_bytes())
    for name in ("images", "val2017", "train2017", "test2017"):
        (folder / name).symlink_to(folder / "people" / "images")
    for name in ("labelled", "DATA", "unseen"):
        (folder / name).symlink_to(folder / "people")
    people = json.loads(truth.read_text())["annotations"]
    for name, noise in (("results", 1.0), ("old", 1.0), ("new", 0.5), ("others", 1.0)):
        (folder / f"{name}.json").write_text(json.dumps(noisy_results(people, noise, rng)))
