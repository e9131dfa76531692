"""What is painted on a keypoint stays on it, through every augmentation."""

import itertools

import msgspec
import numpy as np
import pytest

from calipose.config.settings import AugmentSettings
from calipose.data.augment import Sample, augment, cells_inside, jitter, mosaic, random_affine
from calipose.data.store import Labels
from calipose.errors import InputError
from calipose.geometry import apply_affine
from calipose.skeleton import COCO_17

PAD = (0, 0, 0)
K = len(COCO_17)
NONE = AugmentSettings.none()
COLOUR = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
SETTINGS = {
    "none": NONE,
    "flip": msgspec.structs.replace(NONE, flip=1.0),
    "rotation": msgspec.structs.replace(NONE, rotation_degrees=30.0),
    "enlarge": msgspec.structs.replace(NONE, scale=(1.3, 1.5)),
    "reduce": msgspec.structs.replace(NONE, scale=(0.75, 0.8)),
    "shift": msgspec.structs.replace(NONE, shift_inp=40.0),
    "long": AugmentSettings(fit="long", **COLOUR),
    "all": AugmentSettings(**COLOUR),
}


def labels(
    keypoints: np.ndarray, labelled: np.ndarray | None = None, regions: tuple = (), complete: bool = True
) -> Labels:
    keypoints = np.asarray(keypoints, np.float32)
    if labelled is None:
        labelled = np.ones(keypoints.shape[:2], bool)
    boxes = []
    for points in keypoints:
        (left, top), (right, bottom) = points.min(0), points.max(0)
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        boxes.append(np.array(ring, np.float32))
    area = np.full(len(keypoints), 1000, np.float32)
    return Labels(keypoints, labelled, area, boxes, [np.array(r, np.float32) for r in regions], complete, 7)


def painted(width: int, height: int, joint: int, radius: int, seed: int) -> tuple[np.ndarray, Labels]:
    """A black image with one white square, and a person whose joint `joint` is the square's centre."""
    rng = np.random.default_rng(seed)
    reach = min(width, height) // 5
    x, y = width // 2 + rng.integers(-reach, reach), height // 2 + rng.integers(-reach, reach)
    image = np.zeros((height, width, 3), np.uint8)
    image[y - radius : y + radius + 1, x - radius : x + radius + 1] = 255
    labelled = np.zeros((1, K), bool)
    labelled[0, joint] = True
    return image, labels(np.full((1, K, 2), (x, y)), labelled)


def run(image: np.ndarray, known: Labels, size: int, settings: AugmentSettings, seed: int) -> Sample:
    return augment(image, known, size, settings, np.random.default_rng(seed), PAD, COCO_17)


def centroid(image: np.ndarray) -> np.ndarray:
    weights = image.astype(np.float64).sum(-1)
    rows, columns = np.indices(weights.shape)
    return np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize(("width", "height", "size"), [(97, 64, 128), (320, 200, 192), (640, 427, 128)])
def test_a_painted_keypoint_is_found_on_its_paint(name: str, width: int, height: int, size: int) -> None:
    for seed in range(6):
        joint = (5 * seed) % K
        image, known = painted(width, height, joint, radius=max(2, round(3 * min(width, height) / size)), seed=seed)
        sample = run(image, known, size, SETTINGS[name], seed)
        assert len(sample.keypoints_inp) == 1
        flipped = name == "flip"
        if name not in {"all", "long"}:
            expected = COCO_17.flip_index[joint] if flipped else joint
            assert np.flatnonzero(sample.labelled[0]).tolist() == [expected]
        found = sample.keypoints_inp[0, sample.labelled[0]][0]
        assert np.abs(centroid(sample.image) - found).max() < 0.35
        assert not sample.ignore_cell[tuple(np.floor(found[::-1] / 4).astype(int))]


def test_a_painted_keypoint_is_found_in_a_mosaic() -> None:
    samples = [run(*painted(200, 150, 0, 4, seed), 96, SETTINGS["all"], seed) for seed in range(4)]
    joined = mosaic(samples)
    assert joined.image.shape == (192, 192, 3)
    assert joined.ignore_cell.shape == (48, 48)
    for number, (row, column) in enumerate(itertools.product((0, 96), (0, 96))):
        part = joined.image[row : row + 96, column : column + 96]
        found = joined.keypoints_inp[number, joined.labelled[number]][0]
        assert np.abs(centroid(part) - (found - np.array([column, row]))).max() < 0.35
        quarter = joined.ignore_cell[row // 4 : row // 4 + 24, column // 4 : column // 4 + 24]
        assert np.array_equal(quarter, samples[number].ignore_cell)
    assert joined.area_inp.tolist() == [sample.area_inp[0] for sample in samples]


def test_flip_mirrors_exactly_and_swaps_sides() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (64, 64, 3), np.uint8)
    known = labels(rng.uniform(0, 63, (2, K, 2)))
    straight, flipped = run(image, known, 64, NONE, 0), run(image, known, 64, SETTINGS["flip"], 0)
    assert np.array_equal(straight.image, image)
    assert np.array_equal(flipped.image, image[:, ::-1])
    mirrored = straight.keypoints_inp[:, COCO_17.flip_index] * (-1, 1) + (63, 0)
    assert np.allclose(flipped.keypoints_inp, mirrored, atol=1e-5)
    left, right = COCO_17.keypoints.index("left_wrist"), COCO_17.keypoints.index("right_wrist")
    assert np.allclose(flipped.keypoints_inp[:, left, 0], 63 - straight.keypoints_inp[:, right, 0], atol=1e-5)


@pytest.mark.parametrize("name", SETTINGS)
def test_area_scales_with_the_square_of_the_scale(name: str) -> None:
    """Distances between keypoints grow by s, the area by s^2: OKS is the same in both frames."""
    points = np.random.default_rng(1).uniform(70, 90, (1, K, 2))
    known = labels(points)
    sample = run(np.zeros((160, 160, 3), np.uint8), known, 192, SETTINGS[name], 3)
    assert sample.labelled.all()
    spread = [p[0].astype(np.float64).var(0).sum() for p in (known.keypoints_img, sample.keypoints_inp)]
    assert sample.area_inp[0] == pytest.approx(1000 * spread[1] / spread[0], rel=1e-4)


def test_ranges_of_the_affine() -> None:
    """Scale, angle, shift and mirror stay in their ranges and reach both ends of them."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(400):
        affine = random_affine((640, 480), 512, AugmentSettings(), False, rng)
        scale = np.sqrt(np.linalg.det(affine[:, :2])) / (512 / 480)
        angle = np.degrees(np.arctan2(affine[1, 0], affine[0, 0]))
        found.append([scale, angle, *(apply_affine(affine, [319.5, 239.5]) - 255.5)])
    low, high = np.min(found, 0), np.max(found, 0)
    assert np.allclose(low, [0.75, -30, -40, -40], atol=[0.02, 1, 1, 1])
    assert np.allclose(high, [1.5, 30, 40, 40], atol=[0.02, 1, 1, 1])


@pytest.mark.parametrize(("fit", "scale"), [("short", 128 / 60), ("long", 128 / 100)])
def test_fit(fit: str, scale: float) -> None:
    affine = random_affine((100, 60), 128, AugmentSettings.none(fit), False, np.random.default_rng(0))
    assert np.allclose(affine[:, :2], scale * np.eye(2))
    assert np.allclose(apply_affine(affine, [49.5, 29.5]), [63.5, 63.5])


def test_outside_of_the_crop() -> None:
    """A 128 x 64 image cropped to its middle 64: x from 32 to 95 remains."""
    inside, outside = [60.0, 30.0], [20.0, 30.0]
    edge = [31.6, 30.0]  # in pixel 32's left half, just inside
    known = labels(
        [[inside] * (K - 2) + [outside, edge], [outside] * K],
        regions=([[88, 0], [128, 0], [128, 8], [88, 8], [88, 0]],),
    )
    known.outlines_img[1] = np.array([[0, 20], [40, 20], [40, 40], [0, 40], [0, 20]], np.float32)
    sample = run(np.zeros((64, 128, 3), np.uint8), known, 64, NONE, 0)
    assert len(sample.keypoints_inp) == 1, "the second person has nothing in the crop"
    assert sample.labelled[0].tolist() == [True] * (K - 2) + [False, True]
    expected = np.zeros((16, 16), bool)
    expected[5:10, :2] = True  # cell centres 1.5, 5.5 of x < 8; y from 20 to 40: 21.5 ... 37.5
    expected[:2, 14:] = True  # the region from x = 56, y below 8
    assert np.array_equal(sample.ignore_cell, expected)


def test_outside_of_the_image_is_ignored() -> None:
    sample = run(np.full((32, 64, 3), 9, np.uint8), labels(np.zeros((0, K, 2))), 64, AugmentSettings.none("long"), 0)
    expected = np.ones((16, 16), bool)
    expected[4:12] = False
    assert np.array_equal(sample.ignore_cell, expected)
    assert sample.keypoints_inp.shape == (0, K, 2)
    assert sample.index == 7


def test_incomplete_images_teach_only_inside_their_people() -> None:
    points = np.full((1, K, 2), 16.0)
    points[0, 0], points[0, 1] = (16, 16), (31, 47)
    image = np.zeros((64, 64, 3), np.uint8)
    sample = run(image, labels(points, complete=False), 64, NONE, 0)
    expected = np.ones((16, 16), bool)
    expected[4:12, 4:8] = False
    assert np.array_equal(sample.ignore_cell, expected)
    assert run(image, labels(points[:0], complete=False), 64, NONE, 0).ignore_cell.all()


def inside_by_crossings(ring: np.ndarray, x: float, y: float) -> bool:
    crossings = 0
    for (ax, ay), (bx, by) in itertools.pairwise(ring):
        if np.isnan(ax + bx) or (ay <= y) == (by <= y):
            continue
        crossings += ax + (y - ay) / (by - ay) * (bx - ax) <= x
    return crossings % 2 == 1


@pytest.mark.parametrize("seed", range(5))
def test_cells_inside_equals_the_point_by_point_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rings = [rng.uniform(-4, 16, (n, 2)) for n in (3, 7, 5)]
    outline = np.concatenate([part for r in rings for part in (np.full((1, 2), np.nan), r, r[:1])][1:])
    expected = [[inside_by_crossings(outline, x, y) for x in range(12)] for y in range(12)]
    assert np.array_equal(cells_inside(outline, 12), expected)


def test_cells_inside_of_nothing() -> None:
    assert not cells_inside(np.zeros((0, 2)), 4).any()


def test_jitter_keeps_grey_grey_and_stays_in_range() -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    settings = msgspec.structs.replace(NONE, saturation=1.0, hue=0.5)
    for seed in range(5):
        out = jitter(grey, settings, np.random.default_rng(seed))
        assert np.abs(out.astype(int) - grey).max() <= 1
    bright = msgspec.structs.replace(NONE, brightness=0.5, contrast=0.5)
    outs = np.array([jitter(grey, bright, np.random.default_rng(seed))[0, :, 0] for seed in range(20)]).astype(int)
    assert (np.diff(outs, axis=1) >= 0).all(), "no value wraps around"
    assert outs[:, 128].std() > 10
    assert np.array_equal(jitter(grey, NONE, np.random.default_rng(0)), grey)


def test_hue_turns_colours_round() -> None:
    red = np.full((1, 1, 3), (200, 20, 20), np.uint8)
    seen = [jitter(red, msgspec.structs.replace(NONE, hue=0.5), np.random.default_rng(s)).argmax() for s in range(20)]
    assert set(seen) == {0, 1, 2}


@pytest.mark.parametrize(
    "entries",
    [{"flip": 1.5}, {"scale": [0, 1]}, {"scale": [2, 1]}, {"hue": 0.7}, {"shift_pixels": 3}, {"fit": "both"}],
)
def test_settings_are_checked(entries: dict) -> None:
    with pytest.raises((msgspec.ValidationError, InputError)):
        msgspec.convert(entries, AugmentSettings)
