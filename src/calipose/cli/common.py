"""What the commands share: consoles, how errors are said, and opening a checkpoint."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, ProgressColumn, Task, TextColumn, TimeRemainingColumn, track
from rich.progress import Progress as Bar
from rich.text import Text
from typer.core import TyperGroup

from calipose.errors import CaliposeError, InputError

if TYPE_CHECKING:
    from calipose.inference.predictor import Predictor

out = Console(highlight=False)  # what was asked for
err = Console(stderr=True, highlight=False)  # how it goes, and what went wrong

LINE_SECONDS = 30.0  # between progress lines where there is no terminal to draw a bar on
TORCH_PARTS = {"torch", "accelerate", "safetensors"}

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Device = Annotated[
    str, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU where there is one (.onnx files: the CPU).")
]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored image (twice the time).")]
Scales = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Multiples of the short side, such as 0.5,1,2: of all these sizes the best pose of each person.",
    ),
]
ShortSide = Annotated[
    int | None,
    typer.Option(min=32, help="Network input pixels of an image's short side; by default the recipe's."),
]


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
            say_error(f"this command needs {error.name}: pip install 'calipose[train]'")
        raise typer.Exit(1)


def say_error(message: str) -> None:
    """Print a message in red; what looks like markup in it is none."""
    err.print(f"error: {message}", style="red", markup=False, soft_wrap=True)


def warn(message: str) -> None:
    """Print what a user should know, in yellow."""
    err.print(f"warning: {message}", style="yellow", markup=False, soft_wrap=True)


def say(message: str, style: str | None = None) -> None:
    """Print one line that is never wrapped, so that a path in it can be copied."""
    out.print(message, style=style, markup=False, soft_wrap=True)


def examples(*lines: str) -> str:
    """The end of a help screen."""
    return "\n".join(["[bold]Examples[/bold]", *(f"[cyan]{line}[/cyan]" for line in lines)])


def progress_over(what: str, quiet: bool) -> Callable[[list[Any]], Iterable[Any]]:
    """A bar for a list of images, or nothing where quiet is wished or nobody looks."""

    def over(items: list[Any]) -> Iterable[Any]:
        return track(items, what, console=err, disable=quiet or not err.is_terminal, transient=True)

    return over


class Progress:
    """How far a prediction is: a bar on a terminal, a line now and then elsewhere; on standard error, or nowhere.

    Args:
        total: images and frames to come, as far as known; None where there is no end.
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
        """Say what is being read."""
        if self._bar is not None:
            self._bar.update(self._task, description=text if len(text) <= 24 else f"...{text[-21:]}")

    def say(self, message: str) -> None:
        """`say`, but above the bar where there is one on the same terminal."""
        if self._bar is not None and out.is_terminal:
            err.print(message, markup=False, soft_wrap=True)
        else:
            say(message)

    def advance(self, more: int = 1) -> None:
        """So many more images or frames are done."""
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
        """So many more are to come than was thought, or fewer."""
        if self.total is not None and more:
            self.total = max(self.total + more, self.completed)
            if self._bar is not None:
                self._bar.update(self._task, total=self.total)

    @property
    def seconds(self) -> float:
        """Since the start."""
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
    """Images a second in words."""
    return f"{speed:.1f} images/s" if speed < 100 else f"{speed:.0f} images/s"


def _duration(seconds: float) -> str:
    """A time to wait, about."""
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{max(0.0, seconds):.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


@contextmanager
def stop_requests(answer: str) -> Iterator[Callable[[], bool]]:
    """Turns the first Ctrl-C into a request that the block asks for, and answers; a second Ctrl-C is hard."""
    asked = answered = False

    def ask(number: int, _: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def stopped() -> bool:
        nonlocal answered
        if asked and not answered:
            answered = True
            err.print(answer, style="yellow", markup=False, soft_wrap=True)
        return asked

    try:
        before = signal.signal(signal.SIGINT, ask)
    except ValueError:  # not in the main thread: nobody sends signals there
        yield lambda: False
        return
    try:
        yield stopped
    finally:
        signal.signal(signal.SIGINT, before)


def open_predictor(
    model: str | Path,
    device: str = "",
    flip: bool = False,
    short_side: int | None = None,
    min_score: float = math.inf,
    providers: list[str] | None = None,
    threads: int = 0,
    scales: str = "",
    need_torch: bool = False,
) -> Predictor:
    """Predictor of a model with its own settings, but for what is asked.

    The default model is its ONNX file, but with `flip` or `need_torch`, for what only a checkpoint can, its checkpoint.
    Poses of `min_score` are wished for, so the model's threshold is lowered where it is higher. `scales` as the
    option has them.

    Raises:
        InputError: as `Predictor`; or `scales` is no list of positive numbers.
    """
    from calipose.inference.predictor import DEFAULT, Predictor, default_model

    if str(model) == DEFAULT and (flip or need_torch):
        model = default_model(".safetensors")
    predictor = Predictor(model, device=device, providers=providers, threads=threads)
    return predictor.with_settings(
        flip=flip or predictor.settings.flip,
        short_side=short_side or predictor.settings.short_side,
        score_threshold=min(predictor.settings.score_threshold, min_score),
        scales=read_scales(scales) or predictor.settings.scales,
    )


def warn_of_setting(predictor: Predictor) -> None:
    """Say so where the scores are calibrated for another setting than the predictor's."""
    for_setting, now = predictor.calibration.score.setting, predictor.settings.setting
    if for_setting is not None and for_setting != now:
        message = f"scores are calibrated for {for_setting}; with {now} they may be off"
        err.print(message, style="yellow", markup=False, soft_wrap=True)


def read_scales(text: str) -> tuple[float, ...]:
    """Numbers from "0.5,1,2"; none from an empty text.

    Raises:
        InputError: it holds something else.
    """
    try:
        scales = tuple(float(part) for part in text.split(",") if part.strip())
        if all(0.05 <= scale <= 8 for scale in scales) and len(set(scales)) == len(scales):
            return scales
    except ValueError:
        pass
    raise InputError(
        f"scales '{text}': write different numbers from 0.05 to 8 with commas between, for example 0.5,1,2"
    )
