"""Are these images like the calibration's? The permutation test: its level, what it finds, and what it says."""

import numpy as np
import pytest

from calipose.calibration.maps import Calibration
from calipose.calibration.shift import (
    MAX_POSES,
    MIN_IMAGES,
    ImageSummaries,
    Shift,
    colour_of,
    compare_images,
    pose_sizes_img,
)
from calipose.errors import InputError


def images(seed: int, number: int = 40, smaller: float = 1.0, lower: float = 0.0) -> ImageSummaries:
    """One to three poses an image, of about 120 pixels and score 0.7, alike within their image; a tenth is empty."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(number):
        poses = 0 if rng.random() < 0.1 else rng.integers(1, 4)
        size = 120 * smaller * np.exp(0.5 * rng.normal() + 0.1 * rng.normal(size=poses))
        found.append(((0.7 - lower + 0.1 * rng.normal() + 0.05 * rng.normal(size=poses)).clip(0.31, 1), size))
    return ImageSummaries.of(found)


def compared(seed: int, number: int = 40, **changes: float) -> Shift:
    return compare_images(images(seed), images(1000 + seed, number, **changes), 0.3, permutations=999)


def test_images_of_one_kind_give_no_alarm() -> None:
    """The alarm's level is 2 %; at 50 % the p-values say how exact it is."""
    p = np.array([compared(seed).p for seed in range(60)], float)
    assert (p <= 0.02).sum() <= 4
    assert 0.3 <= (p <= 0.5).mean() <= 0.7


@pytest.mark.parametrize(
    ("changes", "words"), [({"smaller": 0.5}, "smaller people"), ({"lower": 0.2}, "lower scores"),
                           ({"smaller": 2.0}, "larger people")],
)  # fmt: skip
def test_what_differs_is_found_and_named(changes: dict[str, float], words: str) -> None:
    shifts = [compared(seed, **changes) for seed in range(10)]
    assert sum(shift.alarm for shift in shifts) >= 9
    assert all(words in str(shift) for shift in shifts if shift.alarm)
    alarmed = next(shift for shift in shifts if shift.alarm)
    assert "scores may not hold here: these 40 images have " in str(alarmed)
    entries = alarmed.to_dict()
    assert entries["alarm"] is True
    assert set(entries["medians"]) == {"size", "score", "poses"}  # type: ignore[call-overload]


def test_few_images_say_nothing() -> None:
    few = compared(0, MIN_IMAGES - 1, smaller=0.2)
    assert few.p is None
    assert not few.alarm
    assert f"{MIN_IMAGES} of each are needed" in str(few)
    assert few.to_dict()["message"] is None
    assert compared(0, MIN_IMAGES, smaller=0.2).alarm


def test_numbers_of_an_image_by_hand() -> None:
    given = ImageSummaries.of([([0.2, 0.9, 0.5], [10.0, 40.0, 90.0]), ([], []), ([0.1], [5.0])])
    assert given.raw == ((0.9, 0.5, 0.2), (), (0.1,))
    assert given.size_img == ((40.0, 90.0, 10.0), (), (5.0,))
    numbers = given.numbers(0.3)
    assert numbers["size"].tolist() == pytest.approx([60, np.nan, np.nan], nan_ok=True)  # sqrt(40 * 90)
    assert numbers["score"].tolist() == pytest.approx([0.7, 0.3, 0.3])
    assert numbers["poses"].tolist() == [2, 0, 0]


def test_grey_images_are_told_from_coloured_ones() -> None:
    rng = np.random.default_rng(0)
    found = [([0.7], [100.0])] * 30
    coloured, grey = (ImageSummaries.of(found, colour=rng.uniform(low, low + 0.1, 30)) for low in (0.2, 0.0))
    shift = compare_images(coloured, grey, 0.3, permutations=999)
    assert shift.alarm
    assert "less colour" in str(shift)
    assert "colour" not in compare_images(coloured, ImageSummaries.of(found), 0.3, permutations=99).medians
    image = np.zeros((100, 300, 3), np.uint8)
    assert colour_of(image) == 0
    image[..., 0] = 255
    assert colour_of(image) == 1


def test_only_so_much_is_kept() -> None:
    many = ImageSummaries.of([(np.linspace(1, 0, 30), np.ones(30))] * 500, max_images=50)
    assert len(many) == 50
    assert len(many.raw[0]) == MAX_POSES


def test_it_is_stored_with_the_calibration() -> None:
    calibration = Calibration(images=images(3))
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert len(Calibration.from_dict({}).images) == 0


@pytest.mark.parametrize(
    ("entries", "words"),
    [({"raw": [[0.5]], "size_img": [[]]}, "not of the same poses"), ({"raw": [[0.5]], "size_img": [[-1.0]]}, ">= 0")],
)
def test_what_does_not_fit_is_refused(entries: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        Calibration.from_dict({"images": entries})


def test_sizes_of_poses() -> None:
    points = np.array([[[0.0, 0.0], [30.0, 10.0], [np.nan, np.nan]], [[5.0, 5.0], [5.0, 5.0], [5.0, 5.0]]])
    assert pose_sizes_img(points).tolist() == pytest.approx([np.sqrt(300), 0])
    assert pose_sizes_img(np.zeros((0, 3, 2))).shape == (0,)
