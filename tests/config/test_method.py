"""Which variants of the method there are."""

import pytest

from calipose.config.method import Method, valid_methods
from calipose.errors import InputError


@pytest.mark.parametrize(
    ("points", "number"),
    [
        # 5 labels (quality branch included) x (3 pose queries without KQE + those with it: 5, or 4 where N = 0)
        ((9,), 5 * (3 + 5)),
        ((0,), 5 * (3 + 4)),
        ((0, 9), 5 * (3 + 4 + 5)),
        ((0, 3, 6, 9, 12, 15), 5 * (3 + 4 + 5 * 5)),  # Table 4
    ],
)
def test_valid_combinations(points: tuple[int, ...], number: int) -> None:
    methods = valid_methods(points)
    assert len(methods) == len(set(methods)) == number
    assert Method() in methods or 9 not in points


@pytest.mark.parametrize(
    ("switches", "words"),
    [
        ({"quality_branch": True}, "quality_branch needs label 'discrete' or 'gaussian'"),
        ({"kqe": False}, "'query' needs kqe = true"),
        ({"kqe": False, "pose_query": "semantic"}, "'semantic' needs kqe = true"),
        ({"semantic_points": 0, "pose_query": "semantic"}, "semantic_points > 0"),
    ],
)
def test_invalid_combinations(switches: dict, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Method(**switches)


@pytest.mark.parametrize(
    ("query", "points"), [("none", 1), ("auto", 17), ("semantic", 153), ("keypoint", 17), ("query", 17)]
)
def test_points_that_make_the_score(query: str, points: int) -> None:
    assert Method(pose_query=query).query_points(17) == points
