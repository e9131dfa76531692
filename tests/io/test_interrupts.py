"""Signals become requests to stop; a second Ctrl-C stops at once, and old handlers come back."""

import os
import signal
import threading

import pytest

from calipose.io.interrupts import stop_requests


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request(first: signal.Signals) -> None:
    old = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with stop_requests(signal.SIGINT, signal.SIGTERM) as stop_requested:
        assert not stop_requested()
        os.kill(os.getpid(), first)
        assert stop_requested()
        os.kill(os.getpid(), signal.SIGTERM)  # a scheduler may send it again
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == old


def test_threads_get_no_signals() -> None:
    answers = []

    def ask() -> None:
        with stop_requests(signal.SIGINT) as stop_requested:
            answers.append(stop_requested())

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert answers == [False]


def test_it_works_where_ctrl_c_was_ignored() -> None:
    """A background shell starts its commands with SIGINT ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stop_requests(signal.SIGINT) as stop_requested:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop_requested()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
