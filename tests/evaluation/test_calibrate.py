"""Calibrating results: AP stays, calibration errors go, and nobody judges himself."""

import json

import numpy as np
import pytest

from calipose.errors import InputError
from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.evaluation import Evaluation
from calipose.evaluation.fitting import calibrate_entries, calibrated, cross_fit, fit_maps
from calipose.evaluation.matching import match_poses
from calipose.evaluation.metrics import ece
from square_people import FOUR, person, pose, truth_of


def over_confident(images: int, seed: int = 0, digits: int | None = None):
    """One person and two poses an image; scores are the square root of what they should be, joints' scores too."""
    rng = np.random.default_rng(seed)
    people, poses = [], []
    for i in range(images):
        people.append(person(0, image_id=i))
        for x, wanted in ((float(rng.normal(0, 6)), rng.uniform(0.3, 1)), (500.0, rng.uniform(0, 0.3))):
            entry = pose(x, float(np.sqrt(wanted)), i)
            entry["keypoints"][2::3] = rng.uniform(0.5, 1, 4).tolist()
            entry["note"] = f"pose {len(poses)}"
            if digits is not None:
                entry["score"] = round(entry["score"], digits)
            poses.append(entry)
    return truth_of(*people, images=range(images)), poses


def test_ap_stays_and_the_error_goes():
    truth, poses = over_confident(300)
    matches = match_poses(truth, poses, FOUR)
    calibration = fit_maps(matches, people=300, data="squares")
    better = calibrate_entries(poses, calibration)
    assert evaluate_results(truth, better, FOUR).ap == evaluate_results(truth, poses, FOUR).ap
    after = match_poses(truth, better, FOUR)
    assert ece(matches.score, matches.oks) > 0.15
    assert ece(after.score, after.oks) < 0.03
    assert [entry["note"] for entry in better] == [entry["note"] for entry in poses]
    assert [entry["keypoints"][0::3] for entry in better] == [entry["keypoints"][0::3] for entry in poses]
    assert calibration.score.data == "squares"
    assert calibration.score.images == 300
    assert calibration.precision.people == 300


def test_probabilities_and_joints_are_calibrated():
    matches = match_poses(*over_confident(400), FOUR)
    calibration = fit_maps(matches, people=400)
    for score_map, bar in ((calibration.oks50, 0.5), (calibration.oks75, 0.75)):
        assert ece(score_map(matches.score), matches.oks >= bar) < 0.05 < ece(matches.score, matches.oks >= bar)
    after = calibrated(matches, calibration)
    of_people = matches.labelled > 0
    assert after.keypoint_scores[of_people].mean() == pytest.approx(matches.similarity[of_people].mean(), abs=0.02)


def test_cross_fitting_is_honest_where_scores_say_nothing():
    """Random scores: a map fitted on the poses it judges looks better than one that has not seen them."""
    rng = np.random.default_rng(1)
    truth, poses = over_confident(25)
    for entry in poses:
        entry["score"] = float(rng.random())
    matches = match_poses(truth, poses, FOUR)
    own = calibrated(matches, fit_maps(matches, people=25))
    others = cross_fit(matches)
    squared = [float(((m.score - m.oks) ** 2).mean()) for m in (own, others)]
    assert squared[0] < squared[1]
    assert np.array_equal(others.oks, matches.oks)
    assert np.array_equal(cross_fit(matches).score, others.score)  # the folds are drawn with a seed


@pytest.mark.parametrize(
    ("images", "score", "words"), [(5, None, "poses in 5 images"), (40, 0.5, "have the score 0.5")]
)
def test_what_cannot_be_calibrated(images, score, words):
    truth, poses = over_confident(images)
    if score is not None:
        poses = [entry | {"score": score} for entry in poses]
    with pytest.raises(InputError, match=words):
        fit_maps(match_poses(truth, poses, FOUR), people=images)


def test_no_results_at_all():
    truth, _ = over_confident(30)
    evaluation = Evaluation(truth, [], FOUR)
    assert evaluation.ap.ap == 0
    assert evaluation.scores["score"].poses == 0
    assert evaluation.calibrated == {}
    assert "poses in 0 images" in evaluation.warnings[0]
    assert json.loads(json.dumps(evaluation.to_dict()))["scores"]["best"]["ece"] is None


def test_a_evaluation_holds_what_its_parts_say():
    truth, poses = over_confident(60)
    evaluation = Evaluation(truth, poses, FOUR, bootstrap=20)
    matches = match_poses(truth, poses, FOUR)
    assert evaluation.scores["best"]["ece"] == ece(matches.score, matches.oks)
    assert evaluation.calibrated["best"]["ece"] < evaluation.scores["best"]["ece"]
    assert evaluation.ap.interval is not None
    assert [words[:35] for words in evaluation.warnings] == ["calibrated by poses in 60 images on"]
    assert evaluation.keypoints is not None
    assert evaluation.keypoints.count == int(np.isfinite(matches.similarity).sum())
    before, after = evaluation.slices["crowding"]["alone"]
    assert after is not None
    assert before.poses == after.poses
    for parts in (evaluation.slices["crowding"], evaluation.slices["size"]):
        assert sum(figures.poses for figures, _ in parts.values()) == evaluation.scores["score"].poses
    assert json.loads(json.dumps(evaluation.to_dict()))["ap"]["ap"] == evaluation.ap.ap


@pytest.mark.parametrize(("digits", "said"), [(None, False), (4, False), (1, True)])
def test_rounded_scores_are_said_with_what_they_cost(digits, said):
    truth, poses = over_confident(100, digits=digits)
    warnings = [words for words in Evaluation(truth, poses, FOUR).cautions if "rounded" in words]
    assert bool(warnings) == said
    if said:
        words = warnings[0].split()
        at = words.index("between")
        low, high = float(words[at + 1]), float(words[at + 3].rstrip(";"))
        assert low < evaluate_results(truth, poses, FOUR).ap < high


def test_constant_scores_are_said():
    truth, poses = over_confident(20)
    poses = [entry | {"score": 1.0} for entry in poses]
    assert "all 40 poses have the score 1" in Evaluation(truth, poses, FOUR).cautions[-1]
