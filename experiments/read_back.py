"""What other tools read of the files that Calipose writes, by those tools' own code.

    python experiments/read_back.py write FOLDER
    python experiments/read_back.py read FOLDER TOOL [--source FILE]

`write` needs Calipose. `read` needs numpy and the tool, so that each tool may have an environment of its own; TOOL is
a row of `READERS`. It prints lines of a table: the file, who read it, the people and keypoints that came back, and the
largest distance, in pixels, between a keypoint that was written and the one that was read.

`--source` is for cvat alone: the file cvat/apps/dataset_manager/formats/cvat.py of CVAT's repository, whose function
`load_anno` reads each uploaded XML file; all else of CVAT needs its server. CVAT's own datumaro is read by
`datumaro-of-cvat`, from a checkout of cvat-ai/datumaro in PYTHONPATH; `datumaro` is the one on PyPI.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

SIZE = (120, 90)  # width and height of the images
PEOPLE = np.random.default_rng(3).uniform(5, 85, (2, 17, 2))
OUTSIDE = (1, 3)  # person and keypoint
PEOPLE[OUTSIDE] = (-5.25, 40)
TRACKS = (7, 2)
FILES = {"cvat": "cvat.xml", "coco-dataset": "people.json", "yolo": "yolo.zip", "openpose": "openpose.zip",
         "trc": "trc.zip"}  # fmt: skip

Read = tuple[str, list[np.ndarray], str]  # the file, the keypoints (17, 2) of each person, and a remark


def write(folder: Path) -> None:
    """Two images, with two people and without, and a video of the two people, in the formats of `FILES`."""
    import cv2

    from calipose.poses import Poses
    from calipose.skeleton import COCO_17

    both = Poses(PEOPLE, np.array([0.9, 0.4]), SIZE, np.full((2, 17), 0.5), track_ids=np.array(TRACKS)).to_dict()
    nobody = Poses.empty(SIZE).to_dict()
    entries = [{"file": "images/a.png", **both}, {"file": "images/b.png", **nobody}]
    entries += [{"file": "dance.mp4", "index": i, "seconds": i / 25, **both} for i in range(3)]
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for name in "ab":
        cv2.imwrite(str(folder / "images" / f"{name}.png"), np.full((SIZE[1], SIZE[0], 3), 128, np.uint8))
    found = folder / "poses.jsonl"
    found.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    for name, file in FILES.items():
        command = [sys.executable, "-m", "calipose", "convert", str(found), str(folder / file), "--format", name]
        subprocess.run(command, check=True)
        if file.endswith(".zip"):
            zipfile.ZipFile(folder / file).extractall(folder / ("" if name == "yolo" else name))
    (folder / "names.json").write_text(json.dumps(COCO_17.keypoints))


def in_order(points: dict[str, Any], names: list[str]) -> np.ndarray:
    """(17, 2) of keypoints by name; NaN where there is none."""
    return np.array([points.get(name, (np.nan, np.nan)) for name in names], np.float64)


def read_cvat(folder: Path, names: list[str], source: Path | None) -> Iterator[Read]:
    """CVAT's `load_anno`, with what it takes of the server replaced: a task whose images are those of the file."""
    from defusedxml import ElementTree

    if source is None:
        raise SystemExit("cvat: name cvat/apps/dataset_manager/formats/cvat.py with --source")
    tree = ast.parse(source.read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "load_anno"]
    shapes: list[Any] = []
    known = {
        "ElementTree": ElementTree,
        "osp": os.path,
        "DatasetItem": SimpleNamespace,
        "Image": SimpleNamespace(from_file=lambda path: path),
        "match_dm_item": lambda item, instance_data: int(item.attributes["frame"]),
    }
    exec(compile(tree, str(source), "exec"), known)
    task = SimpleNamespace(abs_frame_id=int, LabeledShape=SimpleNamespace, add_shape=shapes.append)
    known["load_anno"](str(folder / "cvat.xml"), task)
    people = [in_order({e.label: e.points for e in shape.elements}, names) for shape in shapes]
    flags = [(i, names.index(e.label)) for i, shape in enumerate(shapes) for e in shape.elements if e.outside]
    yield "cvat.xml", people, f"groups {[shape.group for shape in shapes]}, outside {flags}, frame {shapes[0].frame}"


def read_datumaro_of_cvat(folder: Path, names: list[str], _: Path | None) -> Iterator[Read]:
    """CVAT's datumaro, which has skeletons."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    data = Dataset.import_from(str(folder / "cvat.xml"), "cvat")
    labels = data.categories()[AnnotationType.label]
    people, groups, flags = [], [], []
    for skeleton in next(item for item in data if item.annotations).annotations:
        points = {labels[e.label].name: e for e in skeleton.elements}
        people.append(in_order({name: element.points for name, element in points.items()}, names))
        groups.append(skeleton.group)
        flags += [(len(groups) - 1, names.index(name)) for name, e in points.items() if e.attributes["outside"]]
    yield "cvat.xml", people, f"groups {groups}, outside {flags}"


def read_datumaro(folder: Path, names: list[str], _: Path | None) -> Iterator[Read]:
    """PyPI's datumaro, which has no skeletons: keypoints are `Points` of their own, in order of the file."""
    from datumaro.components.annotation import AnnotationType
    from datumaro.components.dataset import Dataset

    data = Dataset.import_from(str(folder), "cvat")
    labels = data.categories()[AnnotationType.label]
    found = [a for item in data for a in item.annotations]
    people: list[dict[str, Any]] = []
    for annotation in found:
        name = labels[annotation.label].name
        if not people or name in people[-1]:
            people.append({})
        people[-1][name] = annotation.points
    kinds = sorted({type(a).__name__ for a in found})
    remark = f"{len(found)} {kinds}, groups {sorted({a.group for a in found})}, {sorted(found[0].attributes)}"
    yield "cvat.xml", [in_order(points, names) for points in people], remark


def read_sleap_io(folder: Path, names: list[str], _: Path | None) -> Iterator[Read]:
    """sleap-io, of SLEAP."""
    import sleap_io

    for file, labels in (
        ("people.json", sleap_io.load_coco(str(folder / "people.json"), dataset_root=str(folder))),
        ("yolo.zip", sleap_io.load_ultralytics(str(folder))),
    ):
        people = [p.numpy() for frame in labels for p in frame.instances]
        own = labels.skeletons[0].node_names
        yield file, people, f"{len(labels)} images, names {'kept' if own == names else own[:2]}"


def read_fiftyone(folder: Path, names: list[str], _: Path | None) -> Iterator[Read]:
    """FiftyOne's importer of COCO files, which `Dataset.from_dir` runs and which needs no database server itself."""
    from fiftyone.utils.coco import COCODetectionDatasetImporter

    with COCODetectionDatasetImporter(
        data_path=str(folder), labels_path=str(folder / "people.json"), label_types="keypoints"
    ) as importer:
        info = importer.get_dataset_info()
        samples = list(importer)
    found = [person for _, _, label in samples if label for person in label.keypoints]
    own = info["skeleton"].labels if "skeleton" in info else None
    extra = sorted(set(found[0].field_names) & {"score", "keypoint_scores"})
    remark = f"{len(samples)} images, names {'kept' if own == names else own}, of our own fields {extra}"
    yield "people.json", [np.array(person.points) * SIZE for person in found], remark


def read_ultralytics(folder: Path, names: list[str], _: Path | None) -> Iterator[Read]:
    """Ultralytics' check of a data set and its reader of label files, which training uses."""
    from ultralytics.data.utils import check_det_dataset, img2label_paths, verify_image_label

    data = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    images = sorted(str(path) for path in Path(data["train"]).glob("*.png"))
    people, counts = [], np.zeros(4, int)
    for image, label in zip(images, img2label_paths(images), strict=True):
        read = verify_image_label((image, label, "", True, data["nc"], *data["kpt_shape"], False))
        people += [np.where(p[:, 2:] > 0, p[:, :2] * SIZE, np.nan) for p in read[4]]
        counts += read[5:9]
    kept = list(data["kpt_names"][0]) == names
    remark = f"missing, found, empty, corrupt {counts.tolist()}; names {'kept' if kept else 'lost'}"
    yield "yolo.zip", people, remark


def read_pose2sim(folder: Path, names: list[str], _: Path | None) -> Iterator[Read]:
    """Pose2Sim's readers of OpenPose's files and of TRC files."""
    from Pose2Sim.common import read_trc
    from Pose2Sim.personAssociation import read_json

    order = [0, 15, 14, 17, 16, 5, 2, 6, 3, 7, 4, 11, 8, 12, 9, 13, 10]  # COCO's keypoints in OpenPose's 18
    read = read_json(str(folder / "openpose" / "a_keypoints.json"))
    yield "openpose.zip", [np.reshape(person, (18, 3))[order, :2] for person in read], "18 keypoints"
    people = []
    for track in TRACKS:
        points, _, _, own, _ = read_trc(str(folder / "trc" / f"dance_person{track}.trc"))
        first = points.to_numpy().reshape(len(points), -1, 3)[0, :, :2]
        people.append(first * [1, -1] + [0, SIZE[1] - 1])
    yield "trc.zip", people, f"{len(points)} frames, names {'kept' if own == names else own[:2]}"


READERS: dict[str, tuple[Callable[[Path, list[str], Path | None], Iterator[Read]], str]] = {
    "cvat": (read_cvat, ""),
    "datumaro-of-cvat": (read_datumaro_of_cvat, ""),
    "datumaro": (read_datumaro, "datumaro"),
    "sleap-io": (read_sleap_io, "sleap-io"),
    "fiftyone": (read_fiftyone, "fiftyone"),
    "ultralytics": (read_ultralytics, "ultralytics"),
    "pose2sim": (read_pose2sim, "pose2sim"),
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=("write", "read"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("tool", nargs="?", choices=READERS)
    parser.add_argument("--source", type=Path)
    args = parser.parse_args()
    if args.step == "write":
        write(args.folder)
        return
    if args.tool is None:
        parser.error("name the tool that reads")
    names = json.loads((args.folder / "names.json").read_text())
    reader, package = READERS[args.tool]
    for file, people, remark in reader(args.folder.absolute(), names, args.source):
        if len(people) != len(PEOPLE):
            raise SystemExit(f"{file}: {len(people)} people came back of {len(PEOPLE)}; {remark}")
        distance = np.abs(np.stack(people) - PEOPLE).max(-1)
        known = np.isfinite(distance)
        lost = [tuple(where) for where in np.argwhere(~known).tolist()]
        by = f"{args.tool} {version(package)}" if package else args.tool
        print(
            f"| {file} | {by} | {known.sum()} of {known.size}, lost {lost} | {distance[known].max():.2g} | {remark} |"
        )


if __name__ == "__main__":
    main()
