"""The cheap form of the head equals the paper's literal form; sampling is what it says."""

import pytest
import torch
from dense_reference import dense_head

from calipose.config.method import Method, valid_methods
from calipose.model.head import Head, semantic_start
from calipose.model.sampling import all_cells, read_cells, sample_bilinear, sample_rows

METHODS = [
    *valid_methods((0, 3)),
    Method(semantic_at="center", semantic_points=3),
    Method(keypoint_scores=True, semantic_points=3),
    Method(keypoint_scores=True, semantic_points=3, pose_query="keypoint"),
    Method(keypoint_scores=True, kqe=False, pose_query="keypoint"),
]


def name(method: Method) -> str:
    quality = "+quality" if method.quality_branch else ""
    kqe = f"kqe{method.semantic_points}" if method.kqe else "direct"
    joints = "-joints" if method.keypoint_scores else ""
    return f"{method.label}{quality}-{kqe}-{method.pose_query}-{method.semantic_at}{joints}"


def make(method: Method, dtype: torch.dtype, training: bool) -> tuple[Head, list[torch.Tensor]]:
    torch.manual_seed(0)
    head = Head((3, 4, 5, 6), keypoints=3, method=method).to(dtype)
    for parameter in head.parameters():  # displacements of several cells, queries beyond the border
        parameter.data = torch.randn_like(parameter) * 0.5
    for norm in (head.keypoint_norm, head.instance_norm):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    head.train(training)
    sizes = zip((3, 4, 5, 6), (1, 2, 4, 8), strict=True)
    branches = [torch.randn(2, c, 16 // s, 24 // s, dtype=dtype) for c, s in sizes]
    return head, [b.requires_grad_() for b in branches]


@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize("method", METHODS, ids=name)
def test_cheap_form_equals_dense_form(method: Method, training: bool) -> None:
    for dtype, cells_tolerance, score_tolerance in ((torch.float64, 1e-10, 1e-10), (torch.float32, 1e-4, 1e-5)):
        gradients = []
        results = []
        for form in ("dense", "cheap"):
            head, branches = make(method, dtype, training)
            if form == "dense":
                result = dense_head(head, branches)
            else:
                maps = head(branches)
                cells = all_cells(16, 24, 2, torch.device("cpu"))
                moves, joints = head.keypoints_at(maps, cells)
                assert torch.equal(moves, head.displacements(maps, cells))
                result = {"displacement": moves, "score": maps.score}
                if joints is not None:
                    result["joints"] = joints
                if maps.quality is not None:
                    result["quality"] = maps.quality
            torch.manual_seed(1)
            loss = sum((torch.randn(v.shape, dtype=v.dtype) * v).mean() for v in result.values())
            loss.backward()
            results.append({k: v.detach() for k, v in result.items()})
            gradients.append([p.grad for p in head.parameters()] + [b.grad for b in branches])
        assert results[0].keys() == results[1].keys()
        scale = max(1.0, results[0]["score"].abs().max().item())
        for key in results[0]:
            tolerance = cells_tolerance if key == "displacement" else score_tolerance * scale
            assert (results[0][key] - results[1][key]).abs().max() < tolerance, key
        if dtype == torch.float64:  # in fp32 a position may fall on the other side of a cell's border
            for dense, cheap in zip(*gradients, strict=True):
                assert (dense is None) == (cheap is None)
                if dense is not None:
                    assert (dense - cheap).abs().max() <= 1e-10 * max(1.0, dense.abs().max().item())


def test_chosen_cells_give_what_all_cells_give() -> None:
    head, branches = make(Method(semantic_points=3), torch.float64, training=False)
    maps = head(branches)
    everywhere = head.displacements(maps, all_cells(16, 24, 2, torch.device("cpu")))
    chosen = torch.tensor([[[3, 5], [23, 15]], [[0, 0], [7, 2]]])
    some = head.displacements(maps, chosen)
    index = (chosen[..., 1] * 24 + chosen[..., 0])[:, None, :, None].expand_as(some)
    assert (some - everywhere.gather(2, index)).abs().max() < 1e-12


def test_sampling_at_whole_cells_and_between() -> None:
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    positions = torch.tensor([[[0.0, 0.0], [3.0, 2.0], [1.5, 1.0], [-5.0, 9.0], [99.0, 0.5]]])
    read = sample_bilinear(maps, positions)
    assert torch.allclose(read[0, 0], torch.tensor([0.0, 11.0, 5.5, 8.0, 5.0]), atol=1e-5)
    assert read_cells(maps, torch.tensor([[[3, 2], [1, 0]]])).tolist() == [[[11.0, 1.0]]]


@pytest.mark.parametrize("number", [0, 1, 3, 9, 15])
def test_semantic_points_start_apart_around_the_query(number: int) -> None:
    start = semantic_start(number)
    assert start.shape == (number, 2)
    assert (start.norm(dim=1) < 2).all()
    apart = torch.cdist(start, start) + 9 * torch.eye(number)
    assert number < 2 or apart.min() > 0.5
    torch.manual_seed(0)
    head = Head((8, 8, 8, 8), 17, Method(semantic_points=number))
    maps = head([torch.randn(1, 8, 16 // s, 16 // s) for s in (1, 2, 4, 8)])
    query, points = head._query_points(maps, torch.tensor([[[8, 8]]]))
    if number:
        assert (points - query.unsqueeze(-2) - start).abs().max() < 0.1


def test_training_starts_with_queries_at_the_centre() -> None:
    torch.manual_seed(0)
    head = Head((8, 8, 8, 8), 17, Method())
    maps = head([torch.randn(1, 8, 16 // s, 16 // s) for s in (1, 2, 4, 8)])
    assert maps.displacement.abs().max() < 0.1
    assert maps.score.abs().max() < 0.5


def test_positions_stay_in_full_precision_under_autocast() -> None:
    head, branches = make(Method(semantic_points=3), torch.float32, training=False)
    cells = all_cells(16, 24, 2, torch.device("cpu"))
    with torch.no_grad():
        maps = head(branches)
        plain = head.displacements(maps, cells)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(head.displacements(maps, cells), plain)
            assert head(branches).score.dtype == torch.float32


def test_a_position_that_is_no_number_reads_as_none_instead_of_a_wild_index() -> None:
    features = torch.zeros(1, 2, 4, 4).contiguous(memory_format=torch.channels_last)
    positions = torch.full((1, 1, 1, 2), torch.nan)
    assert sample_rows(features, positions).isnan().all()
