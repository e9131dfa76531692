"""Other tools' labels as a COCO annotation file, and the skeleton that goes with it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from calipose.data.dialects import find_names
from calipose.data.labels.base import DEFAULT_SIGMA, LabelSource
from calipose.data.labels.table import LABELS, find_labels, read_labels
from calipose.errors import InputError
from calipose.geometry import AREA_PER_BOX
from calipose.io.atomic import replacing
from calipose.skeleton import COCO_17, Skeleton

SKELETON_SUFFIX = ".skeleton.json"


@dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
        annotations: the COCO annotation file.
        skeleton_file: the skeleton beside it; None where it is COCO's.
        skeleton: of the people.
        images, people: their numbers; people without keypoints, which are ignore regions, among them.
        remarks: what was assumed, and where the sigmas come from; a sentence each.
    """

    annotations: Path
    skeleton_file: Path | None
    skeleton: Skeleton
    images: int
    people: int
    remarks: tuple[str, ...]


def convert_labels(source: str | Path, output: str | Path, skeleton: Skeleton | None = None) -> Converted:
    """Write labels of CVAT, Label Studio or YOLO as a COCO annotation file.

    Args:
        source: the labels: a CVAT .xml, a Label Studio .json, a data.yaml or a folder of YOLO images; with =IMAGES, the
            names of the files are those that they have in this folder.
        output: the file; it appears whole or not at all.
        skeleton: whose keypoints and order are wanted; by default COCO's if it holds all of them, or else one is made
            and written beside the output as NAME.skeleton.json.

    Returns:
        The file or files written, and what was assumed.

    Raises:
        InputError: the labels are of no known form, broken, or of another skeleton; or the file cannot be written.

    Example:
        converted = convert_labels("cvat.xml", "people.json")
    """
    first, _, folder = str(source).partition("=")
    path = (find_labels(Path(first)) or (Path(first), None))[0]
    if not path.exists():
        raise InputError(f"{path}: no such file or folder")
    labels = read_labels(LabelSource(path))
    if labels is None:
        known = "; ".join(row.description for row in LABELS.values())
        raise InputError(f"{path}: labels of no form that is converted ({known}); COCO annotations need no conversion")
    chosen = skeleton or labels.skeleton
    content = labels.content(chosen)
    if folder:
        names = find_names(Path(folder), [image["file_name"] for image in content["images"]], labels.assumed)
        for image, name in zip(content["images"], names, strict=True):
            image["file_name"] = name
    for person in content["annotations"]:
        share = AREA_PER_BOX if person["num_keypoints"] else 1.0
        person["area"] = share * person["bbox"][2] * person["bbox"][3]
    remarks = list(labels.assumed.remarks(labels.source))
    remarks.append(f"areas are {AREA_PER_BOX} x the area of each person's box: these labels have none")
    output = Path(output)
    skeleton_file = None
    if skeleton is None and chosen is not COCO_17:
        skeleton_file = output.with_suffix(SKELETON_SUFFIX)
        with replacing(skeleton_file) as temporary:
            temporary.write_text(json.dumps(chosen.to_dict(), indent=1) + "\n", encoding="utf-8")
        remarks.append(_about_sigmas(labels.default_sigmas, len(chosen)))
    elif skeleton is None:
        remarks.append("sigmas are COCO's")
    with replacing(output) as temporary:
        temporary.write_text(json.dumps(content), encoding="utf-8", errors="surrogateescape")
    return Converted(output, skeleton_file, chosen, len(content["images"]), len(content["annotations"]), tuple(remarks))


def _about_sigmas(guessed: list[str], k: int) -> str:
    """Where the sigmas of a made skeleton come from."""
    if not guessed:
        return "sigmas are COCO's, by the keypoints' names"
    listed = ", ".join(guessed[:5]) + (", ..." if len(guessed) > 5 else "")
    return (
        f"sigmas of {len(guessed)} of {k} keypoints ({listed}) are {DEFAULT_SIGMA}, the mean of COCO's; OKS and AP "
        "depend on them, so write better ones into that file where you know how well the keypoints are labelled"
    )
