"""A network that is right: the maps that targets describe, for tests of what comes before and after them."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from calipose.config.method import Method
from calipose.config.settings import LossSettings
from calipose.model.head import Head, Maps
from calipose.training.targets import Targets, make_targets, score_label

METHOD = Method(label="gaussian", kqe=False, pose_query="none", keypoint_width=1, instance_width=1)


class StubNetwork(nn.Module):
    """Stands for a `Network`: gives the maps that `maps_of` says of a batch, and reads poses off them as a head does.

    Without KQE the head's displacements are those of the map, so they can be written down.
    """

    def __init__(self, maps_of: Callable[[Tensor], Maps], keypoints: int = 17) -> None:
        super().__init__()
        self.maps_of = maps_of
        self.head = Head((1, 1, 1, 1), keypoints, METHOD)
        self.register_buffer("mean", torch.tensor([124.0, 116.0, 104.0]).view(1, 3, 1, 1))

    def encode(self, images: Tensor) -> Maps:
        return self.maps_of(images)


def spread_people(centers_cell: Sequence[Sequence[float]], seed: int = 0, spread: float = 5.0) -> Tensor:
    """Keypoints (1, p, 17, 2) in input pixels of people whose keypoints' mean is the given centre, exactly."""
    generator = torch.Generator().manual_seed(seed)
    offsets = (torch.rand(1, len(centers_cell), 17, 2, generator=generator, dtype=torch.float64) - 0.5) * 2 * spread
    offsets -= offsets.mean(2, keepdim=True)
    cells = torch.tensor(centers_cell, dtype=torch.float64).view(1, -1, 1, 2) + offsets
    return cells * 4 + 1.5


def targets_of(
    keypoints_inp: Tensor,
    labelled: Tensor | None = None,
    area_inp: Tensor | float = 1600.0,
    size: tuple[int, int] = (32, 32),
    ignore: Tensor | None = None,
    settings: LossSettings | None = None,
) -> Targets:
    """Targets on a map of `size` (height, width) cells; everything labelled and nothing ignored unless said."""
    b, p, k = keypoints_inp.shape[:3]
    labelled = torch.ones(b, p, k, dtype=torch.bool) if labelled is None else labelled
    area = torch.as_tensor(area_inp, dtype=keypoints_inp.dtype).expand(b, p)
    ignore = torch.zeros(b, *size, dtype=torch.bool) if ignore is None else ignore
    return make_targets(keypoints_inp, labelled, area, ignore, settings or LossSettings())


def exact_displacements(targets: Targets) -> Tensor:
    """(b, k, 2, h, w): from every cell of an Omega to its person's keypoints, 0 elsewhere."""
    b, h, w = targets.owner.shape
    person = targets.owner.clamp(min=0).flatten(1)[..., None, None]
    truth = targets.keypoints.gather(1, person.expand(-1, -1, *targets.keypoints.shape[2:]))
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    displacement = truth - torch.stack([x, y], -1).view(1, -1, 1, 2)
    displacement = displacement * (targets.owner.flatten(1) >= 0)[..., None, None]
    return displacement.permute(0, 2, 3, 1).reshape(b, -1, 2, h, w)


def plain_maps(score: Tensor, displacement: Tensor, quality: Tensor | None = None) -> Maps:
    """Maps of a network without KQE."""
    return Maps(score=score, quality=quality, displacement=displacement, keypoint=None, features=torch.zeros(0))


def ideal_maps(targets: Targets, score: Tensor | None = None) -> Maps:
    """The maps of a network that is right; its score is the Gaussian label unless given."""
    if score is None:
        no_oks = targets.keypoints.new_zeros(targets.inside.shape)
        score = score_label(targets, no_oks, "gaussian", 4.0)
    return plain_maps(score, exact_displacements(targets))
