"""Keypoint queries of candidates: those of the head, in input pixels, and mirrored with the image."""

import torch

from calipose.config.method import Method
from calipose.model.decode import find_candidates
from calipose.model.network import Network
from calipose.skeleton import COCO_17

FLIP_INDEX = COCO_17.flip_index.tolist()


def network(method: Method) -> Network:
    torch.manual_seed(0)
    made = Network("mobilenetv2-0.1", 17, method).double().eval()
    torch.nn.init.normal_(made.head.get_parameter("score.weight"))
    if method.kqe:
        torch.nn.init.normal_(made.head.get_parameter("center_to_query.weight"), std=5.0)
    return made


def test_queries_are_those_of_the_head() -> None:
    made = network(Method(keypoint_width=4, instance_width=8, semantic_points=2))
    images = torch.rand(2, 64, 96, 3, dtype=torch.float64) * 255
    once = find_candidates(made, images, 4)
    assert once.queries_inp is not None
    assert once.queries_inp.shape == once.keypoints_inp.shape == (2, 4, 17, 2)
    # With D_qk at zero a keypoint is its query.
    torch.nn.init.zeros_(made.head.get_parameter("query_to_keypoint.weight"))
    torch.nn.init.zeros_(made.head.get_parameter("query_to_keypoint.bias"))
    for flip_index in (None, FLIP_INDEX):
        found = find_candidates(made, images, 4, flip_index)
        assert found.queries_inp is not None
        assert (found.queries_inp - found.keypoints_inp).abs().max() < 1e-9
    mirrored = find_candidates(made, images.flip(2), 4, FLIP_INDEX)
    assert mirrored.queries_inp is not None
    back = mirrored.queries_inp[:, :, FLIP_INDEX]
    both = torch.stack([95 - back[..., 0], back[..., 1]], -1)
    straight = find_candidates(made, images, 4, FLIP_INDEX).queries_inp
    assert straight is not None
    # Peaks of equal score may change places; the sum over peaks does not.
    assert (both.sum(1) - straight.sum(1)).abs().max() < 1e-6


def test_no_queries_without_kqe() -> None:
    made = network(Method(keypoint_width=4, instance_width=8, kqe=False, pose_query="none"))
    assert find_candidates(made, torch.zeros(1, 64, 64, 3), 2).queries_inp is None
