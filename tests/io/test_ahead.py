"""Work beside the caller: in order, bounded, finished where it was begun, errors in their turn."""

import threading
from collections.abc import Generator, Iterator
from itertools import count

import pytest

from calipose.io.ahead import done_ahead, taken_ahead


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("number", [0, 2, 9])
def test_order_and_bound(number: int, threads: int) -> None:
    taken = []

    def items() -> Iterator[int]:
        for i in range(6):
            taken.append(i)
            yield i

    seen = []
    for item, outcome in done_ahead(items(), lambda i: (i * i, threading.current_thread()), number, threads):
        assert outcome[0] == item * item
        assert outcome[1] is not threading.current_thread()
        seen.append(item)
        assert len(taken) <= len(seen) + number
    assert seen == taken == list(range(6))


def test_an_error_comes_in_its_turn() -> None:
    results = done_ahead([4, 2, 0, 1], lambda i: 8 // i, 2)
    assert [next(results), next(results)] == [(4, 2), (2, 4)]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_an_error_of_the_items_comes_after_what_was_taken() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2, 3)
        raise ValueError("no more")

    results = done_ahead(items(), lambda i: 10 * i, 2)
    assert [next(results) for _ in range(3)] == [(1, 10), (2, 20), (3, 30)]
    with pytest.raises(ValueError, match="no more"):
        next(results)


def test_what_was_begun_is_finished() -> None:
    begun = []
    results = done_ahead(count(), begun.append, 2)
    next(results)
    results.close()
    assert begun == [0, 1, 2]


def numbers(end: int, log: list[object]) -> Generator[int, None, None]:
    """Numbers up to `end`, where it breaks; what happens is logged."""
    try:
        for i in range(end):
            log.append(threading.current_thread())
            yield i
        raise ValueError("broken")
    finally:
        log.append("closed")


def test_a_generator_runs_in_a_thread_in_order_and_its_error_comes_last() -> None:
    log: list[object] = []
    taken = taken_ahead(numbers(5, log), 2)
    assert [next(taken) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="broken"):
        next(taken)
    assert threading.current_thread() not in log
    assert log[-1] == "closed"
    assert list(taken_ahead((i for i in range(3)), 2)) == [0, 1, 2]


def test_a_generator_that_is_left_is_closed_and_not_run_further() -> None:
    log: list[object] = []
    taken = taken_ahead(numbers(100, log), 2)
    next(taken)
    taken.close()
    assert log[-1] == "closed"
    assert len(log) == 4  # one was needed, two ahead
