"""The counts against the paper's Table 1, and against what the forms of the head really do."""

import pytest
import torch
from dense_reference import dense_head
from torch.utils.flop_counter import FlopCounterMode

from calipose.config.method import Method
from calipose.model.count import count_network, dense_head_adds, real_head_adds
from calipose.model.head import Head

CHANNELS = (16, 32, 64, 128)
METHODS = [
    Method(),
    Method(kqe=False, pose_query="keypoint"),
    Method(pose_query="semantic", semantic_points=3),
]


@pytest.mark.parametrize(
    ("backbone", "size", "exact", "table_1"),
    [
        # exact: parameters and multiply-adds of the official HRNet code; table_1: with the head, in M and G
        ("hrnet-w32", 512, (29_305_536, 41_228_959_744), (29.7, 46.4)),
        ("hrnet-w48", 640, (65_325_120, 132_377_395_200), (65.8, 143.4)),
    ],
)
def test_counts_of_table_1(backbone: str, size: int, exact: tuple[int, int], table_1: tuple[float, float]) -> None:
    counts = count_network(backbone, size)
    assert (counts.backbone_parameters, counts.backbone_adds) == exact
    assert counts.parameters / 1e6 == pytest.approx(table_1[0], rel=0.005)
    assert counts.dense_adds / 1e9 == pytest.approx(table_1[1], rel=0.005)
    assert counts.backbone_adds < counts.real_adds < counts.dense_adds


def branches(side: int) -> list[torch.Tensor]:
    return [torch.randn(1, c, side // 2**i, side // 2**i) for i, c in enumerate(CHANNELS)]


@pytest.mark.parametrize("method", METHODS, ids=["paper", "without-kqe", "semantic"])
def test_dense_count_is_what_the_literal_form_does(method: Method) -> None:
    head, cells = Head(CHANNELS, 3, method).eval(), 16**2
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        dense_head(head, branches(16))
    read_out = head.score.weight.numel() * cells  # there a matrix times a vector, which torch does not count
    assert counter.get_total_flops() // 2 + read_out == dense_head_adds(head, cells)


def adds_by_hand(method: Method, cells: int, peaks: int) -> int:
    """Multiply-adds of the head with three keypoints: every layer by its number of weights and of cells."""
    k, width_k, width_i, points = 3, method.keypoint_width, method.instance_width, method.query_points(3)
    c4, c8, c16, c32 = CHANNELS
    # R_k has as many channels as strides 8 and 16 together, or more: they are upsampled first. R_I has fewer.
    assert width_i < c8 + c16 <= k * width_k
    features_k = k * width_k * ((c4 + c8 + c16) * cells + c32 * cells // 64)
    features_i = width_i * (c4 * cells + c8 * cells // 4 + c16 * cells // 16 + c32 * cells // 64)
    first_and_last = (2 + 2 if method.kqe else 2) * k * width_k * cells
    everywhere = method.pose_query in {"semantic", "keypoint"}
    to_semantic = 2 * method.semantic_points * k * width_k * (peaks + (cells if everywhere else 0)) if method.kqe else 0
    return features_k + features_i + first_and_last + to_semantic + points * width_i * cells


@pytest.mark.parametrize("method", METHODS, ids=["paper", "without-kqe", "semantic"])
def test_real_count_is_what_the_head_does(method: Method) -> None:
    with torch.device("meta"):
        head = Head(CHANNELS, 3, method)
    assert real_head_adds(head, CHANNELS, 16**2, peaks=5) == adds_by_hand(method, 16**2, peaks=5)


def test_the_sparse_form_computes_less() -> None:
    dense, sparse = count_network("hrnet-w32", 512), count_network("hrnet-w32", 512, method=Method(sparse_cells=512))
    assert sparse.real_adds < dense.real_adds
    assert sparse.real_adds < 1.02 * sparse.backbone_adds
