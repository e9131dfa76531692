"""Regions of keypoints: quantiles by hand, coverage in simulation, groups, and what is refused."""

import json

import msgspec
import numpy as np
import pytest

from calipose.calibration.fit_regions import fit_regions, image_quantiles
from calipose.calibration.maps import Calibration
from calipose.calibration.regions import RegionGroup, RegionMap, person_size_img
from calipose.errors import InputError
from calipose.plain_data import convert
from calipose.skeleton import Skeleton

TWO = Skeleton("two", ("left", "right", "tip"), ((0, 1),), (), (0.05, 0.05, 0.1))


def simulated(seed, images=60, spread=0.5, by_size=0.0, kinds=(1.0, 1.0, 1.0), poses=4):
    """Poses whose distances are those that their scores say, times what is their image's, size's and kind's own."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, 2 * poses, images)
    image = np.repeat(np.arange(images), count)
    size = rng.uniform(20, 200, len(image))
    scores = rng.uniform(0.1, 0.95, (len(image), 3))
    scale = 2 * TWO.sigmas_array * size[:, None] * np.sqrt(-2 * np.log(scores))
    own = np.exp(spread * rng.standard_normal(images))[image] * (size / 100) ** by_size
    distance = scale * own[:, None] * np.array(kinds) * np.abs(rng.standard_normal(scores.shape))
    return distance, size, image, scores


def fit(sample, scored=True):
    distance, size, image, scores = sample
    return fit_regions(distance, size, image, TWO, scores if scored else None)


def inside(regions, sample, coverage):
    distance, size, _, scores = sample
    return distance <= regions.radius_of_size_img(size, scores, TWO.sigmas_array, coverage)


def test_quantiles_by_hand():
    """Of 20 keypoints in 5 images, 6/5 of the coverage lies below; 5/6 is the most that can be asked for."""
    ratio, image = np.random.default_rng(0).permutation(np.arange(1.0, 21.0)), np.arange(20) % 5
    quantiles = image_quantiles(ratio, image)
    assert quantiles[0] == 12  # 0.5 * 6 / 5 * 20
    assert quantiles[10] == 15  # 0.6 takes 14.4, rounded up
    assert len(quantiles) == 1 + 83 - 50
    assert image_quantiles([1.0, 2.0], [0, 1])[:2] == (2.0, 2.0)
    assert image_quantiles([1.0], [0]) == (1.0,)


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
def test_new_images_are_covered(coverage):
    """On the average over calibrations of 25 images, whose keypoints are alike: at least, and not much more."""
    new = simulated(1000, images=2000)
    got = np.mean([inside(fit(simulated(seed, images=25)), new, coverage).mean() for seed in range(60)])
    assert coverage - 0.01 < got < coverage + 0.05


def test_without_the_image_to_come_too_few_are_covered():
    """What the test above would see: keypoints as if each were in an image of its own, all of an image alike."""

    def alike(seed, images):
        _, size, image, scores = simulated(seed, images, spread=1.0)
        scale = 2 * TWO.sigmas_array * size[:, None] * np.sqrt(-2 * np.log(scores))
        own = np.exp(np.random.default_rng(seed + 1).standard_normal(images))[image]
        return scale * own[:, None], size, image, scores

    new = alike(1000, 2000)
    got = {True: [], False: []}
    for seed in range(80):
        distance, size, image, scores = alike(2 * seed, 10)
        for by_image, shares in got.items():
            regions = fit((distance, size, image if by_image else np.arange(len(image)), scores))
            shares.append(inside(regions, new, 0.8).mean())
    assert np.mean(got[False]) < 0.8 < np.mean(got[True])


def test_groups_of_size_are_covered_each():
    sample, new = simulated(3, images=150, by_size=0.6), simulated(4, images=1500, by_size=0.6)
    regions = fit(sample)
    assert regions.group.split == "score"
    assert all(part.split == "size" for part in regions.group.parts)
    whole = msgspec.structs.replace(regions, group=msgspec.structs.replace(regions.group, split="", edges=(), parts=()))
    large = new[1] > 130
    assert inside(whole, new, 0.8)[large].mean() < 0.74
    assert inside(regions, new, 0.8)[large].mean() == pytest.approx(0.8, abs=0.05)


def test_few_images_make_wide_groups():
    assert fit(simulated(5, images=19)).group.split == ""
    assert fit(simulated(5, images=45)).group.split == "score"


def test_kinds_of_keypoints_differ():
    kinds = (0.5, 0.5, 2.0)
    sample, new = simulated(6, images=200, kinds=kinds), simulated(7, images=1500, kinds=kinds)
    regions = fit(sample)
    assert regions.kind_factors[0] == regions.kind_factors[1] < 0.8
    assert regions.kind_factors[2] > 1.4
    got = inside(regions, new, 0.8).mean(0)
    assert got == pytest.approx([0.8] * 3, abs=0.07)


def test_without_scores_the_radius_is_constant_by_keypoint():
    regions = fit(simulated(8), scored=False)
    radii = regions.radius_of_size_img([50.0, 50.0], None, TWO.sigmas_array, 0.8)
    assert radii[0].tolist() == radii[1].tolist()
    assert radii[0, 2] > radii[0, 0] == radii[0, 1]
    with_scores = fit(simulated(8))
    with pytest.raises(InputError, match="scores of keypoints"):
        with_scores.radius_of_size_img([50.0], None, TWO.sigmas_array, 0.8)


def test_radii_grow_with_coverage_and_size_and_shrink_with_score():
    regions = fit(simulated(9, images=19))  # one group
    points = np.array([[[0.0, 0.0], [40.0, 0.0], [20.0, 60.0]]])
    scores = np.full((1, 3), 0.5)
    radii = [regions.radius_img(points, scores, TWO.sigmas_array, c)[0, 0] for c in (0.5, 0.8, 0.9)]
    assert radii == sorted(radii)
    assert regions.radius_img(2 * points, scores, TWO.sigmas_array, 0.8)[0, 0] == pytest.approx(2 * radii[1])
    surer = [regions.radius_img(points, scores + s, TWO.sigmas_array, 0.8)[0, 0] for s in (-0.6, 0.0, 0.4, 0.5)]
    assert surer == sorted(surer, reverse=True)
    assert surer[3] > 0  # scores are kept from 1
    assert regions.radius_img(points, scores, TWO.sigmas_array, 0.795)[0, 0] == pytest.approx(radii[1])  # rounded up
    assert regions.radius_img(points[:0], scores[:0], TWO.sigmas_array).shape == (0, 3)


def test_sizes():
    """0.53 of the box; a narrow one counts as a tenth of its longer side's square; lost keypoints are left out."""
    square = [[0, 0], [10, 10], [5, 5]]
    line = [[0, 0], [0, 20], [0, 10]]
    lost = [[0, 0], [10, 10], [np.nan, np.nan]]
    point = [[3, 3]] * 3
    sizes = person_size_img(np.array([square, line, lost, point], float))
    assert sizes == pytest.approx([np.sqrt(53), np.sqrt(0.53 * 40), np.sqrt(53), 1.0])


def test_a_keypoint_that_nobody_labelled_is_unknown():
    distance, size, image, scores = simulated(10)
    distance[:, 1] = np.nan
    radii = fit((distance, size, image, scores)).radius_of_size_img([50.0], scores[:1], TWO.sigmas_array, 0.8)
    assert np.isfinite(radii[0]).tolist() == [True, False, True]


def test_what_is_refused():
    few = fit(simulated(11, images=7))
    assert (few.is_empty, few.max_coverage) == (True, 0.0)
    with pytest.raises(InputError, match=r"7 calibration images .* at least 10"):
        few.require(0.9)
    with pytest.raises(InputError, match="calipose calibrate"):
        RegionMap().require(0.9)
    regions = fit(simulated(12, images=24))
    assert regions.max_coverage == 0.96
    regions.require(0.96)
    with pytest.raises(InputError, match=r"0.97 take at least 33 .* has 24, .* up to 0.96"):
        regions.require(0.97)
    for coverage in (0.49, 0.995, float("nan")):
        with pytest.raises(InputError, match=r"from 0\.5 to 0\.99"):
            regions.require(coverage)
    with pytest.raises(InputError, match=r"3 keypoints; these poses have 2"):
        regions.radius_of_size_img([50.0], np.ones((1, 2)), [0.1, 0.1], 0.8)


def test_parts_that_cannot_give_a_coverage_leave_it_to_the_whole():
    regions = fit(simulated(13, images=45))
    most = len(regions.group.parts[0].quantiles)
    part = msgspec.structs.replace(regions.group.parts[0], quantiles=regions.group.parts[0].quantiles[: most - 3])
    group = msgspec.structs.replace(regions.group, parts=(part, *regions.group.parts[1:]))
    score, size = np.array([0.1, 0.9]), np.array([50.0, 50.0])
    assert len(set(group.factors(80, score, size))) == 2
    percent = 49 + most
    assert group.factors(percent, score, size).tolist() == [group.quantiles[percent - 50]] * 2


def test_there_and_back():
    regions = fit(simulated(14))
    calibration = Calibration(regions=regions)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
    assert Calibration.from_dict({}) == Calibration()


@pytest.mark.parametrize(
    "change",
    [
        {"kind_factors": [1.0]},
        {"kind_factors": [1.0, -1.0, 1.0]},
        {"group": {"quantiles": []}},
        {"group": {"quantiles": [2.0, 1.0]}},
        {"group": {"quantiles": [-2.0, 1.0]}},
        {"group": {"quantiles": [1.0] * 60}},
        {"group": {"quantiles": [1.0], "split": "score", "edges": [0.5], "parts": []}},
        {"group": {"quantiles": [1.0], "edges": [0.5]}},
        {"group": {"quantiles": [1.0], "split": "size", "edges": [2.0, 1.0], "parts": [{}, {}, {}]}},
        {"group": {"quantiles": [1.0], "split": "nose"}},
        {"more": 1},
    ],
)
def test_damaged_files_are_named(change):
    content = msgspec.to_builtins(fit(simulated(15))) | change
    with pytest.raises(InputError, match=r"^a\.json: "):
        convert(content, RegionMap, "a.json")


def test_an_empty_group_is_none():
    assert RegionGroup().quantiles == ()
