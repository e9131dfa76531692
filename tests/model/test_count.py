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


@pytest.mark.parametrize("method", METHODS, ids=["paper", "without-kqe", "semantic"])
def test_real_count_is_what_the_head_does(method: Method) -> None:
    head, cells, peaks = Head(CHANNELS, 3, method).eval(), 16**2, 5
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        maps = head(branches(16))
        head.displacements(maps, torch.zeros(1, peaks, 2, dtype=torch.int64))
    assert counter.get_total_flops() // 2 == real_head_adds(head, CHANNELS, cells, peaks)
