"""The backend that runs a network in PyTorch."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.geometry import Floats
from calipose.inference.backends.base import BatchCandidates
from calipose.model.decode import find_candidates
from calipose.model.device import choose_device
from calipose.model.network import Network
from calipose.skeleton import Skeleton


class TorchBackend:
    """A `Network` on one device.

    The network is moved to the device and put into evaluation mode here, once; who trains it further sets its mode
    back.

    Args:
        network: the network itself, not a copy.
        skeleton: of its poses.
        device: "cpu", "cuda", ...
        precision: "fp32" or "bf16", as in recipes.
        calibration: what its raw scores mean; by default nothing is known of them.
        settings: of prediction; by default those of `PredictSettings`.

    Example:
        >>> backend = TorchBackend(checkpoint.network(), checkpoint.skeleton, "cuda")
        >>> poses = Predictor(backend).predict("photo.jpg")
    """

    def __init__(
        self,
        network: Network,
        skeleton: Skeleton,
        device: str | torch.device = "cpu",
        precision: str = "fp32",
        calibration: Calibration | None = None,
        settings: PredictSettings | None = None,
    ) -> None:
        self.network = network.to(device=device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        self.skeleton = skeleton
        r, g, b = (round(float(m)) for m in network.mean.flatten())
        self.pad_colour = (r, g, b)
        self.device = torch.device(device)
        self.precision = precision
        self.calibration = calibration or Calibration()
        self.settings = settings or PredictSettings()

    def __getstate__(self) -> dict[str, Any]:
        """The network on the CPU, so that a process without the device can say so."""
        return {**self.__dict__, "network": copy.deepcopy(self.network).cpu(), "device": str(self.device)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Put the network on the device again.

        Raises:
            InputError: there is no such device in this process.
        """
        self.__dict__.update(state)
        self.device = torch.device(choose_device(state["device"]))
        self.network = self.network.to(device=self.device, memory_format=torch.channels_last)

    def candidates(self, images: NDArray[np.uint8], max_poses: int, flip: bool) -> BatchCandidates:
        """See `Backend.candidates`."""
        batch = torch.from_numpy(np.ascontiguousarray(images)).to(self.device)
        index = self.skeleton.flip_index.tolist() if flip else None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            found = find_candidates(self.network, batch, max_poses, index)
        return BatchCandidates(
            _floats(found.keypoints_inp),
            _floats(found.scores),
            None if found.keypoint_scores is None else _floats(found.keypoint_scores),
            None if found.queries_inp is None else _floats(found.queries_inp),
        )


def _floats(values: Tensor) -> Floats:
    array: Floats = values.double().cpu().numpy()
    return array
