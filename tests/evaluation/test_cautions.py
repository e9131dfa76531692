"""What a reader of the figures is told of a results file."""

import re

import numpy as np
import pytest

from calipose.evaluation.ap import evaluate_results
from calipose.evaluation.evaluation import Evaluation
from standing_people import STANDING, annotation, result, truth_of

WEAK = [9, 10, 15, 16]  # wrists and ankles


def people(images=40):
    return truth_of([annotation(i, i, STANDING + 5) for i in range(1, images + 1)], images)


def poses(place=None, images=40, zeroed=30):
    """A pose an image, near its person; in some of them the weak keypoints lie at `place`."""
    rng = np.random.default_rng(0)
    results = []
    for i in range(1, images + 1):
        points = STANDING + 5 + rng.normal(0, 3, (17, 2))
        if place is not None and i <= zeroed:
            points[WEAK] = place
        results.append(result(i, points, float(rng.uniform(0.2, 0.9))))
    return results


@pytest.mark.parametrize("place", [(0, 0), (-1, -1)])
def test_keypoints_at_a_placeholder(place):
    """The warning has their number and what they cost: AP falls, and by the other keypoints it would not."""
    whole = evaluate_results(people(), poses()).ap
    evaluation = Evaluation(people(), poses(place))
    (warning,) = [words for words in evaluation.cautions if "at exactly" in words]
    assert f"30 of 40 poses have keypoints at exactly ({place[0]}, {place[1]}) (120 keypoints)" in warning
    given, others = map(float, re.search(r"AP is (0\.\d+), by .* poses (0\.\d+)", warning).groups())
    assert given == pytest.approx(evaluation.ap.ap, abs=6e-4)
    assert given < whole - 0.1
    assert others == pytest.approx(whole, abs=0.05)


def test_nothing_is_said_of_keypoints_that_have_a_place():
    assert not [words for words in Evaluation(people(), poses()).cautions if "at exactly" in words]
    near = Evaluation(people(), poses((0, 1e-9)))  # a model's own prediction, however far off
    assert not [words for words in near.cautions if "at exactly" in words]


def test_labelled_keypoints_at_a_placeholder():
    truth = people()
    for entry in truth["annotations"][:7]:
        entry["keypoints"][27:29] = [0.0, 0.0]
    truth["annotations"][9]["keypoints"][27:30] = [0.0, 0.0, 0]  # not labelled: as COCO writes it
    (warning,) = [words for words in Evaluation(truth, poses()).cautions if "at exactly" in words]
    assert "7 labelled keypoints at exactly (0, 0)" in warning
    assert "visibility 0" in warning
