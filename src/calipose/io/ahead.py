"""Work in threads beside the caller's, a bounded number of items ahead of it, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from itertools import repeat
from typing import TypeVar

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


def done_ahead(
    items: Iterable[Item], work: Callable[[Item], Outcome], number: int, threads: int = 1
) -> Generator[tuple[Item, Outcome], None, None]:
    """Each item with what `work` makes of it in another thread, in the items' order.

    The items are taken in the caller's thread. With one thread, `work` sees them one after the other, in order. What
    was begun is finished, also where the caller leaves early.

    Args:
        items: may be endless; what they raise comes to the caller after the items before.
        work: what it raises comes to the caller in its item's turn.
        number: items that are taken before the first is needed.
        threads: that work.

    Example:
        for path, image in done_ahead(paths, read_image, number=2):
            predictor.predict(image)
    """
    waiting: deque[tuple[Item, Future[Outcome]]] = deque()
    problem: Exception | None = None
    coming = iter(items)
    with ThreadPoolExecutor(threads, thread_name_prefix="calipose") as pool:
        while True:
            try:
                item = next(coming)
            except StopIteration:
                break
            except Exception as error:
                problem = error
                break
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) > number:
                first, future = waiting.popleft()
                yield first, future.result()
        while waiting:
            first, future = waiting.popleft()
            yield first, future.result()
    if problem is not None:
        raise problem


def taken_ahead(items: Generator[Item, None, None], number: int) -> Generator[Item, None, None]:
    """The items of a generator that runs in another thread, in order.

    The generator is closed at its end, or where the caller leaves.

    Args:
        items: may be endless; what it raises comes to the caller after the items before it.
        number: items that are taken before the first is needed.

    Example:
        for frame in taken_ahead(source.frames(), number=2):
            predictor.predict(frame.image)
    """
    end = object()
    with closing(items), closing(done_ahead(repeat(None), lambda _: next(items, end), number)) as taken:
        for _, item in taken:
            if item is end:
                return
            yield item  # type: ignore[misc]
