"""Ctrl-C as a request to stop, so that work in hand is finished and saved."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def stop_requests(*signals: signal.Signals) -> Iterator[Callable[[], bool]]:
    """Turns the first of these signals into a request that the block looks for; a second Ctrl-C stops at once.

    Example:
        with stop_requests(signal.SIGINT) as stop_requested:
            for image in images:
                if stop_requested():
                    break

    Args:
        signals: SIGINT is Ctrl-C.

    Yields:
        A function that says whether one of the signals came.
    """
    asked = False

    def ask(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    try:
        old_handlers = {number: signal.signal(number, ask) for number in signals}
    except ValueError:  # not in the main thread: no signal arrives there
        yield lambda: False
        return
    try:
        yield lambda: asked
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
