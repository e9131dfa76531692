"""Several copies of a predictor: in order, bit for bit what one gives, at the same time, errors in their turn."""

import threading

import numpy as np
import pytest

from calipose.calibration.maps import Calibration
from calipose.config.settings import PredictSettings
from calipose.data.synthetic.scene import EASY, synthesize_scene
from calipose.errors import InputError
from calipose.inference.backends.base import BatchCandidates
from calipose.inference.pool import PredictorPool, threads_each
from calipose.inference.predictor import Predictor
from calipose.skeleton import COCO_17


class Meeting:
    """Answers when as many threads ask as there are copies; the brightness of an image is its score."""

    skeleton, pad_colour = COCO_17, (0, 0, 0)
    settings, calibration = PredictSettings(short_side=32), Calibration()

    def __init__(self, together: int) -> None:
        self.barrier = threading.Barrier(together)

    def __deepcopy__(self, _: object) -> "Meeting":
        copied = Meeting(1)
        copied.barrier = self.barrier
        return copied

    def candidates(self, images: np.ndarray, max_poses: int, flip: bool) -> BatchCandidates:
        self.barrier.wait(20)
        scores = images[:, 0, 0, :1] / 255
        if (images == 255).any():
            raise InputError("the model is damaged")
        return BatchCandidates(np.zeros((len(images), 1, 17, 2)), scores)


def greys(*values: int) -> list[np.ndarray]:
    return [np.full((32, 32, 3), value, np.uint8) for value in values]


def test_copies_predict_at_the_same_time_and_results_come_in_order() -> None:
    pool = PredictorPool(Predictor(Meeting(3)), 3)
    found = [round(255 * poses.scores[0]) for poses in pool.predict_many(greys(90, 80, 120, 110, 70, 100))]
    assert found == [90, 80, 120, 110, 70, 100]


def test_an_error_comes_after_the_images_before_it() -> None:
    pool = PredictorPool(Predictor(Meeting(2)), 2)
    results = pool.predict_many(greys(90, 80, 255, 110))
    assert [round(255 * next(results).scores[0]) for _ in range(2)] == [90, 80]
    with pytest.raises(InputError, match="damaged"):
        next(results)


def test_what_is_no_sequence_of_images_is_refused() -> None:
    pool = PredictorPool(Predictor(Meeting(1)), 1)
    with pytest.raises(InputError, match="it takes several images"):
        next(pool.predict_many(greys(90)[0]))
    with pytest.raises(InputError, match="batch_size 0"):
        next(pool.predict_many(greys(90), 0))


@pytest.mark.parametrize("batch_size", [1, 3])
def test_numbers_are_those_of_one_predictor(batch_size: int) -> None:
    rng = np.random.default_rng(0)
    sizes = [(96, 64), (96, 64), (64, 96), (80, 80), (96, 64)]
    images = [synthesize_scene(rng, size, EASY).image for size in sizes]
    predictor = Predictor("accurate", threads=1).with_settings(short_side=64, score_threshold=0.05)
    alone = list(predictor.predict_many(images, batch_size))
    together = list(PredictorPool(predictor, 2).predict_many(images, batch_size))
    assert sum(map(len, alone)) > 3
    for one, other in zip(alone, together, strict=True):
        assert one.to_dict() == other.to_dict()


def test_copies_share_the_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calipose.inference.pool.os.sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert [threads_each(workers) for workers in (1, 2, 3, 8, 20)] == [8, 4, 2, 1, 1]
    with pytest.raises(InputError, match="workers 0"):
        PredictorPool(Predictor(Meeting(1)), 0)
