"""The backend of other projects' models; needs no torch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calipose.config.settings import PredictSettings
from calipose.config.stored import StoredModel, read_stored
from calipose.errors import InputError
from calipose.geometry import Floats
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.foreign.base import PAD, Detections, Graph
from calipose.inference.foreign.table import find_form
from calipose.io.images import Image
from calipose.skeleton import COCO_17, MEAN_SIGMA, Skeleton

SCORE_THRESHOLD = 0.01  # low: a calibrated score says itself what a weak pose is worth
MAX_POSES = 100
MAX_SIDE = 8192  # of an input: a damaged file must not fill the memory
NO_NMS = 1.0  # an OKS above it does not exist: each form drops duplicates as its own project does


class ForeignBackend:
    """Another project's model, fed and decoded as that project does (`FORMS`).

    Args:
        graph: the open file.
        form: name of its form; by default as NAME.calipose.json beside it, or its inputs and outputs, say.
        skeleton: of its keypoints; by default as NAME.calipose.json says, or COCO's for 17 keypoints.

    Attributes:
        graph: the open file.
        form: its row of `FORMS`.
        stored: what lies beside it.

    Raises:
        InputError: the graph has no known form, or several; or the number of keypoints is not the skeleton's.
    """

    def __init__(self, graph: Graph, form: str = "", skeleton: Skeleton | None = None) -> None:
        self.graph = graph
        self.stored: StoredModel = read_stored(graph.path)
        self.form = find_form(graph, form or self.stored.form)
        self.skeleton = self._skeleton(skeleton or self.stored.skeleton)
        self.pad_colour = (PAD, PAD, PAD)
        self._size = self._fixed_size()
        self.settings = self.stored.predict or PredictSettings(
            short_side=min(self._size) if self._size else self.form.side,
            score_threshold=SCORE_THRESHOLD,
            max_poses=MAX_POSES,
            nms_threshold=NO_NMS,
        )
        same_form = not self.stored.form or self.stored.form == self.form.name
        self.calibration = self.stored.calibration if same_form else StoredModel().calibration

    def __reduce__(self) -> tuple[type[ForeignBackend], tuple[Graph, str, Skeleton]]:
        return ForeignBackend, (self.graph, self.form.name, self.skeleton)  # a form's functions are not sent

    def _skeleton(self, skeleton: Skeleton | None) -> Skeleton:
        k = self.form.keypoints(self.graph)
        if skeleton is None and k == len(COCO_17):
            return COCO_17
        if skeleton is None:
            names = tuple(f"keypoint_{i + 1}" for i in range(k))
            return Skeleton(f"{k} keypoints", names, (), (), (MEAN_SIGMA,) * k)
        if len(skeleton) != k:
            raise InputError(f"{self.graph.path}: gives {k} keypoints, skeleton '{skeleton.name}' has {len(skeleton)}")
        return skeleton

    def _fixed_size(self) -> tuple[int, int] | None:
        """Width and height of the input; None where the graph leaves them free."""
        for port in self.graph.input_ports:
            if len(port.shape) == 4:
                height, width = port.shape[1:3] if self.form.channels_last else port.shape[2:4]
                if height is not None and width is not None and min(height, width) > 1:
                    if max(height, width) > MAX_SIDE:
                        raise InputError(
                            f"{self.graph.path}: takes {width} x {height} pixels; at most {MAX_SIDE} a side"
                        )
                    return width, height
        return None

    def network_input(self, image: Image, short_side: int) -> tuple[Image, Floats]:
        """See `OwnInput.network_input`.

        Raises:
            InputError: the model takes images of another size only.
        """
        if self._size is not None and short_side != min(self._size):
            wide, high = self._size
            raise InputError(
                f"{self.graph.path}: takes {wide} x {high} pixels only; leave out --short-side and --scales, or export "
                "it with free sizes"
            )
        return self.form.prepare(image, self._size or (short_side, short_side))

    def candidates(self, images: NDArray[np.uint8], max_poses: int, flip: bool) -> BatchCandidates:
        """See `Backend.candidates`; images go through the network one by one, since many exports take one only.

        Raises:
            InputError: `flip`; or the file cannot be run, or gives other shapes than its form.
        """
        if flip:
            raise InputError(f"{self.graph.path}: flip needs a Calipose checkpoint; other models predict once")
        found = [self._detect(image) for image in images]
        n, k = max(1, *(len(one.scores) for one in found)), len(self.skeleton)
        n = min(n, max_poses)
        points = np.zeros((len(found), n, k, 2))
        scores = np.full((len(found), n), -np.inf)
        keypoint_scores = np.zeros((len(found), n, k))
        for row, one in enumerate(found):
            best = one.chosen(np.argsort(-one.scores, kind="stable")[:n])
            points[row, : len(best.scores)], scores[row, : len(best.scores)] = best.keypoints, best.scores
            if best.keypoint_scores is not None:
                keypoint_scores[row, : len(best.scores)] = best.keypoint_scores
        with_scores = all(one.keypoint_scores is not None for one in found)
        return BatchCandidates(points, scores, keypoint_scores if with_scores else None)

    def _detect(self, pixels: Image) -> Detections:
        """What the model finds in one input."""
        names = [port.name for port in self.graph.output_ports]
        values = self.graph.run(names, self.form.feed(self.graph, pixels))
        size = pixels.shape[1], pixels.shape[0]
        try:
            if not all(value.dtype.kind in "fiu" and value.shape[:1] == (1,) for value in values):
                raise ValueError("no numbers of one image")
            found = self.form.decode(dict(zip(names, values, strict=True)), size)
            n, k = len(found.scores), len(self.skeleton)
            own = found.keypoint_scores
            if found.keypoints.shape != (n, k, 2) or (own is not None and own.shape != (n, k)):
                raise ValueError(f"keypoints of shape {found.keypoints.shape}")
        except (ValueError, IndexError, KeyError, TypeError) as error:
            given = ", ".join(f"{name} {value.shape}" for name, value in zip(names, values, strict=True))
            raise InputError(
                f"{self.graph.path}: gives {given[:200]}, which is not of the form '{self.form.name}' ({error})"
            ) from None
        return found
