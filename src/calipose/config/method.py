"""The switches of the paper's tables, typed, and which of their combinations make sense."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from calipose.errors import InputError

InstanceLabel = Literal["discrete", "gaussian", "cir"]
PoseQuery = Literal["none", "auto", "semantic", "keypoint", "query"]
LARGEST_WIDTH = 65_536  # beyond, a mistyped number would fill the memory
Width = Annotated[int, msgspec.Meta(ge=1, le=LARGEST_WIDTH)]


class Method(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One variant of the method; the defaults are the paper's full method.

    Attributes:
        label: what the score map learns in the neighbourhood of a person's centre: 1, a Gaussian of the distance,
            or the OKS of the pose predicted there (CIR, Eq. 2). Tables 2 and 3.
        quality_branch: add a second read-out that learns the OKS inside that neighbourhood; the score is multiplied by
            it (QEB of Table 3).
        kqe: use Keypoint Query Encoding; without it the keypoints are regressed from the centre's features in one
            step.
        semantic_points: N, the number of points read around each query; 0 reads the query alone (Table 4).
        pose_query: where the instance features are read for the score (Table 6): at the centre only, at K freely
            learned points, at the K x N semantic points, at the predicted keypoints, or at the keypoint queries.
        keypoint_scores: add a third output beside each keypoint's last displacement, which learns that keypoint's own
            term of the OKS (not in the paper).
        sparse_cells: M > 0 adds a presence map, which learns the discrete label; in prediction, the score is computed
            at the M cells of highest presence only (not in the paper; docs/paper.md). 0: at all cells, as in the paper.
        keypoint_width: channels of each keypoint's separate features (C_k).
        instance_width: channels of the instance features (C_I).
        semantic_at: read the displacements to the semantic points at the query or at the centre; the paper leaves
            this open.

    Raises:
        InputError: the switches contradict each other.

    Example:
        >>> Method(label="gaussian", quality_branch=True).query_points(keypoints=17)
        17
    """

    label: InstanceLabel = "cir"
    quality_branch: bool = False
    kqe: bool = True
    semantic_points: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 9
    pose_query: PoseQuery = "query"
    keypoint_scores: bool = False
    sparse_cells: Annotated[int, msgspec.Meta(ge=0, le=LARGEST_WIDTH)] = 0
    keypoint_width: Width = 32
    instance_width: Width = 64
    semantic_at: Literal["query", "center"] = "query"

    def __post_init__(self) -> None:
        if self.quality_branch and self.label == "cir":
            raise InputError(
                "method: quality_branch needs label 'discrete' or 'gaussian'; a score with label 'cir' is the quality"
            )
        if self.pose_query in {"semantic", "query"} and not self.kqe:
            raise InputError(f"method: pose_query '{self.pose_query}' needs kqe = true")
        if self.pose_query == "semantic" and not self.semantic_points:
            raise InputError("method: pose_query 'semantic' needs semantic_points > 0")

    def query_points(self, keypoints: int) -> int:
        """Number of positions whose instance features give the score of one cell.

        Args:
            keypoints: k, the skeleton's number of keypoints.

        Returns:
            That number.
        """
        per_keypoint = {"auto": 1, "semantic": self.semantic_points, "keypoint": 1, "query": 1}
        return keypoints * per_keypoint[self.pose_query] if self.pose_query != "none" else 1


def valid_methods(semantic_points: tuple[int, ...] = (0, 9)) -> list[Method]:
    """List every valid combination of the paper's switches, for the given numbers of semantic points."""
    methods = []
    labels: list[tuple[InstanceLabel, bool]] = [
        ("discrete", False), ("discrete", True), ("gaussian", False), ("gaussian", True), ("cir", False),
    ]  # fmt: skip
    for label, quality in labels:
        for kqe in (False, True):
            for n in semantic_points if kqe else (0,):
                for query in PoseQuery.__args__:  # type: ignore[attr-defined]
                    try:
                        method = Method(
                            label=label, quality_branch=quality, kqe=kqe, semantic_points=n, pose_query=query
                        )
                    except InputError:
                        continue
                    methods.append(method)
    return methods
