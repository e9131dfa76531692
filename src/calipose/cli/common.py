"""What the commands share: consoles, how errors are said, and opening a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from typer.core import TyperGroup

from calipose.errors import CaliposeError, InputError

if TYPE_CHECKING:
    from calipose.predictor import Predictor

out = Console(highlight=False)  # what was asked for
err = Console(stderr=True, highlight=False)  # how it goes, and what went wrong

TORCH_PARTS = {"torch", "accelerate", "safetensors"}

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...; by default a GPU where there is one.")]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the mirrored picture (twice the time).")]
ShortSide = Annotated[
    int | None,
    typer.Option(min=32, help="Network input pixels of a picture's short side; by default the recipe's."),
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


def say(message: str, style: str | None = None) -> None:
    """Print one line that is never wrapped, so that a path in it can be copied."""
    out.print(message, style=style, markup=False, soft_wrap=True)


def examples(*lines: str) -> str:
    """The end of a help screen."""
    return "\n".join(["[bold]Examples[/bold]", *(f"[cyan]{line}[/cyan]" for line in lines)])


def progress_over(what: str, quiet: bool) -> Callable[[list[Any]], Iterable[Any]]:
    """A bar for a list of pictures, or nothing where quiet is wished or nobody looks."""

    def over(items: list[Any]) -> Iterable[Any]:
        return track(items, what, console=err, disable=quiet or not err.is_terminal, transient=True)

    return over


def choose_device(name: str) -> str:
    """The device of that name; an empty name takes a GPU where there is one.

    Raises:
        InputError: there is no such device.
    """
    import torch

    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError):  # torch without CUDA asserts
        raise InputError(f"device '{name}' cannot be used: name cpu, or cuda where torch finds a GPU") from None
    return name


def open_predictor(
    checkpoint: Path, device: str, flip: bool, short_side: int | None, min_score: float = math.inf
) -> Predictor:
    """Predictor of a checkpoint (or run folder) with its recipe's settings, but for what is asked.

    Poses of `min_score` are wished for, so the recipe's threshold is lowered where it is higher.
    """
    import msgspec

    from calipose.predictor import Predictor

    predictor = Predictor.from_checkpoint(checkpoint, choose_device(device))
    settings = msgspec.structs.replace(
        predictor.settings,
        flip=flip or predictor.settings.flip,
        short_side=short_side or predictor.settings.short_side,
        score_threshold=min(predictor.settings.score_threshold, min_score),
    )
    return Predictor(predictor.backend, settings)
