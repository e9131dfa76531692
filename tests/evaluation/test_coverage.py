"""Coverage of keypoint regions: asked and got, by group, cross-fitted or of the model's own regions."""

import dataclasses
import json

import numpy as np
import pytest

from calipose.cli.evaluation_tables import coverage_table
from calipose.errors import InputError
from calipose.evaluation.coverage import ALL, Radii, coverage_grid, coverage_rows, cross_fitted_radii, keypoint_groups
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.fitting import with_radii
from calipose.skeleton import COCO_17
from standing_people import AREA, STANDING, annotation, result, truth_of


def data(images=40, seed=0):
    """A person an image whose keypoints are off by what their scores say; each keypoint hidden or visible by chance."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for i in range(1, images + 1):
        entry = annotation(i, i, STANDING)
        entry["keypoints"][2::3] = rng.integers(1, 3, 17).tolist()
        annotations.append(entry)
        scores = rng.uniform(0.4, 0.95, 17)
        spread = np.sqrt(-2 * np.log(scores)) * 2 * COCO_17.sigmas_array * np.sqrt(AREA)
        results.append(result(i, STANDING + rng.normal(0, 0.7, (17, 2)) * spread[:, None], rng.uniform(0.5, 1), scores))
    return truth_of(annotations, images), results


@pytest.fixture(scope="module")
def evaluation():
    return Evaluation(*data(), bootstrap=50)


def test_cross_fitted_regions_hold(evaluation):
    asked, groups = coverage_grid(evaluation.coverage)
    assert asked == [0.5, 0.8, 0.9]
    assert not evaluation.has_regions
    assert {"low score", "middle score", "high score", "medium people", "visible", "occluded", "alone"} < set(groups)
    assert not {"small people", "large people", "overlapped"} & set(groups)  # nobody
    for row in groups[ALL]:
        assert row.keypoints == 40 * 17
        assert abs(row.got - row.asked) < 0.06
        assert row.interval[0] < row.got < row.interval[1]
    parts = [groups[name][2].keypoints for name in ("visible", "occluded")]
    assert sum(parts) == 40 * 17


def test_by_hand(evaluation):
    matched = evaluation.matches[evaluation.matches.person >= 0]
    distance = matched.distance_img
    radius = np.full((1, *distance.shape), np.median(distance))
    radius[:, :, 0] = np.nan  # of the nose nothing is known
    (row,) = coverage_rows(matched, Radii((0.5,), radius, matched.keypoint_scores), {})
    assert row.keypoints == 40 * 16
    assert row.got == (distance[:, 1:] <= np.median(distance)).mean()
    assert row.interval is None


def test_no_image_judges_regions_that_it_fitted(evaluation):
    """A keypoint that is far off in one image makes other images' circles larger, not its own."""
    matched = evaluation.matches[evaluation.matches.person >= 0]
    before = cross_fitted_radii(matched, COCO_17, (0.5,)).radius_img[0]
    distance = matched.distance_img.copy()
    distance[3] *= 50
    after = cross_fitted_radii(dataclasses.replace(matched, distance_img=distance), COCO_17, (0.5,)).radius_img[0]
    np.testing.assert_array_equal(after[3], before[3])
    assert (after != before).any()


def test_regions_of_the_model(evaluation):
    regions = evaluation.fit_calibration().regions
    own = Evaluation(evaluation.truth, evaluation.entries, regions=regions)
    assert own.has_regions
    matched = own.matches[own.matches.person >= 0]
    radius = regions.radius_of_size_img(matched.pose_size_img, matched.keypoint_scores, COCO_17.sigmas_array, 0.8)
    row = next(row for row in own.coverage if (row.group, row.asked) == (ALL, 0.8))
    assert row.got == (matched.distance_img <= radius).mean()
    written = json.loads(json.dumps(own.to_dict()))["regions"]
    assert written["of_the_model"] is True
    assert written["coverage"][0]["got"] == own.coverage[0].got
    assert "of the model" in str(coverage_table(own).columns[0].header)


def carrying(evaluation, coverage=0.8):
    """The results with the radii of a calibration."""
    calibration = evaluation.fit_calibration()
    entries = evaluation.calibrated_entries(calibration)
    return with_radii(entries, calibration, COCO_17, coverage), calibration


def test_regions_that_the_results_carry(evaluation):
    entries, calibration = carrying(evaluation)
    entries[0]["keypoint_radii"][0] = None  # not known, so not counted
    del entries[1]["keypoint_radii"], entries[1]["coverage"]
    own = Evaluation(evaluation.truth, entries, bootstrap=50)
    assert own.carries_regions
    assert not own.has_regions
    row = own.coverage[0]
    assert (row.group, row.asked, row.keypoints) == (ALL, 0.8, 39 * 17 - 1)
    radius = np.full((40, 17), np.nan)
    for number, entry in enumerate(entries):
        radius[number] = [np.nan if value is None else value for value in entry.get("keypoint_radii", [None] * 17)]
    known = np.isfinite(radius)
    assert row.got == (own.matches.distance_img <= radius[own.matches.entry])[known[own.matches.entry]].mean()
    assert abs(row.got - 0.8) < 0.06
    assert {row.asked for row in own.coverage} == {0.8}
    assert own.to_dict()["regions"]["of_the_results"] is True
    assert "of the results" in str(coverage_table(own).columns[0].header)
    by_model = Evaluation(evaluation.truth, entries, regions=calibration.regions)
    assert not by_model.carries_regions  # a model's own regions go before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"keypoint_radii": [1.0] * 16}, "must be a list of 17 numbers, not 16 values"),
        ({"keypoint_radii": 3}, "must be a list of 17 numbers, not int"),
        ({"keypoint_radii": [-1.0] * 17}, "must be pixels of 0 or more"),
        ({"keypoint_radii": ["1"] * 17}, "must be pixels of 0 or more"),
        ({"coverage": None}, "without the 'coverage'"),
        ({"coverage": 1.5}, "without the 'coverage'"),
        ({"coverage": 0.7}, "regions of coverage 0.7, others are of 0.8"),
    ],
)
def test_radii_that_are_none(evaluation, change, words):
    entries, _ = carrying(evaluation)
    entries[5].update(change)
    with pytest.raises(InputError, match=f"results, entry 5: .*{words}"):
        Evaluation(evaluation.truth, entries)


def test_too_few_images_have_no_coverage():
    evaluation = Evaluation(*data(images=9))
    assert evaluation.coverage == []
    assert evaluation.to_dict()["regions"]["coverage"] == []


def test_flags_are_no_scores():
    truth, results = data()
    for entry in results:
        entry["keypoints"][2::3] = [2] * 17
    evaluation = Evaluation(truth, results)
    assert {row.by for row in evaluation.coverage} == {"", "size", "visibility", "crowding"}
    assert "score" not in keypoint_groups(evaluation.matches, evaluation.matches.keypoint_scores)
