"""Frames, OKS and pose NMS against oracles."""

import numpy as np
import pytest

from calipose.geometry import (
    apply_affine,
    area_scale,
    cell_from_inp,
    compose_affines,
    inp_from_cell,
    invert_affine,
    keypoint_similarity,
    oks,
    pose_area,
    pose_nms,
    resize_affine,
)
from calipose.skeleton import COCO_17

SIGMAS = COCO_17.sigmas_array


def random_affine(rng):
    angle, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 5, 2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.column_stack([rotation @ np.diag(scale), rng.uniform(-100, 100, 2)])


def test_oks_equals_pycocotools():
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    rng = np.random.default_rng(0)
    people, poses = 12, 15
    truth = rng.uniform(0, 200, (people, 17, 2))
    labelled = rng.uniform(size=(people, 17)) < 0.6
    labelled[:, 0] = True  # pycocotools measures to the box where no joint is labelled
    area = np.exp(rng.uniform(np.log(20), np.log(1e5), people))
    found = truth[rng.integers(0, people, poses)] + rng.normal(0, 8, (poses, 17, 2))

    ground_truth = coco.COCO()
    ground_truth.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {
                "id": i + 1,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": area[i],
                "bbox": [0, 0, 1, 1],
                "num_keypoints": int(labelled[i].sum()),
                "keypoints": np.column_stack([truth[i], labelled[i] * rng.integers(1, 3, 17)]).ravel().tolist(),
            }
            for i in range(people)
        ],
    }
    ground_truth.createIndex()
    results = [
        {
            "image_id": 1,
            "category_id": 1,
            "score": 1 - i / poses,
            "keypoints": np.column_stack([found[i], np.ones(17)]).ravel().tolist(),
        }
        for i in range(poses)
    ]
    evaluation = cocoeval.COCOeval(ground_truth, ground_truth.loadRes(results), "keypoints")
    evaluation._prepare()
    ours = oks(found[:, None], truth, labelled, area, SIGMAS)
    np.testing.assert_allclose(ours, evaluation.computeOks(1, 1), atol=1e-6)
    assert ours.max() > 0.5


def test_oks_of_nobody_and_of_no_size():
    points = np.zeros((17, 2))
    assert oks(points, points, np.zeros(17, bool), 100.0, SIGMAS) == 0
    assert oks(points, points, np.ones(17, bool), 0.0, SIGMAS) == 1
    assert oks(points + 1, points, np.ones(17, bool), 0.0, SIGMAS) == 0


def test_oks_is_the_mean_of_the_joints():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 30, (2, 17, 2))
    joints = keypoint_similarity(((a - b) ** 2).sum(-1), 900.0, SIGMAS)
    assert oks(a, b, np.ones(17, bool), 900.0, SIGMAS) == pytest.approx(joints.mean())
    one_sigma = keypoint_similarity((2 * 0.1) ** 2 * 900.0, 900.0, [0.1])
    assert one_sigma == pytest.approx(np.exp(-0.5))


def test_oks_does_not_change_with_the_frame():
    rng = np.random.default_rng(2)
    a = rng.uniform(0, 100, (5, 17, 2))
    b = a + rng.normal(0, 5, a.shape)
    affine = resize_affine(0.37)
    before = oks(a, b, np.ones(17, bool), 4000.0, SIGMAS)
    after = oks(
        apply_affine(affine, a),
        apply_affine(affine, b),
        np.ones(17, bool),
        4000.0 * area_scale(affine),
        SIGMAS,
    )
    np.testing.assert_allclose(before, after, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_affines(seed):
    rng = np.random.default_rng(seed)
    a, b = random_affine(rng), random_affine(rng)
    points = rng.uniform(-500, 500, (4, 3, 2))
    np.testing.assert_allclose(apply_affine(invert_affine(a), apply_affine(a, points)), points, atol=1e-9)
    np.testing.assert_allclose(invert_affine(invert_affine(a)), a, atol=1e-9)
    np.testing.assert_allclose(
        apply_affine(compose_affines(a, b), points), apply_affine(a, apply_affine(b, points)), atol=1e-9
    )
    assert area_scale(compose_affines(a, b)) == pytest.approx(area_scale(a) * area_scale(b))
    assert area_scale(invert_affine(a)) == pytest.approx(1 / area_scale(a))


def test_an_affine_onto_a_line_has_no_inverse():
    with pytest.raises(np.linalg.LinAlgError):
        invert_affine([[1, 2, 0], [2, 4, 0]])


def test_frames():
    """Cells: inp = 4 cell + 1.5, and a resize keeps the image's edges at -0.5 and size - 0.5."""
    assert inp_from_cell([0.0, 2.0]).tolist() == [1.5, 9.5]
    assert cell_from_inp([1.5, 9.5]).tolist() == [0.0, 2.0]
    affine = resize_affine(0.25)
    np.testing.assert_allclose(apply_affine(affine, [-0.5, -0.5]), [-0.5, -0.5])
    np.testing.assert_allclose(apply_affine(affine, [639.5, 479.5]), [159.5, 119.5])
    np.testing.assert_allclose(resize_affine(1.0), np.eye(3)[:2])


def test_pose_area():
    points = [[[0, 0], [3, 1], [1, 4]], [[5, 5], [5, 5], [5, 5]]]
    assert pose_area(points).tolist() == [12, 0]


def brute_force_nms(keypoints, scores, threshold):
    """Pose by pose, joint by joint, from the rule's words."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    kept = []
    for i in order:
        dropped = False
        for j in kept:
            xs, ys = keypoints[j].T
            area = (max(xs) - min(xs)) * (max(ys) - min(ys))
            terms = [
                np.exp(-((p - q) ** 2).sum() / (2 * (area + np.spacing(1)) * (2 * s) ** 2))
                for p, q, s in zip(keypoints[i], keypoints[j], SIGMAS, strict=True)
            ]
            dropped |= sum(terms) / len(terms) > threshold
        if not dropped:
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("seed", range(3))
def test_pose_nms(seed, threshold):
    rng = np.random.default_rng(seed)
    people = rng.uniform(0, 300, (4, 1, 2)) + rng.uniform(0, 120, (4, 17, 2))
    keypoints = people[rng.integers(0, 4, 30)] + rng.normal(0, 1, (30, 17, 2)) * rng.uniform(0, 12, (30, 1, 1))
    scores = rng.integers(0, 10, 30) / 10  # ties
    kept = pose_nms(keypoints, scores, SIGMAS, threshold)
    assert kept.tolist() == brute_force_nms(keypoints, scores, threshold)
    assert 4 <= len(kept) < 30


def test_pose_nms_of_nothing():
    assert pose_nms(np.zeros((0, 17, 2)), [], SIGMAS, 0.7).tolist() == []
