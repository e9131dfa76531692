"""What the commands print, where, and how they stop: the consoles, errors, progress, Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn, track
from rich.progress import Progress as Bar
from rich.text import Text
from typer.core import TyperGroup

from calipose.errors import CaliposeError, install_hint
from calipose.io.atomic import FULL, write_error
from calipose.io.interrupts import stop_requests

out = Console(highlight=False)  # results
err = Console(stderr=True, highlight=False)  # progress, warnings and errors

LINE_SECONDS = 30.0  # between progress lines where there is no terminal to draw a bar on
TORCH_PARTS = {"torch", "accelerate", "safetensors"}


class Commands(TyperGroup):
    """The commands; an error of the user's is one red message and exit code 1, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(ctx)
        except CaliposeError as error:
            say_error(str(error))
        except ModuleNotFoundError as error:
            if error.name not in TORCH_PARTS:
                raise
            say_error(f"this command needs {error.name}: {install_hint('train')}")
        except OSError as error:
            if error.errno not in FULL:
                raise
            say_error(str(write_error(error.filename or "standard output", error)))
        _give_up_unwritable_output()
        raise typer.Exit(1)


def _give_up_unwritable_output() -> None:
    """What standard output does not take is dropped; else Python tries again at its end, and complains again."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say_error(message: str) -> None:
    """Print a message in red; what looks like markup in it is none."""
    err.print(f"error: {message}", style="red", markup=False, soft_wrap=True)


def warn(message: str) -> None:
    """Print what a user should know, in yellow."""
    note(f"warning: {message}")


def note(message: str) -> None:
    """Print a message in yellow, on standard error, that is never wrapped."""
    err.print(message, style="yellow", markup=False, soft_wrap=True)


def say(message: str, style: str | None = None) -> None:
    """Print one line that is never wrapped, so that a path in it can be copied."""
    out.print(message, style=style, markup=False, soft_wrap=True)


def counted(number: int, one: str, many: str = "") -> str:
    """A number with its word, as in 1 pose and 2 poses; `many` for plurals that do not end in s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def examples(*lines: str) -> str:
    """The end of a help screen."""
    return "\n".join(["[bold]Examples[/bold]", *(f"[cyan]{line}[/cyan]" for line in lines)])


def progress_over(what: str, quiet: bool) -> Callable[[list[Any]], Iterable[Any]]:
    """Wraps a list of images in a progress bar; shows none if `quiet`, or where standard error is no terminal."""

    def over(items: list[Any]) -> Iterable[Any]:
        return track(items, what, console=err, disable=quiet or not err.is_terminal, transient=True)

    return over


class Progress:
    """How far a prediction is, on standard error: a bar on a terminal, elsewhere a line every 30 seconds.

    Args:
        total: images and frames to come, as far as known; None for a webcam, which has no end.
        quiet: show nothing.
        bar: a bar may be drawn if standard error is a terminal.
    """

    def __init__(self, total: int | None, quiet: bool = False, bar: bool = True) -> None:
        self.completed, self.total, self._quiet = 0, total, quiet
        self._begun = self._said = time.monotonic()
        self._bar: Bar | None = None
        if bar and not quiet and err.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _RateColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("left"),
            )
            self._bar = Bar(*columns, console=err, transient=True, redirect_stdout=False)
            self._task = self._bar.add_task("", total=total)

    def name(self, text: str) -> None:
        """Show the name of what is being read."""
        if self._bar is not None:
            self._bar.update(self._task, description=text if len(text) <= 24 else f"...{text[-21:]}")

    def say(self, message: str) -> None:
        """`say`, but above the bar where there is one on the same terminal."""
        if self._bar is not None and out.is_terminal:
            err.print(message, markup=False, soft_wrap=True)
        else:
            say(message)

    def advance(self, more: int = 1) -> None:
        """Count images or frames that are done."""
        self.completed += more
        if self._bar is not None:
            self._bar.update(self._task, completed=self.completed)
        elif not self._quiet and time.monotonic() - self._said > LINE_SECONDS:
            self._said = time.monotonic()
            speed = self.completed / (self._said - self._begun)
            whole = "" if self.total is None else f"/{self.total}"
            left = "" if self.total is None else f"  {_duration((self.total - self.completed) / speed)} left"
            err.print(f"{self.completed}{whole}  {_rate(speed)}{left}", markup=False, soft_wrap=True)

    def expect(self, more: int) -> None:
        """Correct the total: so many more are to come than expected, or fewer if negative."""
        if self.total is not None and more:
            self.total = max(self.total + more, self.completed)
            if self._bar is not None:
                self._bar.update(self._task, total=self.total)

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._begun

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()


class _RateColumn(ProgressColumn):
    """Images a second, over the last half minute."""

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else _rate(task.speed), style="progress.data.speed")


def _rate(speed: float) -> str:
    """A speed in words."""
    return f"{speed:.1f} images/s" if speed < 100 else f"{speed:.0f} images/s"


def _duration(seconds: float) -> str:
    """A remaining time in words, rounded."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{max(0.0, seconds):.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


@contextmanager
def ctrl_c(answer: str) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C is a request to stop, which the block looks for; a second Ctrl-C stops at once.

    Args:
        answer: printed when the block first sees the request.

    Yields:
        A function that says whether to stop.
    """
    answered = False
    with stop_requests(signal.SIGINT) as stop_requested:

        def stopped() -> bool:
            nonlocal answered
            if stop_requested() and not answered:
                answered = True
                note(answer)
            return answered

        yield stopped
