"""Work beside the caller: in order, bounded, finished where it was begun, errors in their turn."""

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from calipose.io.ahead import done_ahead


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


def test_what_was_begun_is_finished() -> None:
    begun = []
    results = done_ahead(count(), begun.append, 2)
    next(results)
    results.close()
    assert begun == [0, 1, 2]
