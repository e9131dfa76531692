"""Predictor: pictures in, poses out; backends hide what runs the network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calipose.backends import Backend
from calipose.geometry import apply_affine, invert_affine, pose_nms
from calipose.images import network_input, read_picture
from calipose.poses import Poses
from calipose.skeleton import Skeleton
from calipose.recipe import PredictSettings

Picture = NDArray[np.uint8]


class Predictor:
    """Finds the poses of all people in pictures.

    Args: `backend`, which runs the network; `settings` of decoding. `Predictor.from_checkpoint` makes both.
    """

    def __init__(self, backend: Backend, settings: PredictSettings | None = None) -> None:
        self.backend = backend
        self.settings = settings or PredictSettings()

    @classmethod
    def from_checkpoint(cls, path: str | Path, device: str = "cpu", settings: PredictSettings | None = None) -> Predictor:
        """Predictor of a trained network (needs torch); settings of its recipe unless given.

        Raises:
            InputError: the file is missing, damaged, or not Calipose's.
        """
        from calipose.backends.torch_backend import TorchBackend
        from calipose.model.checkpoint import load_checkpoint

        checkpoint = load_checkpoint(path)
        backend = TorchBackend(checkpoint.network(), checkpoint.skeleton, device)
        return cls(backend, settings or checkpoint.recipe.predict)

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses."""
        return self.backend.skeleton

    def predict(self, picture: Picture | str | Path) -> Poses:
        """Poses in one picture: an array (h, w, 3) RGB uint8, or a file.

        Raises:
            PictureError: the file cannot be read.
        """
        return next(self.predict_many([picture]))

    __call__ = predict

    def predict_many(self, pictures: Iterable[Picture | str | Path]) -> Iterator[Poses]:
        """Poses of pictures one by one, in order; a result never depends on the other pictures.

        Raises:
            PictureError: a file cannot be read.
        """
        for source in pictures:
            picture = source if isinstance(source, np.ndarray) else read_picture(source)
            yield self._predict_one(picture)

    def _predict_one(self, picture: Picture) -> Poses:
        settings = self.settings
        image, inp_per_img = network_input(
            picture, settings.short_side, self.backend.pad_colour, settings.max_aspect
        )
        keypoints_inp, scores = self.backend.candidates(image[None], settings.max_poses, settings.flip)
        good = scores[0] > settings.score_threshold
        keypoints_img = apply_affine(invert_affine(inp_per_img), keypoints_inp[0][good])
        kept = pose_nms(keypoints_img, scores[0][good], self.skeleton.sigmas_array, settings.nms_threshold)
        height, width = picture.shape[:2]
        return Poses(keypoints_img[kept], scores[0][good][kept], (width, height), skeleton=self.skeleton)
