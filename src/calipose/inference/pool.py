"""Several copies of a predictor that predict at the same time (no torch)."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from queue import SimpleQueue

from calipose.errors import InputError
from calipose.geometry import Floats
from calipose.inference.predictor import Predictor
from calipose.io.ahead import done_ahead
from calipose.io.images import Image
from calipose.io.still import several_images
from calipose.poses import Poses
from calipose.skeleton import Skeleton


class PredictorPool:
    """Predicts several images at the same time, each copy of the predictor in a thread of its own; results in order.

    Each copy opens its ONNX files again, with as many threads as the predictor's: a result is bit for bit what the
    predictor gives. Nothing is won with a checkpoint, since all networks of a process share torch's threads.

    Args:
        predictor: it is the first of the copies.
        workers: copies, at least 1.

    Raises:
        InputError: `workers` is below 1.

    Example:
        >>> pool = PredictorPool(Predictor(threads=2), workers=4)  # eight cores
        >>> for poses in pool.predict_many(images):
        ...     print(len(poses))
    """

    def __init__(self, predictor: Predictor, workers: int) -> None:
        if workers < 1:
            raise InputError(f"workers {workers}: name 1 or more")
        self.workers = workers
        self._first = predictor
        self._free: SimpleQueue[Predictor] = SimpleQueue()
        for one in [predictor, *(copy.deepcopy(predictor) for _ in range(workers - 1))]:
            self._free.put(one)

    @property
    def skeleton(self) -> Skeleton:
        """Skeleton of the poses."""
        return self._first.skeleton

    def predict_many(self, images: Iterable[Image], batch_size: int = 1) -> Iterator[Poses]:
        """Poses of images, in order; see `Predictor.predict_many`.

        Args:
            images: (h, w, 3) RGB uint8 each; they are taken in the caller's thread, at most `workers` + 1 batches
                ahead.
            batch_size: images of equal size after padding that a copy predicts together.

        Raises:
            InputError: one image instead of several, or a batch size below 1.
        """
        taken = several_images(images, batch_size)
        batches = iter(lambda: list(islice(taken, batch_size)), [])
        for _, poses in done_ahead(batches, self._predict, self.workers, self.workers):
            yield from poses

    def predict_with_queries(self, image: Image) -> tuple[Poses, Floats | None]:
        """Poses and queries of one image; see `Predictor.predict_with_queries`."""
        return self._first.predict_with_queries(image)

    def _predict(self, images: list[Image]) -> list[Poses]:
        predictor = self._free.get()
        try:
            return list(predictor.predict_many(images, len(images)))
        finally:
            self._free.put(predictor)


def threads_each(workers: int) -> int:
    """Threads of each of several workers that share this process's CPUs, at least 1."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cpus // workers)
