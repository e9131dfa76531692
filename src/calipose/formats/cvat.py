"""CVAT: files of its format "CVAT for images 1.1" (XML)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from calipose.formats.annotation import inside_image, scored_at_least, xml_text
from calipose.formats.entries import Entry, Target, flush_stream, is_still, open_target
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton

CVAT_TAIL = "</annotations>\n"


def to_cvat(
    poses: Poses, name: str, image_id: int = 0, *, label: str = "person", min_keypoint_score: float = 0.0
) -> str:
    """A whole "CVAT for images 1.1" file (XML) of one image.

    Many images are written one by one: `cvat_head`, a `cvat_image` each, `CVAT_TAIL`.

    Args:
        poses: of one image.
        name: the image's name in the CVAT task; CVAT finds the image by it.
        image_id: its number in the task, from 0.
        label: name of the task's skeleton label.
        min_keypoint_score: below, a keypoint counts as occluded, where the poses carry scores of keypoints.

    Returns:
        The whole file as text.

    Example:
        Path("cvat.xml").write_text(to_cvat(predictor.predict("photo.jpg"), "photo.jpg"))
    """
    image = cvat_image(poses, name, image_id, label=label, min_keypoint_score=min_keypoint_score)
    return cvat_head(poses.skeleton, label) + image + CVAT_TAIL


def cvat_head(skeleton: Skeleton, label: str = "person") -> str:
    """The start of a "CVAT for images 1.1" file, up to the first image; the task must have these labels."""
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    ElementTree.SubElement(task, "id").text = "0"
    ElementTree.SubElement(task, "mode").text = "annotation"
    labels = ElementTree.SubElement(task, "labels")
    for name, kind in ((label, "skeleton"), *((keypoint, "points") for keypoint in skeleton.keypoints)):
        entry = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(entry, "name").text = name
        ElementTree.SubElement(entry, "type").text = kind
        ElementTree.SubElement(entry, "attributes")
        if kind == "points":
            ElementTree.SubElement(entry, "parent").text = label
    start = '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    return start + xml_text(meta, 1)


def cvat_image(
    poses: Poses, name: str, image_id: int, *, label: str = "person", min_keypoint_score: float = 0.0
) -> str:
    """One `<image>` element of a "CVAT for images 1.1" file: a `<skeleton>` a pose, its keypoints as `<points>`.

    A keypoint outside the image has outside="1" (CVAT does not show it), one below `min_keypoint_score` has
    occluded="1"; both keep their coordinates. Track ids become `group_id`. Scores are not written: CVAT refuses
    attributes that a task does not declare.

    Args:
        poses: of one image.
        name: the image's name in the CVAT task; CVAT finds the image by it.
        image_id: its number in the task, or the frame of a video, from 0.
        label: name of the task's skeleton label.
        min_keypoint_score: below, a keypoint counts as occluded, where the poses carry scores of keypoints.

    Source: CVAT's documentation, "XML annotation format", and what its importer reads of a skeleton.
    """
    width, height = (str(side) for side in poses.image_size)
    image = ElementTree.Element("image", id=str(image_id), name=name, width=width, height=height)
    inside, sure = inside_image(poses), scored_at_least(poses, min_keypoint_score)
    for i in range(len(poses)):
        skeleton = ElementTree.SubElement(image, "skeleton", label=label, source="auto", z_order="0")
        if poses.track_ids is not None:
            skeleton.set("group_id", str(poses.track_ids[i]))
        for j, keypoint in enumerate(poses.skeleton.keypoints):
            x, y = poses.keypoints_img[i, j].tolist()
            ElementTree.SubElement(
                skeleton,
                "points",
                label=keypoint,
                source="auto",
                outside=str(int(not inside[i, j])),
                occluded=str(int(not sure[i, j])),
                points=f"{x!r},{y!r}",
            )
    return xml_text(image, 1)


def write_cvat(target: Target, entries: Iterable[Entry], skeleton: Skeleton = COCO_17) -> None:
    """Write a "CVAT for images 1.1" file of still images; frames of videos are passed over.

    CVAT finds the images by their file's name, without folders.

    Example:
        write_cvat("cvat.xml", read_entries("calipose-out/poses.jsonl"))

    Args:
        target: a file, which appears whole or not at all, or a text stream, which is flushed after each entry.
        entries: see `calipose.formats.entries`.
        skeleton: of all entries.

    Raises:
        InputError: an entry is of another skeleton, or the file cannot be written.
    """
    with open_target(target) as stream:
        stream.write(cvat_head(skeleton))
        for number, entry in enumerate(filter(is_still, entries)):
            stream.write(cvat_image(Poses.from_dict(entry, skeleton), Path(entry["file"]).name, number))
            flush_stream(stream, target)
        stream.write(CVAT_TAIL)
