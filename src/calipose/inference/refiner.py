"""The second look: a network for one person sees a crop of each pose, and gives its keypoints anew.

docs/second-look.md documents the form of the ONNX file, so that any network of one person can be one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calipose.calibration.second_look import MAX_SIZE, SecondLook
from calipose.errors import InputError
from calipose.geometry import AREA_PER_BOX, Floats, apply_affine, invert_affine, keypoint_similarity, pose_nms
from calipose.inference.backends.onnx import OnnxFile
from calipose.inference.packaged import THUNDER, packaged
from calipose.inference.scales import ScaleCandidates
from calipose.io.images import Image, warp
from calipose.skeleton import Skeleton

BATCH = 16  # crops that go through the network together
MIN_SIDE_IMG = 8.0  # of a crop, so that a pose whose keypoints coincide has one, too


class Refiner:
    """A network that finds one person's keypoints in a crop, as an ONNX file; needs no torch.

    The file's inputs are `crops` (b, size, size, 3) uint8 RGB and `keypoints` (b, k, 2) float32, the first pose in
    pixels of the crop (integer = pixel centre); the second may be missing. Its outputs are `refined` (b, k, 2), in the
    same frame, and `confidences` (b, k) in [0, 1]. Its metadata, under the key "calipose", is JSON with `skeleton` and
    `size`.

    Args:
        path: the file; "thunder" is MoveNet Thunder, which comes with the package.
        providers: of ONNX Runtime, as of `Predictor`.
        threads: of one network run; 0 for ONNX Runtime's own choice.

    Attributes:
        skeleton: of the keypoints.
        size: of a crop's sides, in pixels.

    Raises:
        InputError: the file is missing, damaged, or not of this form, or a provider is not there.

    Example:
        >>> refiner = Refiner("thunder")
        >>> keypoints_img, confidences = refiner.look(image, poses.keypoints_img)
    """

    def __init__(self, path: str | Path = THUNDER, providers: list[str] | None = None, threads: int = 0) -> None:
        path = packaged(f"{THUNDER}.onnx") if str(path) == THUNDER else path
        self._file = OnnxFile(path, providers, threads)
        header = self._file.header
        self.skeleton = Skeleton.from_dict(header.get("skeleton"), str(path))
        size = header.get("size")
        if not isinstance(size, int) or not 1 <= size <= MAX_SIZE:
            raise InputError(f"{path}: its metadata are not those of a refiner: 'size' is {ascii(size)[:80]}")
        self.size = int(size)
        inputs, outputs = set(self._file.inputs), set(self._file.outputs)
        if "crops" not in inputs or not inputs <= {"crops", "keypoints"} or not {"refined", "confidences"} <= outputs:
            raise InputError(
                f"{path}: a refiner takes 'crops' (and 'keypoints') and gives 'refined' and 'confidences'; "
                f"this file takes {sorted(inputs)} and gives {sorted(outputs)}"
            )
        self._sees_first_pose = "keypoints" in inputs

    def look(
        self, image: Image, keypoints_img: Floats, crop: float = 1.4, flip: bool = False, size: int = 0
    ) -> tuple[Floats, Floats]:
        """Keypoints of poses, seen anew.

        Args:
            image: (h, w, 3) RGB uint8.
            keypoints_img: (p, k, 2), the poses of the first look.
            crop: side of the square crop as a multiple of the longer side of the box around the keypoints.
            flip: average with the mirrored crops.
            size: of the crop's sides, in its own pixels; 0 is the network's own size.

        Returns:
            Keypoints (p, k, 2) in pixels of the image, and their confidences (p, k), 0 to 1.
        """
        size = size or self.size
        affines = [crop_affine(points, crop, size) for points in keypoints_img]
        found = [np.zeros((0, len(self.skeleton), 2))], [np.zeros((0, len(self.skeleton)))]
        for start in range(0, len(affines), BATCH):
            some = affines[start : start + BATCH]
            crops = np.stack([warp(image, affine, (size, size), (0, 0, 0)) for affine in some])
            first = np.stack([apply_affine(a, p) for a, p in zip(some, keypoints_img[start:], strict=False)])
            refined, confidences = self.run(crops, first)
            if flip:
                seen, seen_confidences = self._run_mirrored(crops, first)
                refined, confidences = (refined + seen) / 2, (confidences + seen_confidences) / 2
            found[0].append(np.stack([apply_affine(invert_affine(a), p) for a, p in zip(some, refined, strict=True)]))
            found[1].append(confidences)
        return np.concatenate(found[0]), np.concatenate(found[1])

    def run(self, crops: NDArray[np.uint8], keypoints_crop: Floats) -> tuple[Floats, Floats]:
        """Run the network on crops.

        Args:
            crops: (b, size, size, 3) RGB.
            keypoints_crop: (b, k, 2), the first poses in pixels of the crops.

        Returns:
            The poses `(b, k, 2)` in pixels of the crops, and the confidences `(b, k)`.

        Raises:
            InputError: the file cannot be run, or its outputs have other shapes or are not finite.
        """
        feeds: dict[str, Any] = {"crops": np.ascontiguousarray(crops)}
        if self._sees_first_pose:
            feeds["keypoints"] = keypoints_crop.astype(np.float32)
        refined, confidences = self._file.run(["refined", "confidences"], feeds)
        shape = (len(crops), len(self.skeleton))
        points = self._file.checked("refined", refined, (*shape, 2))
        sure = self._file.checked("confidences", confidences, shape)
        if not (np.isfinite(points).all() and np.isfinite(sure).all()):
            raise InputError(f"{self._file.path}: its outputs hold numbers that are not finite")
        return points, sure.clip(0, 1)

    def _run_mirrored(self, crops: NDArray[np.uint8], keypoints_crop: Floats) -> tuple[Floats, Floats]:
        order = list(self.skeleton.flip_index)
        last = np.array([crops.shape[2] - 1.0, 0.0])
        mirror = np.array([-1.0, 1.0])
        refined, confidences = self.run(crops[:, :, ::-1], last + mirror * keypoints_crop[:, order])
        return last + mirror * refined[:, order], confidences[:, order]


def crop_affine(keypoints_img: Floats, crop: float, size: int) -> Floats:
    """Affine (2, 3), crop pixels from image pixels, of the square around a pose.

    Args:
        keypoints_img: (k, 2).
        crop: side of the square as a multiple of the longer side of the keypoints' box.
        size: side of the crop in its own pixels.
    """
    low, high = keypoints_img.min(0), keypoints_img.max(0)
    scale = size / max(crop * float((high - low).max()), MIN_SIDE_IMG)
    # The middle of the box lies in the middle of the crop: pixel (size - 1) / 2.
    shift = (size - 1) / 2 - scale * (low + high) / 2
    return np.array([[scale, 0.0, shift[0]], [0.0, scale, shift[1]]])


@dataclass(frozen=True, eq=False)
class TwoLooks:
    """What both looks say of the poses of an image.

    Attributes:
        keypoints_img: (p, k, 2), of the second look; of the first where the second is not sure.
        first_keypoint_scores: (p, k), raw, of the first look; where it gives none, the pose's.
        confidences: (p, k), of the second look.
        agreement: (p, k), of both looks.
    """

    keypoints_img: Floats
    first_keypoint_scores: Floats
    confidences: Floats
    agreement: Floats


def see_twice(image: Image, first: ScaleCandidates, refiner: Refiner, second_look: SecondLook, flip: bool) -> TwoLooks:
    """Look again at poses; the arguments are those of `look_again`."""
    seen, confidences = refiner.look(image, first.keypoints_img, second_look.crop, flip, second_look.size)
    unsure = (confidences < second_look.min_confidence)[..., None]
    own = first.raw_scores[:, None] if first.raw_keypoint_scores is None else first.raw_keypoint_scores
    return TwoLooks(
        np.where(unsure, first.keypoints_img, seen),
        np.broadcast_to(own, confidences.shape),
        confidences,
        agreement(first.keypoints_img, seen, refiner.skeleton.sigmas_array),
    )


def look_again(
    image: Image, first: ScaleCandidates, refiner: Refiner, second_look: SecondLook, nms_threshold: float, flip: bool
) -> ScaleCandidates:
    """Poses seen a second time, with raw scores from both looks, after pose NMS and best first.

    Two poses may become the same: then one of them has jumped to its neighbour. The pose that the NMS would drop gets
    its first keypoints back, so nobody is lost who was seen at first.

    Args:
        image: (h, w, 3) RGB uint8.
        first: the poses of the first look, after pose NMS.
        refiner: the network for one person.
        second_look: how it looks, and what its result is worth.
        nms_threshold: of the pose NMS.
        flip: average with the mirrored crops.
    """
    both = see_twice(image, first, refiner, second_look, flip)
    raw = second_look.pose(first.raw_scores, both.confidences.mean(1), both.agreement.mean(1))
    raw_keypoints = second_look.keypoint(both.first_keypoint_scores, both.confidences, both.agreement)
    order = np.argsort(-raw, kind="stable")
    looked = ScaleCandidates(both.keypoints_img, raw, raw_keypoints, first.queries_img)[order]
    before = first.keypoints_img[order]
    sigmas = refiner.skeleton.sigmas_array
    kept = pose_nms(looked.keypoints_img, looked.raw_scores, sigmas, nms_threshold)
    back = np.ones(len(order), bool)
    back[kept] = False
    restored = ScaleCandidates(
        np.where(back[:, None, None], before, looked.keypoints_img),
        looked.raw_scores,
        looked.raw_keypoint_scores,
        looked.queries_img,
    )
    return restored[pose_nms(restored.keypoints_img, restored.raw_scores, sigmas, nms_threshold)]


def agreement(first_img: Floats, second_img: Floats, sigmas: Floats) -> Floats:
    """How far two looks at the same poses agree: exp(-d^2 / 2 s^2 k^2) of each keypoint, (p, k).

    Args:
        first_img: (p, k, 2).
        second_img: (p, k, 2), in the same frame.
        sigmas: (k,), the skeleton's.
    """
    area = AREA_PER_BOX * np.ptp(first_img, axis=1).prod(-1)
    return keypoint_similarity(((first_img - second_img) ** 2).sum(-1), area, sigmas)
