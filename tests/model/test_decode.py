"""Decoding: peaks of the score map, the poses there, the mirror, and that nothing depends on the batch."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from calipose.config.method import Method
from calipose.config.settings import AugmentSettings, LossSettings
from calipose.data.augment import augment
from calipose.data.store import Labels
from calipose.data.synthetic.scene import EASY, HARD, synthesize_scene
from calipose.geometry import pose_nms
from calipose.model.decode import PEAK_WINDOW, final_score, find_candidates, find_peaks
from calipose.model.head import Maps
from calipose.model.network import Network
from calipose.skeleton import COCO_17
from calipose.training.loader import collate
from calipose.training.targets import make_targets, oks_of_cells, score_label
from ideal_maps import StubNetwork, ideal_maps, plain_maps, spread_people, targets_of

FLIP = COCO_17.flip_index.tolist()
IMAGE = torch.zeros(1, 128, 128, 3, dtype=torch.uint8)


def peaks_by_loops(score: np.ndarray) -> list[tuple[float, int, int]]:
    h, w = score.shape
    reach = PEAK_WINDOW // 2
    found = []
    for y in range(h):
        for x in range(w):
            window = score[max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            if score[y, x] == window.max():
                found.append((float(score[y, x]), x, y))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("most", [3, 30])
@pytest.mark.parametrize("seed", range(3))
def test_peaks_by_loops(seed: int, most: int) -> None:
    score = torch.randn(2, 13, 17, generator=torch.Generator().manual_seed(seed))
    cells, values = find_peaks(score, most)
    assert cells.shape == (2, most, 2)
    for b in range(2):
        expected = peaks_by_loops(score[b].numpy())[:most]
        n = len(expected)
        found = [(v, *c) for v, c in zip(values[b].tolist(), cells[b].tolist(), strict=True)]
        assert found[:n] == [(pytest.approx(v), x, y) for v, x, y in expected]
        assert values[b, n:].eq(-torch.inf).all()
        assert (cells[b] >= 0).all()  # padding, too, lies on the map
        assert (cells[b] < torch.tensor([17, 13])).all()


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ({(0, 0): 1.0, (9, 7): 0.5}, [(0, 0), (9, 7)]),  # cells at the border
        ({(4, 4): 1.0, (6, 4): 0.9}, [(4, 4)]),  # 5 x 5: two cells apart, only the better
        ({(4, 4): 1.0, (6, 6): 0.9}, [(4, 4)]),
        ({(4, 4): 1.0, (7, 4): 0.9}, [(4, 4), (7, 4)]),  # three apart: both
        ({(4, 4): 1.0, (5, 4): 1.0, (5, 5): 1.0}, [(4, 4), (5, 4), (5, 5)]),  # a plateau: all, for the NMS
        ({(4, 4): 0.8, (6, 4): 0.9, (8, 4): 1.0}, [(8, 4)]),  # a slope has one top
        ({(4, 4): 1.0, (5, 4): 1.0 - 1e-6}, [(4, 4)]),  # almost equal is not equal
    ],
)
def test_what_a_peak_is(marks: dict[tuple[int, int], float], expected: list[tuple[int, int]]) -> None:
    score = torch.rand(1, 8, 10, generator=torch.Generator().manual_seed(0)) * 0.1
    for (x, y), value in marks.items():
        score[0, y, x] = value
    cells, values = find_peaks(score, 80)
    assert sorted(map(tuple, cells[0][values[0] > 0.2].tolist())) == sorted(expected)


def test_more_peaks_wished_than_cells() -> None:
    cells, values = find_peaks(torch.ones(1, 2, 3), 30)
    assert cells.shape == (1, 6, 2)
    assert values.tolist() == [[1.0] * 6]


@pytest.mark.parametrize(
    ("score", "quality", "product"),
    [(0.5, None, 0.5), (1.5, None, 1.5), (-0.5, None, -0.5), (0.5, 0.5, 0.25), (1.5, 0.5, 0.5), (0.5, -2.0, 0.0)],
)
def test_quality_multiplies(score: float, quality: float | None, product: float) -> None:
    branch = None if quality is None else torch.tensor(quality)
    assert final_score(torch.tensor(score), branch).item() == product


CENTERS = [(6.2, 7.4), (20.0, 5.0), (24.7, 25.1), (9.5, 22.5)]  # farther apart than two radii of Omega


def test_ideal_maps_give_the_people_back() -> None:
    keypoints = spread_people(CENTERS, seed=4).float()
    maps = ideal_maps(targets_of(keypoints))
    found = find_candidates(StubNetwork(lambda _: maps), IMAGE, 30)
    seen = found.scores[0] > 0
    # A person's score is the label of the cell nearest to the centre; the best comes first.
    apart = [(x - round(x)) ** 2 + (y - round(y)) ** 2 for x, y in CENTERS]
    label = torch.exp(-torch.tensor(apart) / (2 * 2.0**2))
    first = label.sort(descending=True, stable=True)
    expected_scores = first.values
    # CENTERS[3] lies in the middle of four cells, which are a plateau.
    assert found.scores[0][seen].unique().flip(0).tolist() == pytest.approx(expected_scores.tolist(), abs=1e-6)
    kept = pose_nms(found.keypoints_inp[0][seen], found.scores[0][seen], COCO_17.sigmas, 0.7)
    poses = found.keypoints_inp[0][seen][kept]
    assert len(poses) == len(CENTERS)
    assert (poses - keypoints[0][first.indices]).abs().max() < 1e-3


def test_cir_is_flat_over_a_person_that_is_right_and_each_cell_gives_their_pose() -> None:
    keypoints = spread_people([(8.3, 7.8)])
    targets = targets_of(keypoints)
    x, y = targets.cells[0].unbind(-1)
    at_cells = ideal_maps(targets).displacement[:, :, :, y, x].transpose(2, 3)
    score = score_label(targets, oks_of_cells(targets, at_cells, torch.tensor(COCO_17.sigmas)), "cir", 4.0)
    found = find_candidates(StubNetwork(lambda _: ideal_maps(targets, score)), IMAGE, 100)
    seen = found.scores[0] > 0
    assert seen.sum() == targets.inside.sum() > 40
    assert found.scores[0][seen].sub(1).abs().max() < 1e-6
    assert (found.keypoints_inp[0][seen] - keypoints[0]).abs().max() < 1e-3
    assert len(pose_nms(found.keypoints_inp[0][seen], found.scores[0][seen], COCO_17.sigmas, 0.7)) == 1


def test_where_two_omegas_overlap_the_nearest_center_wins() -> None:
    keypoints = spread_people([(8, 8), (12, 8)], seed=1)
    displacement = ideal_maps(targets_of(keypoints)).displacement
    score = torch.zeros(1, 32, 32)
    for value, cell in enumerate([(5, 8), (9, 8), (11, 9), (15, 8)], start=1):
        score[0, cell[1], cell[0]] = value
    maps = plain_maps(score, displacement)
    found = find_candidates(StubNetwork(lambda _: maps), IMAGE, 100)
    owners = {}
    for value in (1, 2, 3, 4):
        at = (found.scores[0] == value).nonzero()
        if len(at):
            pose = found.keypoints_inp[0, at[0, 0]]
            owners[value] = (keypoints[0] - pose).abs().amax((1, 2)).argmin().item()
            assert (keypoints[0, owners[value]] - pose).abs().max() < 1e-3
    assert owners == {1: 0, 3: 1, 4: 1}  # 2 lies within 5 x 5 of 3


@pytest.mark.parametrize(("preset", "seed"), [(EASY, 0), (EASY, 1), (EASY, 2), (HARD, 3), (HARD, 4)])
def test_from_augmented_image_to_pose_and_back(preset: object, seed: int) -> None:
    """Synthetic people -> augmentation -> targets -> ideal maps -> decoding: the keypoints of the sample."""
    scene = synthesize_scene(np.random.default_rng(seed), (320, 256), preset)
    known = Labels(
        scene.keypoints_img.astype(np.float32), scene.visibility > 0, scene.area.astype(np.float32),
        [np.zeros((0, 2), np.float32)] * len(scene.area), [], True, 0,
    )  # fmt: skip
    known = Labels(**{**vars(known), "labelled": known.labelled | (np.arange(17) == 5)})
    rng = np.random.default_rng(seed)
    sample = augment(scene.image, known, 256, AugmentSettings(), rng, (124, 116, 104), COCO_17)
    batch = collate([sample])
    targets = make_targets(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, LossSettings())
    found = find_candidates(StubNetwork(lambda _: ideal_maps(targets)), batch.images, 50)
    seen = found.scores[0] > 0
    assert seen.any()
    truth = torch.from_numpy(sample.keypoints_inp)
    labelled = torch.from_numpy(sample.labelled)
    apart = (found.keypoints_inp[0][seen][:, None] - truth).abs().amax(-1) * labelled  # (poses, people, k)
    person = apart.amax(-1).min(1)
    assert person.values.max() < 1e-3
    centers = torch.stack([p[v].mean(0) for p, v in zip(truth, labelled, strict=True)]) / 4
    distances = torch.cdist(centers, centers) + 99 * torch.eye(len(truth))
    alone = distances.amin(1) > 8
    assert set(alone.nonzero().flatten().tolist()) <= set(person.indices.tolist())


def mirrored(maps: Maps) -> Maps:
    displacement = maps.displacement.flip(-1)[:, FLIP] * torch.tensor([-1.0, 1.0]).view(1, 1, 2, 1, 1)
    quality = None if maps.quality is None else maps.quality.flip(-1)
    return plain_maps(maps.score.flip(-1), displacement, quality)


def seer(image: torch.Tensor, straight: Maps, in_mirror: Maps) -> Callable[[torch.Tensor], Maps]:
    """What a network says of an image and of its mirror image."""

    def encode(images: torch.Tensor) -> Maps:
        if torch.equal(images, image):
            return straight
        assert torch.equal(images, image.flip(2))
        return in_mirror

    return encode


def random_maps(seed: int, quality: bool = False, height: int = 16, width: int = 24) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    score = torch.rand(1, height, width, generator=generator)
    branch = torch.rand(1, height, width, generator=generator) if quality else None
    displacement = 5 * torch.randn(1, 17, 2, height, width, generator=generator)
    return plain_maps(score, displacement, branch)


ASYMMETRIC = torch.arange(64 * 96 * 3).remainder(251).to(torch.uint8).view(1, 64, 96, 3)


@pytest.mark.parametrize("quality", [False, True])
def test_the_mirror_changes_nothing_for_a_network_that_obeys_it(quality: bool) -> None:
    maps = random_maps(0, quality)
    network = StubNetwork(seer(ASYMMETRIC, maps, mirrored(maps)))
    once, twice = (find_candidates(network, ASYMMETRIC, 10, flip) for flip in (None, FLIP))
    assert (once.keypoints_inp - twice.keypoints_inp).abs().max() < 1e-4
    assert (once.scores - twice.scores).abs().max() < 1e-6


def test_the_mirror_averages() -> None:
    first, second = random_maps(1), random_maps(2)
    network = StubNetwork(seer(ASYMMETRIC, first, mirrored(second)))
    both = find_candidates(network, ASYMMETRIC, 10, FLIP)
    mean = plain_maps((first.score + second.score) / 2, (first.displacement + second.displacement) / 2)
    expected = find_candidates(StubNetwork(lambda _: mean), ASYMMETRIC, 10)
    assert (both.keypoints_inp - expected.keypoints_inp).abs().max() < 1e-4
    assert (both.scores - expected.scores).abs().max() < 1e-6


@pytest.mark.parametrize("flip", [None, FLIP], ids=["plain", "flip"])
@pytest.mark.parametrize("method", [Method(keypoint_width=4), Method(keypoint_width=4, pose_query="keypoint")])
def test_an_image_does_not_depend_on_its_batch(method: Method, flip: list[int] | None) -> None:
    torch.manual_seed(0)
    network = Network("mobilenetv2-0.1", 17, method).eval()
    for parameter in network.head.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    images = torch.randint(0, 255, (3, 160, 192, 3), dtype=torch.uint8)
    together = find_candidates(network, images, 8, flip)
    for i in range(3):
        alone = find_candidates(network, images[i : i + 1], 8, flip)
        good = alone.scores[0].isfinite()
        assert good.any()
        assert torch.equal(good, together.scores[i].isfinite())
        assert (alone.scores[0] - together.scores[i])[good].abs().max() < 1e-5
        assert (alone.keypoints_inp[0] - together.keypoints_inp[i])[good].abs().max() < 1e-3
    assert together.scores.isfinite().sum() > 9
    few = find_candidates(network, images, 3, flip)  # fewer wished: the same best ones
    assert torch.equal(few.scores, together.scores[:, :3])
    assert (few.keypoints_inp - together.keypoints_inp[:, :3]).abs().max() < 1e-4


@pytest.mark.parametrize("flip", [None, FLIP], ids=["plain", "flip"])
def test_queries_are_those_of_the_poses(flip: list[int] | None) -> None:
    torch.manual_seed(0)
    network = Network("mobilenetv2-0.1", 17, Method(keypoint_width=4)).eval()
    image = torch.randint(0, 255, (1, 96, 96, 3), dtype=torch.uint8)
    found = find_candidates(network, image, 4, flip)
    assert found.queries_inp is not None
    with torch.no_grad():
        maps = network.encode(image)
        cells = find_peaks(maps.score, 4)[0]
        expected = network.head.queries(maps, cells) * 4 + 1.5
    if flip is None:
        assert torch.equal(found.queries_inp, expected.transpose(1, 2))
    # Training starts with the keypoints at the queries: less than a cell of four pixels apart.
    good = found.scores[0].isfinite()
    assert (found.queries_inp - found.keypoints_inp)[0][good].abs().max() < 4.0
    assert find_candidates(StubNetwork(lambda _: random_maps(0)), ASYMMETRIC, 4).queries_inp is None
