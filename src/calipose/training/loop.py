"""The training loop: explicit, resumable (on a CPU bit for bit), stopped before a step on a loss that is not finite.

Several processes (torchrun) do what one does with batches of the same images together: the losses are divided by what
all processes count, and the history has the losses of all. Batch norms are each process's own, unless
`optim.sync_norm`.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from calipose.config.recipe import Recipe
from calipose.data.store import KeypointData
from calipose.errors import CaliposeError, InputError
from calipose.inference.backends.torch import TorchBackend
from calipose.inference.predictor import Predictor
from calipose.io.atomic import make_folder, remove_abandoned
from calipose.io.interrupts import stop_requests
from calipose.model.checkpoint import Checkpoint, save_checkpoint
from calipose.model.device import choose_precision
from calipose.model.network import Network
from calipose.training.loader import Batch, training_batches
from calipose.training.order import EpochBatches, repeats_of_images
from calipose.training.processes import is_loss_of_a_process, start_processes
from calipose.training.record import Record
from calipose.training.samples import ImageCache, TrainingImages, read_stored
from calipose.training.state import (
    MovingAverage,
    check_progress,
    check_same_training,
    learning_rate_factor,
    load_state,
    save_state,
)
from calipose.training.step import OptimizerStep
from calipose.training.transfer import first_weights

SAVE_SECONDS = 300.0  # a killed training loses at most this much
LOG_STEPS = 20

Evaluate = Callable[[Predictor, int], dict[str, float]]
Progress = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class TrainingResult:
    """Result of a training.

    Attributes:
        last: the last checkpoint.
        best: the checkpoint of the highest AP; None without evaluation.
        history: every line of `history.jsonl`.
        minutes: time of the training, all parts of a resumed one together.
    """

    last: Path
    best: Path | None
    history: list[dict[str, Any]]
    minutes: float


class Stopped(Exception):  # noqa: N818 (no error: the state is saved)
    """The training was stopped on request; its state is saved and can be resumed."""


class Trainer:
    """One training of one recipe.

    Args:
        recipe: all settings.
        data: images and annotations to train on.
        out: run folder: `best.safetensors`, `last.safetensors`, `state.safetensors`, `history.jsonl`, TensorBoard
            scalars.
        evaluate: called with a predictor and the epoch's number, returns metrics; the checkpoint of the highest `ap`
            is kept as the best. Of several processes, each calls it, so that they can share the images; the metrics of
            the first count.
        resume: continue the training in `out`.
        initial: a checkpoint whose weights the training starts from, of this skeleton or another, or "default"
            (see `calipose.training.transfer:start_from`).
        same_as: of another skeleton, keypoints -> the initial checkpoint's keypoints whose weights they take, beside
            those of equal names.
        progress: called after each optimiser step with its number, the number of all steps, and the losses.

    Raises:
        InputError: `out` holds another training, or there is none to resume.

    Example:
        >>> trainer = Trainer(load_recipe("synthetic"), read_data(["people"]), Path("runs/first"))
        >>> result = trainer.run()
        >>> result.last
        PosixPath('runs/first/last.safetensors')
    """

    def __init__(
        self,
        recipe: Recipe,
        data: KeypointData,
        out: Path,
        *,
        evaluate: Evaluate | None = None,
        resume: bool = False,
        initial: str | Path | None = None,
        same_as: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.recipe, self.data, self.out = recipe, data, out
        self.evaluate, self.progress = evaluate, progress
        self.accelerator = start_processes()
        self.precision, self.precision_reason = choose_precision(recipe.precision, self.accelerator.device.type)
        torch.manual_seed(recipe.seed)
        network = Network(recipe.backbone.name, len(data.skeleton), recipe.method)
        self.notes = [] if resume else first_weights(network, recipe, data.skeleton, initial, same_as)
        self.take_step = OptimizerStep(recipe, data, network, self.accelerator, self.precision)
        self.network, self.optimizer = self.take_step.network, self.take_step.optimizer
        self.average = MovingAverage(self.network, recipe.optim.ema) if recipe.optim.ema else None
        self.repeats = repeats_of_images(data, recipe.data.repeat)
        self.batch_size, rest = divmod(recipe.batch_size, self.accelerator.num_processes)
        if rest or not self.batch_size:
            processes = self.accelerator.num_processes
            whole = f"batch_size {recipe.batch_size}"
            raise InputError(f"{whole} cannot be split over {processes} processes; make it a multiple")
        self.steps_per_epoch = len(self._batches(0, 0)) // recipe.optim.accumulate
        if not self.steps_per_epoch:
            batches = recipe.optim.accumulate
            raise InputError(f"{len(data)} images do not fill {batches} batches: lower optim.accumulate")
        self.step = 0
        self.epoch = 0  # finished epochs, their evaluation included
        self.running: list[dict[str, float]] = []  # losses since the history's last line of losses
        self.best: float | None = None
        self.seconds = 0.0
        self.record = Record(out)
        self._prepare_folder(resume)

    def _prepare_folder(self, resume: bool) -> None:
        state = self.out / "state.safetensors"
        if resume:
            progress = load_state(state, self.network, self.optimizer, self.average)
            check_progress(state, progress)
            check_same_training(state, progress["training"], self._training())
            self.step, self.epoch, self.running = progress["step"], progress["epoch"], progress["running"]
            self.best, self.seconds = progress.get("best"), progress["seconds"]
            if self.accelerator.is_main_process:
                self.record.read(progress["lines"])  # what came after the saved step happens again
        elif state.exists():
            raise InputError(f"{self.out} already holds a training: resume it with --resume, or name another folder")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            make_folder(self.out)
            remove_abandoned(self.out)
            self.record.rewrite()

    def _training(self) -> dict[str, Any]:
        """What must be the same when a training is resumed."""
        processes = self.accelerator.num_processes
        return {"recipe": self.recipe.to_dict(), "images": len(self.data), "processes": processes}

    @property
    def total_steps(self) -> int:
        """Number of optimiser steps of the whole training."""
        return self.recipe.epochs * self.steps_per_epoch

    def run(self) -> TrainingResult:
        """Train to the end.

        Raises:
            NonFiniteLossError: the loss became infinite or NaN; the last saved state is untouched.
            Stopped: the process got SIGTERM or Ctrl-C; the state is saved.
            WriteError: the folder cannot be written to; what was saved before is whole, and can be resumed.
            CaliposeError: another process of the training ended.
        """
        try:
            return self._run()
        except RuntimeError as error:
            if not is_loss_of_a_process(error):
                raise
            first = next(iter(str(error).splitlines()), "")
            raise CaliposeError(
                f"step {self.step + 1}: another process of this training ended or does not answer ({first}); "
                "what was saved is whole, --resume goes on there"
            ) from None

    def _run(self) -> TrainingResult:
        start, earlier_seconds = time.monotonic(), self.seconds
        saved = start
        recipe = self.recipe
        images = TrainingImages(
            self.data,
            recipe.size,
            recipe.augment,
            self.network.backbone.mean,
            recipe.seed,
            ImageCache(self.data) if recipe.data.in_memory else read_stored,
            self.repeats,
        )
        writes = self.record.open(self.accelerator.is_main_process)
        with stop_requests(signal.SIGINT, signal.SIGTERM) as stop_asked, writes:
            while self.epoch < recipe.epochs:
                for batches in self._steps_of_epoch(images):
                    self._train_step(batches)
                    self.seconds = earlier_seconds + time.monotonic() - start
                    if self.progress is not None:
                        self.progress(self.step, self.total_steps, self.running[-1])
                    if self.step % LOG_STEPS == 0 or self.step == self.total_steps:
                        self._record_losses()
                    if self._agree(stop_asked()):
                        self._save()
                        raise Stopped(f"stopped after step {self.step}; continue with --resume")
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save()
                        saved = time.monotonic()
                self._save()  # a failing evaluation must not cost the epoch
                self._end_epoch(self.epoch + 1)
                self.epoch += 1
                self._save()
                saved = time.monotonic()
        best = self.out / "best.safetensors"
        return TrainingResult(
            self.out / "last.safetensors", best if best.exists() else None, self.record.history, self.seconds / 60
        )

    def _steps_of_epoch(self, images: TrainingImages) -> Iterator[list[Batch]]:
        """The batches of each remaining optimiser step of the epoch."""
        accumulate = self.recipe.optim.accumulate
        done = self.step - self.epoch * self.steps_per_epoch
        batches = self._batches(self.epoch, done * accumulate)
        stream = training_batches(images, batches, self.recipe.data.workers)
        for _ in range(done, self.steps_per_epoch):
            yield [next(stream) for _ in range(accumulate)]

    def _batches(self, epoch: int, start: int) -> EpochBatches:
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        return EpochBatches(self.repeats, self.batch_size, self.recipe.seed, epoch, rank, world, start)

    def _train_step(self, batches: list[Batch]) -> None:
        """Take one optimiser step over one or several batches, and note its losses."""
        factor = learning_rate_factor(self.step, self.steps_per_epoch, self.recipe)
        self.running.append(self.take_step(batches, self.step + 1, factor))
        self.step += 1
        if self.average is not None:
            self.average.update(self.network, self.step)

    def _agree(self, stop: bool) -> bool:
        """Whether any process is to stop; then all stop after the same step."""
        if self.accelerator.num_processes == 1:
            return stop
        asked = torch.tensor(float(stop), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum") > 0)

    def _weights(self) -> dict[str, Tensor]:
        return self.average.values if self.average is not None else self.network.state_dict()

    def _predictor(self) -> Predictor:
        """A predictor with the weights that will be saved (the moving average, if there is one)."""
        network = Network(self.recipe.backbone.name, len(self.data.skeleton), self.recipe.method)
        network.load_state_dict(self._weights())
        backend = TorchBackend(network, self.data.skeleton, self.accelerator.device)
        return Predictor(backend, self.recipe.predict)

    def _end_epoch(self, epoch: int) -> None:
        due = epoch % self.recipe.evaluate_every == 0 or epoch == self.recipe.epochs
        if self.evaluate is not None and due:
            metrics = self.evaluate(self._predictor(), epoch)
            if self.accelerator.is_main_process:
                self.record.add({"step": self.step, "epoch": epoch, **{f"val_{k}": v for k, v in metrics.items()}})
                if self.best is None or metrics["ap"] > self.best:
                    self.best = metrics["ap"]
                    self._save_checkpoint("best.safetensors")
        self.accelerator.wait_for_everyone()

    def _record_losses(self) -> None:
        """Write one line of history: the mean losses since the last."""
        mean = {k: math.fsum(line[k] for line in self.running) / len(self.running) for k in self.running[0]}
        self.running.clear()
        self.record.add({"step": self.step, "epoch": round(self.step / self.steps_per_epoch, 3), **mean})

    def _save_checkpoint(self, name: str) -> None:
        notes = {"step": self.step, "minutes": self.seconds / 60, "best_ap": self.best, "images": len(self.data)}
        checkpoint = Checkpoint(self.recipe, self.data.skeleton, self._weights(), notes)
        save_checkpoint(self.out / name, checkpoint)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            self._save_checkpoint("last.safetensors")
            progress = {
                "step": self.step, "epoch": self.epoch, "running": self.running, "lines": len(self.record.history),
                "best": self.best, "seconds": self.seconds, "training": self._training(),
            }  # fmt: skip
            save_state(self.out / "state.safetensors", self.network, self.optimizer, self.average, progress)
