"""The training loop: explicit, resumable (on a CPU bit for bit), stopped before a step on a loss that is not finite.

Several processes (torchrun) do what one does with batches of the same images together: the losses are divided by what
all processes count, and the history has the losses of all. Batch norms are each process's own, unless
`optim.sync_norm`.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from numpy.typing import NDArray
from torch import Tensor

from calipose.config.recipe import Recipe
from calipose.data.store import KeypointData
from calipose.errors import CaliposeError, InputError, NonFiniteLossError
from calipose.inference.backends.torch import TorchBackend
from calipose.inference.predictor import Predictor
from calipose.io.atomic import make_folder, remove_abandoned, replacing, write_errors
from calipose.io.interrupts import stop_requests
from calipose.model.checkpoint import Checkpoint, save_checkpoint
from calipose.model.device import choose_precision
from calipose.model.network import Network
from calipose.model.weights import load_weights
from calipose.plain_data import parse_json
from calipose.training.computing import set_computing
from calipose.training.loader import Batch, training_batches
from calipose.training.losses import Losses, all_losses
from calipose.training.order import EpochBatches
from calipose.training.processes import (
    gathered,
    is_loss_of_a_process,
    plain_strides,
    process_count,
    processes_started,
    share_batch_norms,
    total,
)
from calipose.training.samples import ImageCache, TrainingImages, read_stored
from calipose.training.state import (
    MovingAverage,
    check_same_training,
    freeze_backbone,
    learning_rate_factor,
    load_state,
    make_optimizer,
    save_state,
    training_mode,
)
from calipose.training.targets import make_targets
from calipose.training.transfer import start_from

SAVE_SECONDS = 300.0  # a killed training loses at most this much
LOG_STEPS = 20
TENSORBOARD = "tensorboard"  # folder in that of a run

Evaluate = Callable[[Predictor, int], dict[str, float]]
Progress = Callable[[int, int, dict[str, float]], None]
Scalars = Callable[[str, float, int], None]


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
        # Precision and accumulation are the recipe's, whatever `accelerate config` says; evaluation may take long.
        patience = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=2))
        started = processes_started()
        self.accelerator = Accelerator(
            mixed_precision="no",
            gradient_accumulation_steps=1,
            kwargs_handlers=[patience],
            cpu=started > 1 and not torch.cuda.is_available(),  # else it takes no notice of the other processes
        )
        if self.accelerator.num_processes != started:
            raise InputError(
                f"{started} processes were started (WORLD_SIZE), but {self.accelerator.num_processes} found each "
                "other; start them with torchrun"
            )
        self.precision, self.precision_reason = choose_precision(recipe.precision, self.accelerator.device.type)
        torch.manual_seed(recipe.seed)
        network = Network(recipe.backbone.name, len(data.skeleton), recipe.method)
        self.notes: list[str] = []
        if not resume:
            self._first_weights(network, initial, same_as)
        freeze_backbone(network.backbone, recipe.backbone.freeze)
        network = network.to(self.accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if process_count() > 1:
            plain_strides(network)
            network = share_batch_norms(network) if recipe.optim.sync_norm else network  # type: ignore[assignment]
        set_computing(network, recipe.compute)
        optimizer = make_optimizer(network, recipe)
        self.model, self.optimizer = self.accelerator.prepare(network, optimizer)
        self.network: Network = self.accelerator.unwrap_model(self.model)
        self.average = MovingAverage(self.network, recipe.optim.ema) if recipe.optim.ema else None
        self.sigmas = torch.tensor(data.skeleton.sigmas, device=self.accelerator.device)
        self.repeats = _repeats(recipe, data)
        self.batch_size, rest = divmod(recipe.batch_size, self.accelerator.num_processes)
        if rest or not self.batch_size:
            processes = self.accelerator.num_processes
            raise InputError(
                f"batch_size {recipe.batch_size} cannot be split over {processes} processes; make it a multiple"
            )
        self.steps_per_epoch = len(self._batches(0, 0)) // recipe.optim.accumulate
        if not self.steps_per_epoch:
            raise InputError(
                f"{len(data)} images do not fill {recipe.optim.accumulate} batches: lower optim.accumulate"
            )
        self.step = 0
        self.epoch = 0  # finished epochs, their evaluation included
        self.running: list[dict[str, float]] = []  # losses since the history's last line of losses
        self.best: float | None = None
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self._prepare_folder(resume)

    def _first_weights(self, network: Network, initial: str | Path | None, same_as: Mapping[str, str] | None) -> None:
        if self.recipe.backbone.weights and not initial:
            self.notes.append(str(load_weights(network.backbone, self.recipe.backbone.weights)))
        elif initial or self.recipe.init:
            source = initial or self.recipe.init
            self.notes.append(start_from(network, source, self.recipe, self.data.skeleton, same_as))

    def _prepare_folder(self, resume: bool) -> None:
        state, history = self.out / "state.safetensors", self.out / "history.jsonl"
        if resume:
            progress = load_state(state, self.network, self.optimizer, self.average)
            kinds = {
                "training": dict, "step": int, "epoch": int, "running": list, "best": float | int | None,
                "seconds": float | int, "lines": int,
            }  # fmt: skip
            for key, kind in kinds.items():
                if not isinstance(progress, dict) or not isinstance(progress.get(key), kind):
                    raise InputError(f"{state}: what it says of the training's progress lacks '{key}'")
            check_same_training(state, progress["training"], self._training())
            self.step, self.epoch, self.running = progress["step"], progress["epoch"], progress["running"]
            self.best, self.seconds = progress.get("best"), progress["seconds"]
            if self.accelerator.is_main_process and history.exists():  # what came after the saved step happens again
                lines = history.read_text().splitlines()[: progress["lines"]]
                self.history = [parse_json(line, str(history)) for line in lines]
        elif state.exists():
            raise InputError(f"{self.out} already holds a training: resume it with --resume, or name another folder")
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            make_folder(self.out)
            remove_abandoned(self.out)
            with replacing(history) as temporary:
                temporary.write_text("".join(json.dumps(line) + "\n" for line in self.history))

    def _training(self) -> dict[str, Any]:
        """What must be the same when a training is resumed."""
        return {
            "recipe": self.recipe.to_dict(),
            "images": len(self.data),
            "processes": self.accelerator.num_processes,
        }

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
        with stop_requests(signal.SIGINT, signal.SIGTERM) as stop_asked, self._scalars() as scalars:
            while self.epoch < recipe.epochs:
                for batches in self._steps_of_epoch(images):
                    self.running.append(self._train_step(batches))
                    self.seconds = earlier_seconds + time.monotonic() - start
                    if self.progress is not None:
                        self.progress(self.step, self.total_steps, self.running[-1])
                    if self.step % LOG_STEPS == 0 or self.step == self.total_steps:
                        self._record_losses(scalars)
                    if self._agree(stop_asked()):
                        self._save()
                        raise Stopped(f"stopped after step {self.step}; continue with --resume")
                    if time.monotonic() - saved > SAVE_SECONDS:
                        self._save()
                        saved = time.monotonic()
                self._save()  # a failing evaluation must not cost the epoch
                self._end_epoch(self.epoch + 1, scalars)
                self.epoch += 1
                self._save()
                saved = time.monotonic()
        best = self.out / "best.safetensors"
        return TrainingResult(
            self.out / "last.safetensors", best if best.exists() else None, self.history, self.seconds / 60
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

    def _train_step(self, batches: list[Batch]) -> dict[str, float]:
        """Do one optimiser step over one or several batches; returns the mean of each loss."""
        training_mode(self.model, self.network.backbone, self.recipe.backbone.freeze)
        factor = learning_rate_factor(self.step, self.steps_per_epoch, self.recipe)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
        sums: dict[str, float] = {}
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                losses = self._losses(batch.to(self.accelerator.device))
                own = losses.to_dict()
                values = _sums(own, self.accelerator.device)
                self._check_finite(values["total"], "loss", [] if math.isfinite(own["total"]) else [batch])
                # Gradients are averaged over the processes; the losses are parts of a sum.
                self.accelerator.backward(losses.total * process_count() / len(batches))
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        if self.recipe.optim.clip_norm:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.optim.clip_norm)
            self._check_finite(float(norm), "gradient", batches)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        if self.average is not None:
            self.average.update(self.network, self.step)
        return sums

    def _losses(self, batch: Batch) -> Losses:
        settings = self.recipe.loss
        targets = make_targets(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, settings)
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.model(batch.images, targets.cells)
        return all_losses(output, targets, self.recipe.method, settings, self.sigmas, total)

    def _agree(self, stop: bool) -> bool:
        """Whether any process is to stop; then all stop after the same step."""
        if self.accelerator.num_processes == 1:
            return stop
        asked = torch.tensor(float(stop), device=self.accelerator.device)
        return bool(self.accelerator.reduce(asked, "sum") > 0)

    def _check_finite(self, value: float, what: str, batches: list[Batch]) -> None:
        if math.isfinite(value):
            return
        here = [str(self.data.image_path(int(i))) for batch in batches for i in batch.index]
        names = [name for names in gathered(here) for name in names]  # the value is the same in all processes
        raise NonFiniteLossError(
            f"step {self.step + 1}: the {what} is {value}; the step was not taken. Its images: "
            + ", ".join(names)
            + ". Check their annotations, lower optim.lr, or set optim.clip_norm"
        )

    def _weights(self) -> dict[str, Tensor]:
        return self.average.values if self.average is not None else self.network.state_dict()

    def _predictor(self) -> Predictor:
        """A predictor with the weights that will be saved (the moving average, if there is one)."""
        network = Network(self.recipe.backbone.name, len(self.data.skeleton), self.recipe.method)
        network.load_state_dict(self._weights())
        backend = TorchBackend(network, self.data.skeleton, self.accelerator.device)
        return Predictor(backend, self.recipe.predict)

    def _end_epoch(self, epoch: int, scalars: Scalars) -> None:
        due = epoch % self.recipe.evaluate_every == 0 or epoch == self.recipe.epochs
        if self.evaluate is not None and due:
            metrics = self.evaluate(self._predictor(), epoch)
            if self.accelerator.is_main_process:
                self._record({"epoch": epoch, **{f"val_{k}": v for k, v in metrics.items()}}, scalars)
                if self.best is None or metrics["ap"] > self.best:
                    self.best = metrics["ap"]
                    self._save_checkpoint("best.safetensors")
        self.accelerator.wait_for_everyone()

    def _record_losses(self, scalars: Scalars) -> None:
        """Write one line of history: the mean losses since the last."""
        mean = {k: math.fsum(line[k] for line in self.running) / len(self.running) for k in self.running[0]}
        self.running.clear()
        self._record({"epoch": round(self.step / self.steps_per_epoch, 3), **mean}, scalars)

    def _record(self, line: dict[str, Any], scalars: Scalars) -> None:
        line = {"step": self.step, **line}
        self.history.append(line)
        if self.accelerator.is_main_process:
            history = self.out / "history.jsonl"
            with write_errors(history), history.open("a") as file:
                file.write(json.dumps(line) + "\n")
            with write_errors(self.out / TENSORBOARD):
                for name, value in line.items():
                    if name not in {"step", "epoch"}:
                        scalars(name, value, self.step)

    def _save_checkpoint(self, name: str) -> None:
        notes = {"step": self.step, "minutes": self.seconds / 60, "best_ap": self.best, "images": len(self.data)}
        checkpoint = Checkpoint(self.recipe, self.data.skeleton, self._weights(), notes)
        save_checkpoint(self.out / name, checkpoint)

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            self._save_checkpoint("last.safetensors")
            progress = {
                "step": self.step, "epoch": self.epoch, "running": self.running, "lines": len(self.history),
                "best": self.best, "seconds": self.seconds, "training": self._training(),
            }  # fmt: skip
            save_state(self.out / "state.safetensors", self.network, self.optimizer, self.average, progress)

    @contextlib.contextmanager
    def _scalars(self) -> Iterator[Scalars]:
        """TensorBoard's scalars, where it is installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            yield lambda *_: None
            return
        if not self.accelerator.is_main_process:
            yield lambda *_: None
            return
        folder = self.out / TENSORBOARD
        with write_errors(folder):
            writer = SummaryWriter(str(folder))
        try:
            yield writer.add_scalar
        finally:
            with write_errors(folder):
                writer.close()


def _sums(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """The values summed over all processes."""
    if process_count() == 1:
        return values
    sums = total(torch.tensor(list(values.values()), dtype=torch.float32, device=device)).tolist()
    return dict(zip(values, sums, strict=True))


def _repeats(recipe: Recipe, data: KeypointData) -> NDArray[np.float64]:
    """How often an epoch uses each image, `(n,)`."""
    repeat = recipe.data.repeat or (1.0,) * len(data.folders)
    if len(repeat) != len(data.folders):
        raise InputError(f"data.repeat has {len(repeat)} numbers, but there are {len(data.folders)} data sets")
    return np.array(repeat)[data.folder]
