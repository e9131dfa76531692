"""Kinds of errors, on hand-made poses."""

import numpy as np
import pytest

from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.ground_truth import read_ground_truth
from calipose.evaluation.keypoint_errors import KINDS, keypoint_error_kinds, kind_counts, repairs
from calipose.evaluation.matching import match_poses
from calipose.evaluation.results import read_results
from calipose.skeleton import COCO_17
from standing_people import AREA, STANDING, annotation, moved, result, truth_of

LEFT_WRIST, RIGHT_WRIST, NOSE = 9, 10, 0
BESIDE = moved(60)  # another person


def distance(similarity, joint):
    """Pixels at which a joint has this similarity."""
    return float(np.sqrt(-2 * AREA * np.log(similarity)) * 2 * COCO_17.sigmas[joint])


def kinds_of(truth, results):
    read = read_ground_truth(truth)
    matches = match_poses(truth, results)
    points = np.array([r["keypoints"] for r in results]).reshape(-1, 17, 3)[matches.entry, :, :2]
    return read, matches, points, keypoint_error_kinds(read, matches, points)


@pytest.mark.parametrize(
    ("joint", "place", "expected"),
    [
        (LEFT_WRIST, STANDING[LEFT_WRIST], "good"),
        (LEFT_WRIST, STANDING[LEFT_WRIST] + [distance(0.86, LEFT_WRIST), 0], "good"),
        (LEFT_WRIST, STANDING[LEFT_WRIST] + [distance(0.84, LEFT_WRIST), 0], "jitter"),
        (LEFT_WRIST, STANDING[LEFT_WRIST] + [0, distance(0.51, LEFT_WRIST)], "jitter"),
        (LEFT_WRIST, STANDING[LEFT_WRIST] + [0, distance(0.49, LEFT_WRIST)], "miss"),
        (LEFT_WRIST, STANDING[RIGHT_WRIST], "inversion"),
        (LEFT_WRIST, STANDING[RIGHT_WRIST] + [0, distance(0.55, LEFT_WRIST)], "inversion"),
        (LEFT_WRIST, BESIDE[LEFT_WRIST], "swap"),
        (LEFT_WRIST, BESIDE[RIGHT_WRIST] + [3, 0], "swap"),  # the other's mirror image counts, too
        (LEFT_WRIST, STANDING[NOSE], "miss"),  # no part that could be taken for it
        (NOSE, STANDING[NOSE], "good"),  # its own mirror image
        (NOSE, BESIDE[NOSE], "swap"),
    ],
)
def test_kind_of_a_joint(joint, place, expected):
    points = STANDING.copy()
    points[joint] = place
    truth = truth_of([annotation(1, 1, STANDING), annotation(2, 1, BESIDE)], 1)
    kinds = kinds_of(truth, [result(1, points, 0.9)])[3]
    others = np.delete(kinds[0], joint)
    assert KINDS[kinds[0, joint]] == expected
    assert (others == KINDS.index("good")).all()


def test_what_is_not_counted():
    labelled = np.ones(17, bool)
    labelled[[NOSE, RIGHT_WRIST]] = False
    truth = truth_of([annotation(1, 1, STANDING, labelled)], 2)
    points = STANDING.copy()
    points[LEFT_WRIST] = STANDING[RIGHT_WRIST]  # where nobody has said what it is
    kinds = kinds_of(truth, [result(1, points, 0.9), result(2, STANDING, 0.8)])[3]
    assert kinds[0, NOSE] == -1
    assert KINDS[kinds[0, LEFT_WRIST]] == "miss"
    assert (kinds[1] == -1).all()  # of nobody
    assert kind_counts(kinds).sum() == 15
    assert kind_counts(kinds)[LEFT_WRIST].tolist() == [0, 0, 0, 0, 1]


def test_repairs():
    """A pose with both arms and legs inverted is right once they are repaired; a bad first pose costs by its score."""
    twin = COCO_17.flip_index
    inverted = STANDING.copy()
    inverted[7:] = STANDING[twin][7:]
    truth = truth_of([annotation(1, 1, STANDING), annotation(2, 2, STANDING)], 2)
    results = [result(1, inverted, 0.5), result(1, moved(300), 0.9), result(2, STANDING, 0.4)]
    read, matches, points, kinds = kinds_of(truth, results)
    made = {r.name: r for r in repairs(read, read_results(results, read), matches, points, kinds)}
    assert made["as it is"].ap == pytest.approx(evaluate_results(truth, results).ap)
    assert made["as it is"].mean_oks == pytest.approx(matches.oks[matches.person >= 0].mean())
    for name in ("jitter", "swap", "miss"):
        assert made[name].ap == pytest.approx(made["as it is"].ap)
    inversion = [result(1, STANDING, 0.5), *results[1:]]
    assert made["inversion"].ap == pytest.approx(evaluate_results(truth, inversion).ap)
    assert made["inversion"].mean_oks == pytest.approx(1)
    assert made["background"].ap == pytest.approx(evaluate_results(truth, [results[0], results[2]]).ap)
    rescored = [
        {**r, "score": s} for r, s in zip(results, [float(matches.oks[matches.entry == 0][0]), 0.0, 1.0], strict=True)
    ]
    assert made["scores"].ap == pytest.approx(evaluate_results(truth, rescored).ap)
    assert made["background"].ap > made["as it is"].ap
