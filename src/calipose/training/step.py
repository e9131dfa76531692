"""One optimiser step: losses, their gradients over all processes, and the stop before a step that is not finite."""

from __future__ import annotations

import contextlib
import math

import torch
from accelerate import Accelerator

from calipose.config.recipe import Recipe
from calipose.data.store import KeypointData
from calipose.errors import NonFiniteLossError
from calipose.model.network import Network
from calipose.training.computing import set_computing
from calipose.training.loader import Batch
from calipose.training.losses import Losses, all_losses
from calipose.training.processes import gathered, plain_strides, process_count, share_batch_norms, total
from calipose.training.state import freeze_backbone, make_optimizer, training_mode
from calipose.training.targets import make_targets


class OptimizerStep:
    """Optimiser steps of one network.

    Args:
        recipe: all settings.
        data: names the images in messages.
        network: with its first weights; it is moved to the device, and wrapped where there are several processes.
        accelerator: device and processes.
        precision: "fp32" or "bf16".

    Attributes:
        network: the network itself.
        optimizer: its optimiser.
    """

    def __init__(
        self, recipe: Recipe, data: KeypointData, network: Network, accelerator: Accelerator, precision: str
    ) -> None:
        self.recipe, self.data, self.accelerator, self.precision = recipe, data, accelerator, precision
        freeze_backbone(network.backbone, recipe.backbone.freeze)
        network = network.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if process_count() > 1:
            plain_strides(network)
            network = share_batch_norms(network) if recipe.optim.sync_norm else network  # type: ignore[assignment]
        set_computing(network, recipe.compute)
        self.model, self.optimizer = accelerator.prepare(network, make_optimizer(network, recipe))
        self.network: Network = accelerator.unwrap_model(self.model)
        self.sigmas = torch.tensor(data.skeleton.sigmas, device=accelerator.device)

    def __call__(self, batches: list[Batch], number: int, rate_factor: float) -> dict[str, float]:
        """Take one step over one or several batches.

        Args:
            batches: of this process.
            number: of the step, from 1, for messages.
            rate_factor: what the learning rates are multiplied by.

        Returns:
            The mean over the batches of each loss, summed over the processes.

        Raises:
            NonFiniteLossError: a loss or the gradient is infinite or NaN; the step was not taken.
        """
        training_mode(self.model, self.network.backbone, self.recipe.backbone.freeze)
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor
        sums: dict[str, float] = {}
        for i, batch in enumerate(batches):
            last = i == len(batches) - 1
            with contextlib.nullcontext() if last else self.accelerator.no_sync(self.model):
                losses = self._losses(batch.to(self.accelerator.device))
                own = losses.to_dict()
                values = _sums(own, self.accelerator.device)
                self._check_finite(number, values["total"], "loss", [] if math.isfinite(own["total"]) else [batch])
                # Gradients are averaged over the processes; the losses are parts of a sum.
                self.accelerator.backward(losses.total * process_count() / len(batches))
            for name, value in values.items():
                sums[name] = sums.get(name, 0.0) + value / len(batches)
        if self.recipe.optim.clip_norm:
            norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.recipe.optim.clip_norm)
            self._check_finite(number, float(norm), "gradient", batches)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return sums

    def _losses(self, batch: Batch) -> Losses:
        settings = self.recipe.loss
        targets = make_targets(batch.keypoints_inp, batch.labelled, batch.area_inp, batch.ignore_cell, settings)
        with torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            output = self.model(batch.images, targets.cells)
        return all_losses(output, targets, self.recipe.method, settings, self.sigmas, total)

    def _check_finite(self, number: int, value: float, what: str, batches: list[Batch]) -> None:
        if math.isfinite(value):
            return
        here = [str(self.data.image_path(int(i))) for batch in batches for i in batch.index]
        names = [name for names in gathered(here) for name in names]  # the value is the same in all processes
        raise NonFiniteLossError(
            f"step {number}: the {what} is {value}; the step was not taken. Its images: "
            + ", ".join(names)
            + ". Check their annotations, lower optim.lr, or set optim.clip_norm"
        )


def _sums(values: dict[str, float], device: torch.device) -> dict[str, float]:
    """The values summed over all processes."""
    if process_count() == 1:
        return values
    sums = total(torch.tensor(list(values.values()), dtype=torch.float32, device=device)).tolist()
    return dict(zip(values, sums, strict=True))
