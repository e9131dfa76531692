"""Labels of CVAT, Label Studio and YOLO: the same people come out of each, and what has no one meaning is refused."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from calipose.cli import app
from calipose.data.coco import read_coco
from calipose.data.labels.base import DEFAULT_SIGMA, LabelSource
from calipose.data.labels.convert import convert_labels
from calipose.data.labels.table import LABELS, read_labels
from calipose.data.locate import find_data
from calipose.errors import InputError
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.formats.cvat import to_cvat
from calipose.poses import Poses
from calipose.skeleton import COCO_17, Skeleton
from labels_of_tools import HIDDEN, MISSING, PEOPLE, SIZE, STICK, write_cvat, write_label_studio, write_yolo

WRITERS = {"cvat": write_cvat, "label-studio": write_label_studio, "yolo-pose": write_yolo}


@pytest.mark.parametrize("form", LABELS)
def test_the_same_people_come_out_of_each_form(form: str, tmp_path: Path) -> None:
    source = WRITERS[form](tmp_path)
    annotations, images = find_data(f"{source}={tmp_path / 'images'}" if form != "yolo-pose" else source)
    data = read_coco(annotations, images)
    truth = read_ground_truth(annotations).in_folder(images)
    assert [data.image_path(i).name for i in range(len(data))] == ["a.png", "b.png"]
    assert data.sizes.tolist() == [list(SIZE)] * 2
    assert np.diff(data.person_start).tolist() == [2, 0]
    visible = np.full((2, 17), 2)
    visible[0, HIDDEN] = 2 if form == "label-studio" else 1  # Label Studio has no hidden keypoints
    visible[1, MISSING] = 0
    np.testing.assert_array_equal(data.visibility, visible)
    seen = visible > 0
    np.testing.assert_allclose(data.keypoints_img[seen], PEOPLE[seen], atol=1e-3)
    np.testing.assert_allclose(truth.people[0].keypoints_img[seen], PEOPLE[seen], atol=1e-3)
    assert truth.image_ids == (1, 2)
    assert any("0.53 x the area of their box (2)" in remark for remark in data.assumptions)
    assert data.assumptions[-1].startswith("annotation file ")


def test_cvat_reads_what_we_write_for_it(tmp_path: Path) -> None:
    poses = Poses(PEOPLE, np.array([0.9, 0.8]), SIZE)
    (tmp_path / "own.xml").write_text(to_cvat(poses, "a.png"))
    people = read_ground_truth(tmp_path / "own.xml").people[0]
    np.testing.assert_array_equal(people.keypoints_img, PEOPLE)
    assert people.labelled.all()


def test_cvat_points_of_groups_and_boxes(tmp_path: Path) -> None:
    groups = "".join(
        f'<points label="{name}" points="{10 * g + i},{i + 5}" group_id="{g}"/>'
        for g in (1, 2)
        for i, name in enumerate(("nose", "left_eye", "right_eye"))
    )
    grouped = '<box label="person" xtl="1" ytl="2" xbr="30" ybr="50" group_id="1"/>'
    alone = '<box label="person" xtl="0" ytl="0" xbr="9" ybr="9"/>'
    write_xml(tmp_path, groups + grouped + alone + alone.replace("person", "dog"))
    people = read_ground_truth(tmp_path / "c.xml").people[0]
    assert people.box[:2].tolist() == [[0, 0, 9, 9], [1, 2, 29, 48]]  # the first has no keypoints, and is ignored
    assert people.ignored.tolist() == [True, False, False]
    assert people.keypoints_img[1, :3].tolist() == [[10, 5], [11, 6], [12, 7]]


def test_cvat_points_in_one_element(tmp_path: Path) -> None:
    places = ";".join(f"{x},{y}" for x, y in PEOPLE[0])
    write_xml(tmp_path, f'<points label="person" points="{places}"/>')
    truth = read_ground_truth(tmp_path / "c.xml")
    np.testing.assert_allclose(truth.people[0].keypoints_img[0], PEOPLE[0])
    assert any("in the skeleton's order" in remark for remark in truth.assumptions)


def write_xml(folder: Path, inside: str, head: str = "") -> Path:
    path = folder / "c.xml"
    path.write_text(f'{head}<annotations><image name="a.png" width="99" height="80">{inside}</image></annotations>')
    return path


LAUGHS = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "' + "&b;" * 50 + '">]>'
NOSE = '<points label="nose" points="1,2"/>'


@pytest.mark.parametrize(
    ("inside", "head", "words"),
    [
        ("&c;", LAUGHS, "declares entities"),
        ('<skeleton label="person"><points label="nose" points="1"/></skeleton>', "", r"write x,y"),
        (
            f'<skeleton label="person">{NOSE * 2}</skeleton>',
            "",
            "image a.png, <skeleton> number 0: keypoint 'nose' twice",
        ),
        ('<skeleton label="person"><points label="nose" points="1,nan"/></skeleton>', "", "finite numbers"),
        (NOSE * 2, "", "give the points of each person a group"),
        ("<points", "", "not valid XML"),
        (
            '<skeleton label="cat"><points label="tail" points="1,2"/></skeleton>',
            "",
            "keypoint 'tail' is none of skeleton",
        ),
        ("</image><track/><image>", "", "export 'CVAT for images 1.1'"),
        ('</image><image width="1" height="1">', "", "image number 1: it has no name"),
    ],
)
def test_broken_cvat(inside: str, head: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as raised:
        read_ground_truth(write_xml(tmp_path, inside, head))
    assert "c.xml" in str(raised.value)


def change_tasks(folder: Path, change) -> Path:
    path = write_label_studio(folder)
    tasks = json.loads(path.read_text())
    change(tasks)
    path.write_text(json.dumps(tasks))
    return path


def first(tasks: list, kind: str = "keypointlabels") -> dict:
    return next(region for region in tasks[0]["annotations"][0]["result"] if region["type"] == kind)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tasks: tasks[0].pop("data"), "not of Label Studio's tasks"),
        (lambda tasks: first(tasks).pop("parentID"), "some keypoints have a person's rectangle as parent"),
        (lambda tasks: first(tasks)["value"].update(x="a"), r"task 1: x, y .*finite numbers"),
        (lambda tasks: first(tasks).pop("value"), "task 1: no field 'value'"),
        (lambda tasks: first(tasks).update(image_rotation=90), "turned by Label Studio"),
        (lambda tasks: first(tasks)["value"].update(keypointlabels=["left_eye"]), "twice in one person"),
        (lambda tasks: tasks[0].update(data={"text": "a"}), "names no image"),
        (lambda tasks: [task.update(annotations=[], predictions=[{"result": []}]) for task in tasks], "not labels"),
    ],
)
def test_broken_label_studio(change, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words) as raised:
        read_ground_truth(change_tasks(tmp_path, change))
    assert "tasks.json" in str(raised.value)


def test_label_studio_without_parents_is_one_person_or_refused(tmp_path: Path) -> None:
    def orphan(tasks: list) -> None:
        for region in tasks[0]["annotations"][0]["result"]:
            region.pop("parentID", None)

    with pytest.raises(InputError, match="give each person a rectangle"):
        read_labels(LabelSource(change_tasks(tmp_path, orphan)))

    def one_person(tasks: list) -> None:
        result = tasks[0]["annotations"][0]["result"]
        result[:] = [region for region in result if region.get("parentID") == "box-0"]
        orphan(tasks)

    labels = read_labels(LabelSource(change_tasks(tmp_path, one_person)))
    assert [len(person.points) for person in labels.images[0].people] == [17]


def test_label_studio_relations_other_annotators_and_unlabelled_tasks(tmp_path: Path) -> None:
    def change(tasks: list) -> None:
        result = tasks[0]["annotations"][0]["result"]
        for region in list(result):
            if parent := region.pop("parentID", None):
                result.append({"type": "relation", "from_id": region["id"], "to_id": parent, "direction": "right"})
        tasks[0]["annotations"].append({"result": [], "was_cancelled": True})
        tasks[0]["annotations"].insert(0, {"result": []})
        tasks.append({"id": 9, "data": {"image": "c.png"}, "annotations": []})

    labels = read_labels(LabelSource(change_tasks(tmp_path, change)))
    assert [len(person.points) for person in labels.images[0].people] == [17, 16]
    assert len(labels.images) == 2
    said = " ".join(labels.assumed.remarks("x"))
    assert "tasks without an annotation were left out (1)" in said
    assert "the ground truth or else the last was read (1)" in said


def test_label_studios_names_of_uploads_and_local_files(tmp_path: Path) -> None:
    def change(tasks: list) -> None:
        tasks[0]["data"]["image"] = "/data/upload/3/0a1b2c3d-a.png"
        tasks[1]["data"]["image"] = "/data/local-files/?d=some%20where/b.png"

    source = change_tasks(tmp_path, change)
    data = read_coco(source, tmp_path / "images")
    assert [data.image_path(i) for i in range(2)] == [tmp_path / "images" / name for name in ("a.png", "b.png")]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ({"kpt_shape": [17]}, None, "'kpt_shape' must be two numbers"),
        ({"names": {0: "cat", 1: "dog"}}, None, "2 'names', and none or several"),
        ({}, "0 0.5 0.5", r"a\.txt, line 1: 3 numbers; 56 .* are needed"),
        ({}, "0 0.5 0.5 0.1 0.1" + " 0.5 0.5 7" * 17, "visibility 7 of keypoint 0"),
        ({}, "a" + " 0" * 55, "finite numbers"),
        ({"kpt_shape": [4, 3]}, "0 0.5 0.5 0.1 0.1" + " 0.5 0.5 2" * 4, "4 keypoints, skeleton 'coco-17' has 17"),
    ],
)
def test_broken_yolo(content: dict, line: str | None, words: str, tmp_path: Path) -> None:
    source = write_yolo(tmp_path)
    source.write_text(yaml.safe_dump(yaml.safe_load(source.read_text()) | content))
    if line is not None:
        (tmp_path / "labels" / "a.txt").write_text(line)
    with pytest.raises(InputError, match=words):
        read_ground_truth(find_data(source)[0])


def test_yolo_parts_are_named_and_a_turned_image_is_refused(tmp_path: Path) -> None:
    source = write_yolo(tmp_path)
    (tmp_path / "images" / "val").mkdir()
    content = yaml.safe_load(source.read_text())
    source.write_text(yaml.safe_dump(content | {"train": "images", "val": "images/val"}))
    with pytest.raises(InputError, match=r"several parts; name the folder of images of one: .*images, .*val"):
        find_data(source)
    assert len(read_coco(*find_data(tmp_path / "images"))) == 2
    turned = cv2.imencode(".jpg", np.zeros((4, 5, 3), np.uint8))[1].tobytes()
    tag = b"\xff\xe1\0\x22Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
    (tmp_path / "images" / "c.jpg").write_bytes(turned[:2] + tag + turned[2:])
    with pytest.raises(InputError, match=r"image c\.jpg: turned by its EXIF orientation"):
        read_coco(*find_data(tmp_path / "images"))


def test_an_own_skeleton_is_written_and_its_sigmas_are_said(tmp_path: Path) -> None:
    source = write_cvat(tmp_path, STICK, PEOPLE[:, :3])
    converted = convert_labels(source, tmp_path / "out.json")
    assert converted.skeleton_file == tmp_path / "out.skeleton.json"
    skeleton = Skeleton.from_file(converted.skeleton_file)
    assert skeleton.keypoints == STICK == ("nose", "left hand", "right hand")
    assert skeleton.flip_pairs == ((1, 2),)
    assert skeleton.sigmas == (COCO_17.sigmas[0], DEFAULT_SIGMA, DEFAULT_SIGMA)
    assert any(
        f"sigmas of 2 of 3 keypoints (left hand, right hand) are {DEFAULT_SIGMA}" in r for r in converted.remarks
    )
    back = read_ground_truth(tmp_path / "out.json", skeleton)
    np.testing.assert_allclose(back.people[0].keypoints_img[0], PEOPLE[0, :3])
    direct = read_ground_truth(source, skeleton)
    np.testing.assert_array_equal(direct.people[0].area, back.people[0].area)
    assert not back.assumptions


def test_the_default_sigma_is_the_mean_of_cocos() -> None:
    assert round(float(COCO_17.sigmas_array.mean()), 3) == DEFAULT_SIGMA


def test_the_command_says_what_it_assumed(tmp_path: Path) -> None:
    source = write_label_studio(tmp_path)
    run = CliRunner().invoke(app, ["convert", f"{source}={tmp_path / 'images'}", str(tmp_path / "out.json")])
    assert run.exit_code == 0, run.output
    said = " ".join(run.output.split())
    assert "2 people in 2 images" in said
    assert "sigmas are COCO's" in said
    assert [image["file_name"] for image in json.loads((tmp_path / "out.json").read_text())["images"]] == [
        "a.png",
        "b.png",
    ]
    run = CliRunner().invoke(app, ["convert", str(tmp_path / "out.json"), str(tmp_path / "again.json")])
    assert run.exit_code
    assert "COCO annotations need no conversion" in " ".join(f"{run.output}{run.exception}".split())
