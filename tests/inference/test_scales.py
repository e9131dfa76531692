"""Merging the candidates of several input sizes: the same where all say the same, else the best of each person."""

import numpy as np
import pytest

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.geometry import pose_nms
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.predictor import Predictor
from calipose.inference.scales import ScaleCandidates, merge_scales
from calipose.skeleton import COCO_17

SIGMAS = COCO_17.sigmas_array


def people(n: int, seed: int = 0) -> np.ndarray:
    """Poses far from each other."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-40, 40, (n, 17, 2)) + 300.0 * np.arange(n)[:, None, None]


def view(keypoints: np.ndarray, scores: list[float]) -> ScaleCandidates:
    joints = np.broadcast_to(np.array(scores)[:, None], keypoints.shape[:2])
    return ScaleCandidates(keypoints, np.array(scores), joints, keypoints + 1)


@pytest.mark.parametrize("copies", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1, 5])
def test_views_that_say_the_same(n: int, copies: int) -> None:
    one = view(people(n), [0.9 - 0.1 * i for i in range(n)])
    shuffled = one[np.random.default_rng(1).permutation(n)]
    joined = merge_scales([one] + [shuffled] * (copies - 1))
    kept = joined[pose_nms(joined.keypoints_img, joined.raw_scores, SIGMAS, 0.3)]
    for name in ("keypoints_img", "raw_scores", "raw_keypoint_scores", "queries_img"):
        assert np.array_equal(getattr(kept, name), getattr(one, name)), name


def test_the_best_pose_of_each_person_is_kept() -> None:
    first, second = people(3), people(3) + 2.0
    joined = merge_scales([view(first[:2], [0.9, 0.4]), view(second[[2, 1]], [0.6, 0.5])])
    kept = joined[pose_nms(joined.keypoints_img, joined.raw_scores, SIGMAS, 0.3)]
    assert kept.raw_scores.tolist() == [0.9, 0.6, 0.5]
    np.testing.assert_array_equal(kept.keypoints_img, [first[0], second[2], second[1]])


def test_joint_scores_that_only_one_view_has_are_dropped() -> None:
    pose = people(1)
    assert merge_scales([view(pose, [0.9]), ScaleCandidates(pose, np.array([0.7]))]).raw_keypoint_scores is None


class Equivariant:
    """Sees a person at the same place of the image, whatever the input size; mirrored, the mirror image."""

    skeleton, pad_colour = COCO_17, (0, 0, 0)
    settings, calibration = PredictSettings(), Calibration()

    def __init__(self, keypoints_img: np.ndarray, short_side_img: int) -> None:
        self.keypoints_img, self.short_side_img = keypoints_img, short_side_img
        self.sizes: list[tuple[int, ...]] = []

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        self.sizes.append(images.shape[1:3])
        inp_per_img = min(images.shape[1:3]) / self.short_side_img
        keypoints_inp = inp_per_img * (self.keypoints_img + 0.5) - 0.5
        scores = np.linspace(0.9, 0.5, len(keypoints_inp))
        return BatchCandidates(np.stack([keypoints_inp] * len(images)), np.stack([scores] * len(images)))


@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (2.0, 1.0, 0.5)])
def test_an_equivariant_network_says_the_same_at_any_scales(scales: tuple[float, ...]) -> None:
    poses = people(4)
    backend = Equivariant(poses, 64)
    found = Predictor(backend, PredictSettings(short_side=128, scales=scales)).predict(np.zeros((64, 96, 3), np.uint8))
    assert backend.sizes == [(round(128 * scale), round(192 * scale)) for scale in scales]
    np.testing.assert_allclose(found.keypoints_img, poses, rtol=0, atol=1e-9)
    assert found.scores.tolist() == pytest.approx([0.9, 0.9 - 0.4 / 3, 0.9 - 0.8 / 3, 0.5])
