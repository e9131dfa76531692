"""Drawing: what is painted, where, and what stays untouched."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

import calipose
from calipose.draw import LEFT, MIDDLE, QUERY, RIGHT, contact_sheet, draw_poses, heat_overlay, save_image
from calipose.errors import InputError
from calipose.poses import Poses
from calipose.skeleton import Skeleton

GREY = 120
CROSS = Skeleton("cross", ("right_hand", "left_hand", "head"), ((0, 1),), ((0, 2), (1, 2), (0, 1)), (0.1, 0.1, 0.1))


def grey(height=120, width=160):
    return np.full((height, width, 3), GREY, np.uint8)


def cross(points=((20, 100), (140, 100), (80, 20)), score=0.9, joints=None, size=(160, 120)):
    return Poses(np.array([points], float), np.array([score]), size, joints, CROSS)


def test_sides_have_their_colours():
    drawn = draw_poses(grey(), cross(), show_scores=False)
    for x, y, colour in ((50, 60, RIGHT), (110, 60, LEFT), (80, 100, MIDDLE)):
        assert tuple(drawn[y, x]) == colour
    assert tuple(drawn[100, 20]) == RIGHT
    assert tuple(drawn[100, 140]) == LEFT


def test_arguments_stay_as_they_are():
    image = grey()
    drawn = draw_poses(image, cross(), queries_img=np.full((1, 3, 2), 50.0))
    assert (image == GREY).all()
    assert drawn.dtype == np.uint8
    assert drawn.shape == image.shape


@pytest.mark.parametrize(
    ("poses", "options"),
    [
        (Poses.empty((160, 120), CROSS), {}),
        (cross(score=0.4), {"min_score": 0.5}),
        (cross(joints=np.full((1, 3), 0.2)), {"min_keypoint_score": 0.5}),
        (cross(points=((-500, -500), (-600, -500), (-550, -520))), {}),
        (cross(points=((1e9, 1e9), (1e12, 1e9), (1e9, 1e15))), {}),
    ],
)
def test_nothing_is_drawn(poses, options):
    assert (draw_poses(grey(), poses, **options) == GREY).all()


def test_a_hidden_joint_takes_its_limbs_along():
    drawn = draw_poses(grey(), cross(joints=np.array([[1.0, 1.0, 0.1]])), min_keypoint_score=0.5, show_scores=False)
    assert (drawn[:90] == GREY).all()
    assert tuple(drawn[100, 80]) == MIDDLE


def test_a_joint_outside_still_has_its_limb():
    drawn = draw_poses(grey(), cross(points=((20, 100), (300, 100), (160, -300))), show_scores=False)
    assert tuple(drawn[100, 150]) == MIDDLE


def test_queries_are_yellow():
    query = np.array([[[60.0, 110.0], [100.0, 110.0], [80.0, 50.0]]])
    plain = draw_poses(grey(), cross(), show_scores=False)
    drawn = draw_poses(grey(), cross(), show_scores=False, queries_img=query)
    for x, y in query[0].astype(int):
        patch = drawn[y - 8 : y + 9, x - 8 : x + 9].astype(int)
        assert (abs(patch - QUERY).sum(-1) < 60).any()
        assert (drawn[y, x] == plain[y, x]).all()  # a ring: the image stays visible inside
    with pytest.raises(InputError, match="queries_img"):
        draw_poses(grey(), cross(), queries_img=query[:, :2])


@pytest.mark.parametrize("points", [((20, 100), (140, 100), (80, 40)), ((2, 3), (150, 20), (80, 1)), ((150, 3),) * 3])
def test_the_score_is_inside_the_image_and_readable(points):
    plain = draw_poses(grey(), cross(points), show_scores=False)
    drawn = draw_poses(grey(), cross(points))
    label = drawn[(plain != drawn).any(-1)]
    assert label.min() < 60  # dark box
    assert label.max() > 200  # light text
    assert len(label) > 150  # as a whole, also at the edges


def test_a_filled_pose_is_dashed_and_has_no_score():
    seen, filled = cross(), replace(cross(), filled=np.array([True]))
    at = [(x, 100) for x in range(30, 131)]  # along the limb between the hands
    share = [
        np.mean([tuple(draw_poses(grey(), poses, show_scores=False)[y, x]) == MIDDLE for x, y in at])
        for poses in (seen, filled)
    ]
    assert share[0] == 1
    assert 0.3 < share[1] < 0.8
    assert (draw_poses(grey(), filled) == draw_poses(grey(), filled, show_scores=False)).all()
    named = replace(filled, track_ids=np.array([7]))
    assert (draw_poses(grey(), named) != draw_poses(grey(), named, show_scores=False)).any()


def test_the_label_has_the_track_id():
    label_widths = []
    for poses in (cross(), replace(cross(), track_ids=np.array([7])), replace(cross(), track_ids=np.array([123]))):
        label = (draw_poses(grey(), poses) != draw_poses(grey(), poses, show_scores=False)).any(-1)
        label_widths.append(np.ptp(np.nonzero(label)[1]))
    assert label_widths == sorted(set(label_widths))


@pytest.mark.parametrize("size", [(4, 3), (1, 1), (60, 45), (4000, 2600)])
def test_all_sizes_of_images(size):
    width, height = size
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.2, 1.2, (12, 17, 2)) * size
    poses = Poses(points, rng.uniform(size=12), size, rng.uniform(size=(12, 17)), filled=np.arange(12) % 2)
    drawn = draw_poses(grey(height, width), poses, min_keypoint_score=0.3, queries_img=points + 1)
    assert drawn.shape == (height, width, 3)
    assert (drawn != GREY).any()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 5), np.uint8),
        np.zeros((5, 5, 3)),
        np.zeros((5, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_only_rgb_images(image, tmp_path):
    for call in (
        lambda: draw_poses(image, Poses.empty((5, 5))),
        lambda: contact_sheet([image], 1, (50, 50)),
        lambda: heat_overlay(image, np.zeros((2, 2)), 0, 1),
        lambda: save_image(tmp_path / "a.png", image),
    ):
        with pytest.raises(InputError, match="RGB"):
            call()


def test_contact_sheet():
    colours = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]
    images = [
        np.full((h, w, 3), c, np.uint8) for (h, w), c in zip([(50, 400), (300, 30), (1, 1)], colours, strict=True)
    ]
    sheet = contact_sheet(images, 2, (100, 80))
    for colour, (width, height) in zip(colours, [(100, 12), (8, 80), (80, 80)], strict=True):
        rows, columns = np.nonzero((sheet == colour).all(-1))
        assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == (width, height)
    captioned = contact_sheet(images, 2, (100, 80), ["a", "a very long caption that does not fit its cell", ""])
    assert captioned.shape[0] > sheet.shape[0]
    assert captioned.shape[1] == sheet.shape[1]


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (([], 2, (9, 9)), "image"),
        (([grey()], 0, (9, 9)), "columns"),
        (([grey()], 1, (9, 9), ["a", "b"]), "2 labels"),
    ],
)
def test_a_wrong_contact_sheet_is_named(arguments, word):
    with pytest.raises(InputError, match=word):
        contact_sheet(*arguments)


@pytest.mark.parametrize("size", [(12, 16), (10, 13)])
def test_heat_covers_exactly_its_cell(size):
    """Cell i is input pixels 4i .. 4i+3."""
    heat = np.zeros((3, 4))
    base = heat_overlay(grey(*size), heat, 0, 1)
    assert (base == base[0, 0]).all()
    heat[1, 2] = 5.0  # above `high`: as `high`
    rows, columns = np.nonzero((heat_overlay(grey(*size), heat, 0, 1) != base).any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 7, 8, 11)
    assert len(rows) == 16


def test_heat_grows_lighter():
    levels = heat_overlay(grey(4, 44), np.linspace(0, 1, 11)[None], 0, 1)[0, ::4].astype(float).mean(-1)
    assert (np.diff(levels) > 0).all()


@pytest.mark.parametrize(
    ("heat", "low", "high", "word"),
    [
        (np.zeros((3, 3)), 0, 1, "cover"),
        (np.full((3, 4), np.nan), 0, 1, "finite"),
        (np.zeros((3, 4)), 1, 1, "low"),
    ],
)
def test_wrong_heat_is_named(heat, low, high, word):
    with pytest.raises(InputError, match=word):
        heat_overlay(grey(12, 16), heat, low, high)


def test_save_image(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3)).astype(np.uint8)
    save_image(tmp_path / "a.PNG", image)
    assert (cv2.imread(str(tmp_path / "a.PNG"))[..., ::-1] == image).all()
    save_image(str(tmp_path / "a.jpg"), image)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.PNG", "a.jpg"]
    with pytest.raises(InputError, match=r"\.gif"):
        save_image(tmp_path / "a.gif", image)
    with pytest.raises(InputError, match="folder"):
        save_image(tmp_path / "absent" / "a.png", image)
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(InputError, match=r"taken\.png"):
        save_image(tmp_path / "taken.png", image)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.photographs
def test_a_photograph_with_its_people(shared):
    import json

    content = json.loads((shared / "data/coco-val/annotations.json").read_text())
    annotation = max(content["annotations"], key=lambda a: a["num_keypoints"])
    name = next(i["file_name"] for i in content["images"] if i["id"] == annotation["image_id"])
    image = cv2.imread(str(shared / "data/coco-val/images" / name), cv2.IMREAD_IGNORE_ORIENTATION | 1)[..., ::-1]
    joints = np.reshape(annotation["keypoints"], (1, 17, 3))
    poses = Poses(joints[..., :2], [0.5], image.shape[1::-1], joints[..., 2] > 0)
    drawn = draw_poses(image, poses, min_keypoint_score=0.5)
    changed = (drawn != image).any(-1).mean()
    assert 0 < changed < 0.5


def test_the_packages_own_draw_poses_draws_into_a_copy():
    poses = Poses(np.array([[[20.0, 40.0], [50.0, 40.0], [35.0, 8.0]]]), np.array([0.9]), (64, 48), skeleton=CROSS)
    image = np.full((48, 64, 3), 90, np.uint8)
    drawing = calipose.draw_poses(image, poses, min_score=0.4, show_scores=False)
    assert np.array_equal(drawing, draw_poses(image, poses, min_score=0.4, show_scores=False))
    assert not np.array_equal(drawing, image)
    assert (image == 90).all()


def test_circles_of_regions_are_drawn_where_they_are_known():
    poses = replace(cross(), radii_img=np.array([[np.nan, 0.0, 15.0]]), coverage=0.9)
    plain, drawn = (draw_poses(grey(), p, show_scores=False) for p in (cross(), poses))
    changed = (plain != drawn).any(-1)
    rows, columns = np.nonzero(changed)
    distance = np.hypot(columns - 80, rows - 20)
    near_zero = np.hypot(columns - 140, rows - 100) < 2
    assert distance[~near_zero].max() < 17
    assert changed[20 + 14, 80 + 4] or changed[20 + 15, 80]
    assert tuple(drawn[20, 70]) != (GREY,) * 3  # tinted inside
    hidden = draw_poses(grey(), replace(poses, keypoint_scores=np.zeros((1, 3))), min_keypoint_score=0.5)
    assert (hidden == GREY).all()
    far = replace(poses, radii_img=np.full((1, 3), 1e9))
    assert draw_poses(grey(), far).shape == grey().shape
