"""Runs the network for many requests: a queue of bounded length, threads, and batches of what waits."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from calipose.errors import CaliposeError
from calipose.inference.predictor import Predictor
from calipose.io.images import Image
from calipose.poses import Poses
from calipose.serve.refusal import Refusal
from calipose.serve.settings import ServeSettings

T = TypeVar("T")
_END = None


class Engine:
    """Threads that predict, and those that decode and draw beside them.

    Args:
        predictor: is called from several threads at once.
        settings: `concurrency`, `batch_size` and `queue`.

    Attributes:
        waiting: images that are admitted and not yet done.
    """

    def __init__(self, predictor: Predictor, settings: ServeSettings) -> None:
        self.predictor, self.settings = predictor, settings
        self.waiting = 0
        self._jobs: queue.SimpleQueue[tuple[Image, Future[Poses]] | None] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(settings.concurrency + 1, "calipose-images")
        # Decoded images are large: only so many are held at once.
        self._held = asyncio.Semaphore(settings.concurrency * settings.batch_size + 1)
        self._threads = [
            threading.Thread(target=self._work, name=f"calipose-network-{i}", daemon=True)
            for i in range(settings.concurrency)
        ]
        for thread in self._threads:
            thread.start()

    def admit(self, images: int) -> None:
        """Count images as waiting; `leave` uncounts them.

        Raises:
            Refusal: the queue is full.
        """
        if self.waiting and self.waiting + images > self.settings.queue + self.settings.concurrency:
            raise Refusal(429, f"{self.waiting} images wait already; try again in a moment", retry_seconds=1)
        self.waiting += images

    def leave(self, images: int) -> None:
        """The images of `admit` are done."""
        self.waiting -= images

    async def run(self, decode: Callable[[], Image], finish: Callable[[Image, Poses], T]) -> T:
        """Decode an image, find its poses, and make something of both.

        Args:
            decode: gives the image; called in a thread.
            finish: takes the image and its poses; called in a thread.
        """
        loop = asyncio.get_running_loop()
        async with self._held:
            image = await loop.run_in_executor(self._pool, decode)
            found: Future[Poses] = Future()
            self._jobs.put((image, found))
            poses = await asyncio.wrap_future(found)
            return await loop.run_in_executor(self._pool, finish, image, poses)

    def close(self) -> None:
        """End the threads when they have done what they are at."""
        for _ in self._threads:
            self._jobs.put(_END)
        self._pool.shutdown(wait=False)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not _END:
            batch = [job]
            while len(batch) < self.settings.batch_size:
                try:
                    more = self._jobs.get_nowait()
                except queue.Empty:
                    break
                if more is _END:
                    self._jobs.put(_END)
                    break
                batch.append(more)
            self._predict([(image, found) for image, found in batch if found.set_running_or_notify_cancel()])

    def _predict(self, batch: list[tuple[Image, Future[Poses]]]) -> None:
        try:
            results = list(self.predictor.predict_many([image for image, _ in batch], len(batch) or 1))
        except Exception as error:
            if len(batch) > 1 and isinstance(error, CaliposeError | MemoryError):
                for one in batch:  # whose image it was shows when each goes alone
                    self._predict([one])
                return
            for _, found in batch:
                found.set_exception(error)
            return
        for (_, found), poses in zip(batch, results, strict=True):
            found.set_result(poses)
