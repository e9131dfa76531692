"""Work in threads beside the caller's, a bounded number of items ahead of it, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def done_ahead(
    items: Iterable[Item], work: Callable[[Item], Outcome], number: int, threads: int = 1
) -> Iterator[tuple[Item, Outcome]]:
    """Each item with what `work` makes of it in another thread, in the items' order.

    The items are taken in the caller's thread. With one thread, `work` sees them one after the other, in order. What
    was begun is finished, also where the caller leaves early.

    Args:
        items: may be endless.
        work: what it raises comes to the caller in its item's turn.
        number: items that are taken before the first is needed.
        threads: that work.

    Example:
        for path, image in done_ahead(paths, read_image, number=2):
            predictor.predict(image)
    """
    waiting: deque[tuple[Item, Future[Outcome]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="calipose") as pool:
        for item in items:
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > number:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
