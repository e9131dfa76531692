"""Synthetic people: the same seed gives the same image, and a joint lies on its person."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from calipose.data.synthetic.canvas import Canvas, Cloth, hull
from calipose.data.synthetic.person import Body, paint_person, sample_body, sample_look
from calipose.data.synthetic.scene import (
    EASY,
    HARD,
    SyntheticScene,
    coco_annotations,
    synthesize_scene,
    write_synthetic_data,
)
from calipose.errors import InputError
from calipose.skeleton import COCO_17

PRESETS = [pytest.param(EASY, id="easy"), pytest.param(HARD, id="hard")]


def scene(index: int, preset=HARD, size: tuple[int, int] = (160, 128)) -> SyntheticScene:
    return synthesize_scene(np.random.default_rng([5, index]), size, preset)


def painted(body: Body, seed: int, size: tuple[int, int] = (200, 220)) -> Canvas:
    """The body alone on black."""
    w, h = size
    canvas = Canvas(np.zeros((h, w, 3), np.float32), np.zeros((h, w), np.float32))
    canvas.painter = 1
    rng = np.random.default_rng(seed)
    paint_person(canvas, body, sample_look(rng, rng.uniform(60, 240, (5, 3)), 0))
    return canvas


@pytest.mark.parametrize("preset", PRESETS)
def test_seed_decides_everything(preset):
    first, again, other = scene(0, preset), scene(0, preset), scene(1, preset)
    for field in ("image", "keypoints_img", "visibility", "area", "boxes_img"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert (first.image != other.image).any()


@pytest.mark.parametrize("preset", PRESETS)
def test_shapes_and_labels(preset):
    for i in range(20):
        s = scene(i, preset)
        p = len(s.area)
        assert s.image.shape == (128, 160, 3)
        assert s.image.dtype == np.uint8
        assert s.keypoints_img.shape == (p, 17, 2)
        assert s.visibility.shape == (p, 17)
        assert s.boxes_img.shape == (p, 4)
        assert p <= preset.people[1]
        assert set(np.unique(s.visibility)) <= {0, 1, 2}
        labelled = s.keypoints_img[s.visibility > 0]
        assert (np.rint(labelled) >= 0).all()
        assert (np.rint(labelled) <= [159, 127]).all()
        assert (s.area > 0).all()
        assert (s.area <= s.boxes_img[:, 2:].prod(1)).all()
        visible = s.visibility == 2
        first, last = s.boxes_img[:, None, :2], s.boxes_img[:, None, :2] + s.boxes_img[:, None, 2:] - 1
        inside = ((np.rint(s.keypoints_img) >= first) & (np.rint(s.keypoints_img) <= last)).all(-1)
        assert inside[visible].all()


def test_presets_differ():
    easy = [scene(i, EASY) for i in range(40)]
    hard = [scene(i, HARD) for i in range(40)]
    for scenes, most in ((easy, 2), (hard, 6)):
        assert max(len(s.area) for s in scenes) <= most
    assert max(len(s.area) for s in hard) > 2
    assert all((s.visibility[:, 5:] == 2).all() for s in easy), "nothing hides an easy person"
    seen = np.concatenate([s.visibility.ravel() for s in hard])
    assert (seen == 1).mean() > 0.02
    smallest = [min(np.concatenate([s.boxes_img[:, 3] for s in scenes])) for scenes in (easy, hard)]
    assert smallest[1] < smallest[0]


def test_every_joint_lies_on_its_person():
    rng = np.random.default_rng(0)
    for i in range(60):
        body = sample_body(rng, False, 20).moved(rng.uniform(30, 180), np.array([100.0, 110.0]))
        owner = painted(body, i).owner
        shown = np.concatenate([body.face_seen, np.ones(12, bool)])
        x, y = np.rint(body.joints[shown]).astype(int).T
        assert (owner[y, x] == 1).all()


def test_a_painted_dot_is_centred_on_its_coordinates():
    y, x = np.mgrid[:40, :50]
    for at in np.random.default_rng(1).uniform(12, 28, (50, 2)):
        canvas = Canvas(np.zeros((40, 50, 3), np.float32), np.zeros((40, 50), np.float32))
        canvas.fill(hull((at, 6.0)), Cloth(np.full(3, 200.0), np.zeros(3)))
        weight = canvas.pixels[..., 0] / canvas.pixels[..., 0].sum()
        np.testing.assert_allclose([(weight * x).sum(), (weight * y).sum()], at, atol=0.1)


def test_the_pixel_of_a_joint_has_the_colour_of_its_part():
    rng = np.random.default_rng(3)
    for i in range(20):
        body = sample_body(rng, True, 0).moved(190, np.array([100.0, 110.0]))
        look = replace(sample_look(rng, rng.uniform(60, 240, (5, 3)), 0), outlined=False, sleeve=0.0)
        canvas = Canvas(np.zeros((220, 200, 3), np.float32), np.zeros((220, 200), np.float32))
        paint_person(canvas, replace(body, arm_behind=(False, False)), look)
        x, y = np.rint(body.joints[10]).astype(int)  # the right wrist is painted last: nothing covers it
        shade = canvas.pixels[y, x] / look.skin.colour
        assert np.ptp(shade) < 0.02, f"image {i}: wrist is not skin"


def test_left_and_right_are_the_person_s_own():
    """Who shows chest and face has the left joints on the image's right, who shows the back on its left."""
    rng = np.random.default_rng(7)
    front, back = [], []
    for _ in range(300):
        body = sample_body(rng, False, 0)
        (back if body.back else front).append(body)
    assert len(front) > len(back) > 5
    left_is_right = [np.mean([b.joints[5, 0] > b.joints[6, 0] for b in bodies]) for bodies in (front, back)]
    assert left_is_right[0] > 0.75
    assert left_is_right[1] < 0.1
    for body in back:
        assert not body.face_seen[:3].any()
    upright = [sample_body(rng, True, 0) for _ in range(100)]
    facing = [b for b in upright if b.head[2, 2] > 0.8]
    for a, b in COCO_17.flip_pairs[:2]:  # eyes and ears: exactly, for they are the head's own
        assert all(body.joints[a, 0] > body.joints[b, 0] for body in facing)


def test_mirrored_body_paints_the_mirrored_image():
    """Mirroring, with left and right exchanged by the skeleton's pairs, gives the person in a mirror."""
    body = sample_body(np.random.default_rng(11), True, 0).moved(180, np.array([99.5, 110.0]))
    mirror = np.diag([-1.0, 1.0, 1.0])
    mirrored = replace(
        body,
        joints=(np.array([199, 0]) + body.joints * [-1, 1])[COCO_17.flip_index],
        head=mirror @ body.head @ mirror,
        head_at=np.array([199, 0]) + body.head_at * [-1, 1],
        arm_behind=body.arm_behind[::-1],
    )
    original, other = painted(body, 1).owner, painted(mirrored, 1).owner[:, ::-1]
    assert (original != other).mean() < 0.002
    assert mirrored.chest == body.chest
    np.testing.assert_array_equal(mirrored.face_seen, body.face_seen[COCO_17.flip_index[:5]])


def test_annotations_are_read_by_pycocotools():
    coco = pytest.importorskip("pycocotools.coco")
    scenes = [scene(i) for i in range(5)]
    entries = coco_annotations(scenes, [f"{i}.jpg" for i in range(5)])
    index = coco.COCO()
    index.dataset = json.loads(json.dumps(entries))
    index.createIndex()
    assert index.getImgIds() == [1, 2, 3, 4, 5]
    people = index.loadAnns(index.getAnnIds(catIds=[1]))
    assert len(people) == sum(len(s.area) for s in scenes)
    for person in people:
        triples = np.array(person["keypoints"]).reshape(17, 3)
        assert person["num_keypoints"] == (triples[:, 2] > 0).sum()
        assert (triples[triples[:, 2] == 0] == 0).all()
        assert person["area"] > 0
    first = np.array(people[0]["keypoints"]).reshape(17, 3)
    seen = scenes[0].visibility[0] > 0
    np.testing.assert_array_equal(first[seen, :2], scenes[0].keypoints_img[0, seen])
    assert tuple(entries["categories"][0]["keypoints"]) == COCO_17.keypoints


def test_written_images_depend_on_seed_and_index_only(tmp_path):
    few = write_synthetic_data(tmp_path / "few", 2, EASY, (64, 64), 9)
    many = write_synthetic_data(tmp_path / "deeper" / "many", 4, EASY, (64, 64), 9, workers=2)
    for name in ("000001.jpg", "000002.jpg"):
        assert (few.parent / "images" / name).read_bytes() == (many.parent / "images" / name).read_bytes()
    parts = [json.loads(path.read_text(encoding="utf-8")) for path in (few, many)]
    assert parts[0]["images"] == parts[1]["images"][:2]
    assert parts[0]["annotations"] == parts[1]["annotations"][: len(parts[0]["annotations"])]
    assert len(parts[1]["images"]) == 4
    image = cv2.imread(str(few.parent / "images" / "000002.jpg"))[..., ::-1]
    drawn = synthesize_scene(np.random.default_rng([9, 1]), (64, 64), EASY).image
    assert np.abs(image.astype(int) - drawn).mean() < 8
    assert sorted(p.name for p in tmp_path.iterdir()) == ["deeper", "few"], "no temporary folder is left"


@pytest.mark.parametrize(
    ("images", "size", "match"),
    [(0, (64, 64), "images and workers"), (1, (16, 64), "at least 32 px")],
)
def test_wrong_wishes_are_refused(tmp_path, images, size, match):
    with pytest.raises(InputError, match=match):
        write_synthetic_data(tmp_path / "out", images, EASY, size, 0)
    assert not any(tmp_path.iterdir())


def test_an_existing_folder_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="already exists"):
        write_synthetic_data(tmp_path, 1, EASY, (64, 64), 0)
    assert (tmp_path / "mine.txt").read_text() == "keep"
