"""Merging views: exact where all say the same, averaged where they do not."""

import numpy as np
import pytest

from calipose.scales import View, merge_views
from calipose.skeleton import COCO_17

SIGMAS = COCO_17.sigmas_array


def people(n: int, seed: int = 0) -> np.ndarray:
    """Poses far from each other."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-40, 40, (n, 17, 2)) + 300.0 * np.arange(n)[:, None, None]


def view(keypoints: np.ndarray, scores: list[float]) -> View:
    joints = np.broadcast_to(np.array(scores)[:, None], keypoints.shape[:2])
    return View(keypoints, np.array(scores), joints, keypoints + 1)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_views_that_say_the_same(n: int, copies: int) -> None:
    one = view(people(n), [0.9 - 0.1 * i for i in range(n)])
    shuffled = one[np.random.default_rng(1).permutation(n)]
    merged = merge_views([one] + [shuffled] * (copies - 1), SIGMAS, 0.3)
    np.testing.assert_allclose(merged.keypoints_img, one.keypoints_img, rtol=0, atol=1e-12)
    np.testing.assert_allclose(merged.raw_scores, one.raw_scores, rtol=0, atol=1e-15)
    assert merged.keypoint_scores is not None
    assert merged.queries_img is not None
    np.testing.assert_allclose(merged.queries_img, one.queries_img, rtol=0, atol=1e-12)
    assert merged.keypoints_img.shape == (n, 17, 2)


def test_what_both_see_is_averaged_and_what_one_sees_stays() -> None:
    first, second = people(3), people(3)
    second[0] += 2.0
    merged = merge_views([view(first[:2], [0.9, 0.4]), view(second[[2, 0]], [0.6, 0.5])], SIGMAS, 0.3)
    assert merged.raw_scores.tolist() == pytest.approx([0.7, 0.6, 0.4])
    np.testing.assert_allclose(merged.keypoints_img, [first[0] + 1.0, second[2], first[1]])


def test_a_view_gives_one_pose_to_a_person() -> None:
    """Its own duplicate goes; a neighbour that overlaps by less stays."""
    pose = people(1)
    near, beside = pose + 1.0, pose + 60.0
    merged = merge_views([view(np.concatenate([pose, near, beside]), [0.9, 0.8, 0.5]), view(pose, [0.7])], SIGMAS, 0.3)
    assert merged.raw_scores.tolist() == pytest.approx([0.8, 0.5])


def test_joint_scores_that_only_one_view_has_are_dropped() -> None:
    pose = people(1)
    merged = merge_views([view(pose, [0.9]), View(pose, np.array([0.7]))], SIGMAS, 0.3)
    assert merged.keypoint_scores is None
