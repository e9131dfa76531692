"""Batches are the same whatever prepares them, and every process gets its share."""

import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from calipose.config.settings import AugmentSettings
from calipose.data.augment import Sample, augment
from calipose.data.store import KeypointData, Labels, Ragged
from calipose.errors import ImageError, InputError
from calipose.skeleton import COCO_17
from calipose.training.loader import collate, training_batches
from calipose.training.order import EpochBatches
from calipose.training.samples import ImageCache, TrainingImages, read_stored

PAD = (124, 116, 104)
PEOPLE = (2, 0, 1, 3, 1, 1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> KeypointData:
    """Six small images with 2, 0, 1, 3, 1 and 1 people."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    n, m = len(PEOPLE), sum(PEOPLE)
    names = []
    for i in range(n):
        names.append(np.frombuffer(f"{i}.png".encode(), np.uint8))
        assert cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 255, (48, 64, 3), np.uint8))
    box = np.array([[5, 5], [50, 5], [50, 40], [5, 40], [5, 5]], np.float32)
    return KeypointData(
        skeleton=COCO_17,
        folders=(folder,),
        folder=np.zeros(n, np.uint16),
        names=Ragged.from_rows(names, np.zeros(0, np.uint8)),
        image_ids=np.arange(n) + 100,
        sizes=np.full((n, 2), (64, 48), np.int32),
        people_complete=np.ones(n, bool),
        person_start=np.cumsum([0, *PEOPLE]),
        keypoints_img=rng.uniform(20, 40, (m, 17, 2)).astype(np.float32),
        visibility=np.full((m, 17), 2, np.uint8),
        area_img=np.full(m, 300, np.float32),
        annotation_ids=np.arange(m),
        outlines_img=Ragged.from_rows([box] * m, np.zeros((0, 2), np.float32)),
        region_start=np.zeros(n + 1, np.int64),
        regions_img=Ragged.from_rows([], np.zeros((0, 2), np.float32)),
    )


def images(data: KeypointData, **kwargs: object) -> TrainingImages:
    settings = AugmentSettings(mosaic=0.3)
    return TrainingImages(data, 64, settings, PAD, seed=5, **kwargs)  # type: ignore[arg-type]


def equal(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in Sample.__dataclass_fields__)


def test_collate(data: KeypointData) -> None:
    plain = TrainingImages(data, 64, AugmentSettings.none(), PAD, seed=0)
    batch = collate([plain[0, i] for i in range(4)])
    assert len(batch) == 4
    shapes = {name: tuple(getattr(batch, name).shape) for name in batch.__dataclass_fields__}
    assert shapes == {
        "images": (4, 64, 64, 3),
        "keypoints_inp": (4, 3, 17, 2),
        "labelled": (4, 3, 17),
        "area_inp": (4, 3),
        "ignore_cell": (4, 16, 16),
        "index": (4,),
    }
    types = [getattr(batch, name).dtype for name in batch.__dataclass_fields__]
    assert types == [torch.uint8, torch.float32, torch.bool, torch.float32, torch.bool, torch.int64]
    assert batch.labelled.any(-1).sum(1).tolist() == [2, 0, 1, 3]
    assert batch.index.tolist() == [0, 1, 2, 3]
    assert collate([plain[0, 1]]).labelled.shape == (1, 1, 17), "at least one, padded person"
    assert batch.to("meta").images.device.type == "meta"


def test_a_sample_depends_on_seed_epoch_and_draw_only(data: KeypointData) -> None:
    one, two = images(data), images(data, read=ImageCache(data))
    for key in ((0, 3), (1, 3), (0, 9), (7, 0)):
        first = one[key]
        one[0, 1]
        assert equal(first, one[key])
        assert equal(first, two[key])
    assert not equal(one[0, 3], one[1, 3])
    assert not equal(one[0, 3], one[0, 9]), "another look at the same image"
    other = TrainingImages(data, 64, AugmentSettings(), PAD, seed=6)
    assert not equal(one[0, 3], other[0, 3])


@pytest.mark.parametrize(("n", "batch_size", "world_size"), [(23, 4, 1), (23, 4, 2), (40, 5, 4), (8, 8, 1)])
def test_every_process_gets_equally_many_and_other_images(n: int, batch_size: int, world_size: int) -> None:
    parts = [list(EpochBatches(n, batch_size, 1, 2, rank, world_size)) for rank in range(world_size)]
    steps = n // (batch_size * world_size)
    assert all(len(part) == steps for part in parts)
    drawn = [key for part in parts for batch in part for key in batch]
    assert all(len(batch) == batch_size for part in parts for batch in part)
    assert len(set(drawn)) == len(drawn) == steps * batch_size * world_size
    assert {epoch for epoch, _ in drawn} == {2}
    # The processes together take what one process with the large batch takes, step by step.
    alone = list(EpochBatches(n, batch_size * world_size, 1, 2))
    assert [[key for part in parts for key in part[step]] for step in range(steps)] == alone


def test_epochs_and_seeds_differ_and_a_resumed_epoch_goes_on() -> None:
    assert list(EpochBatches(20, 4, 0, 0)) == list(EpochBatches(20, 4, 0, 0))
    orders = {str([i for batch in EpochBatches(20, 4, s, e) for _, i in batch]) for s in (0, 1) for e in (0, 1)}
    assert len(orders) == 4
    whole, rest = list(EpochBatches(20, 4, 0, 3)), EpochBatches(20, 4, 0, 3, start_step=2)
    assert list(rest) == whole[2:]
    assert len(rest) == 3
    assert len(EpochBatches(20, 4, 0, 3, start_step=9)) == 0


@pytest.mark.parametrize(
    ("repeats", "length"),
    [([1] * 6, 6), ([3, 3, 0, 0, 1, 1], 8), ([0.5] * 6, 3), ([2.5, 1.25, 0, 0.1, 1, 1.2], 6)],
)
def test_repeats(repeats: list[float], length: int) -> None:
    counts = np.zeros(6)
    for epoch in range(400):
        drawn = [draw for batch in EpochBatches(repeats, 1, 0, epoch) for _, draw in batch]
        assert len(drawn) == length
        assert len(set(drawn)) == length, "no draw twice, so no augmentation twice"
        times = np.bincount(np.array(drawn) % 6, minlength=6)
        assert (times >= np.floor(repeats) - (sum(repeats) > length)).all()
        assert (times <= np.ceil(repeats)).all()
        counts += times
    if sum(repeats) == length:
        assert np.allclose(counts / 400, repeats, atol=0.12)


@pytest.mark.parametrize("repeats", [3, [], [-1, 5, 5], [float("nan")] * 9, [[1.0] * 9]])
def test_epochs_that_cannot_be(repeats: object) -> None:
    with pytest.raises(InputError):
        EpochBatches(repeats, 4, 0, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_give_what_the_threads_give(data: KeypointData, workers: int) -> None:
    source = images(data)
    threads = list(training_batches(source, EpochBatches([3] * 6, 4, 0, 1)))
    processes = list(training_batches(source, EpochBatches([3] * 6, 4, 0, 1), workers))
    assert len(threads) == len(processes) == 4
    for a, b in zip(threads, processes, strict=True):
        assert all(torch.equal(getattr(a, name), getattr(b, name)) for name in a.__dataclass_fields__)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(data: KeypointData, workers: int, tmp_path: Path) -> None:
    broken = tmp_path / "3.png"
    for i in (0, 1, 2, 4, 5):
        (tmp_path / f"{i}.png").write_bytes(data.image_path(i).read_bytes())
    broken.write_bytes(data.image_path(3).read_bytes()[:100])
    moved = TrainingImages(replace(data, folders=(tmp_path,)), 64, AugmentSettings(), PAD, seed=0)
    with pytest.raises(ImageError, match=r"3\.png"):
        list(training_batches(moved, EpochBatches(6, 2, 0, 0), workers))


def test_an_image_of_another_size_is_named(data: KeypointData) -> None:
    wrong = replace(data, sizes=np.full((6, 2), (48, 64), np.int32))
    with pytest.raises(ImageError, match=r"0\.png has 64 x 48 pixels, its annotation file says 48 x 64"):
        images(wrong)[0, 0]
    with pytest.raises(ImageError, match="64 x 48"):
        ImageCache(wrong)


def test_a_cache_belongs_to_its_data(data: KeypointData) -> None:
    with pytest.raises(InputError, match="another data set"):
        images(data.subset([0, 1]), read=ImageCache(data))[0, 0]


def test_partners_in_a_mosaic_are_drawn_as_often_as_images(data: KeypointData) -> None:
    read: list[int] = []

    def noted(data: KeypointData, index: int) -> np.ndarray:
        read.append(index)
        return read_stored(data, index)

    def partners(repeats: list[float] | None) -> np.ndarray:
        source = TrainingImages(data, 32, AugmentSettings(mosaic=1), PAD, seed=0, read=noted, repeats=repeats)
        read.clear()
        for draw in range(200):
            source[0, draw]
        assert read[::4] == [draw % 6 for draw in range(200)]
        return np.bincount(np.reshape(read, (-1, 4))[:, 1:].ravel(), minlength=6) / 600

    assert np.abs(partners(None) - 1 / 6).max() < 0.06
    assert np.abs(partners([0.5, 0, 0, 1.5, 0, 0]) - [0.25, 0, 0, 0.75, 0, 0]).max() < 0.06
    with pytest.raises(InputError, match="5 repeats for 6 images"):
        partners([1] * 5)
    with pytest.raises(InputError, match="finite and not negative"):
        partners([-1] * 6)


@pytest.mark.parametrize(("share", "expected"), [(0, {(64, 40.0)}), (1, {(32, 20.0)})])
def test_a_mosaic_s_images_are_shifted_by_half(
    data: KeypointData, monkeypatch: pytest.MonkeyPatch, share: float, expected: set[tuple[int, float]]
) -> None:
    seen = set()

    def noted(image: np.ndarray, labels: Labels, size: int, settings: AugmentSettings, *rest: Any) -> Sample:
        seen.add((size, settings.shift_inp))
        return augment(image, labels, size, settings, *rest)

    monkeypatch.setattr("calipose.training.samples.augment", noted)
    TrainingImages(data, 64, AugmentSettings(mosaic=share, shift_inp=40), PAD, seed=0)[0, 0]
    assert seen == expected


def test_workers_leave_signals_to_the_parent(data: KeypointData) -> None:
    batches = training_batches(images(data), EpochBatches([8] * 6, 4, 0, 0), workers=1)
    number = 1
    next(batches)
    for worker in multiprocessing.active_children():
        for sent in (signal.SIGTERM, signal.SIGINT):
            os.kill(worker.pid or 0, sent)
    number += len(list(batches))
    assert number == 12


def test_stopping_early_leaves_nothing_running(data: KeypointData) -> None:
    batches = training_batches(images(data), EpochBatches([50] * 6, 4, 0, 0))
    next(batches)
    batches.close()  # type: ignore[attr-defined]


def test_size_must_fit_the_network(data: KeypointData) -> None:
    with pytest.raises(InputError, match="multiple of 32"):
        TrainingImages(data, 100, AugmentSettings(), PAD, seed=0)
