"""What the processes of one training share: sums, lists, and batch norms over the batch of all of them.

With one process, every function gives what it was given.
"""

from __future__ import annotations

import datetime
import os
import sys
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import InitProcessGroupKwargs
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from calipose.errors import InputError

T = TypeVar("T")

LOST = ("connection closed by peer", "connection reset by peer", "broken pipe", "timed out", "gloo", "nccl", "tcpstore")


def process_count() -> int:
    """Number of processes of this training."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def processes_started() -> int:
    """Number of processes that the launcher started, whether they know each other or not."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_index() -> int:
    """Index of this process, also before the processes know each other (torchrun's RANK)."""
    return dist.get_rank() if process_count() > 1 else int(os.environ.get("RANK", "0"))


def start_processes() -> Accelerator:
    """Device and processes of a training.

    Raises:
        InputError: several processes were started, but do not know each other.
    """
    # Precision and accumulation are the recipe's, whatever `accelerate config` says; evaluation may take long.
    patience = InitProcessGroupKwargs(timeout=datetime.timedelta(hours=2))
    started = processes_started()
    accelerator = Accelerator(
        mixed_precision="no",
        gradient_accumulation_steps=1,
        kwargs_handlers=[patience],
        cpu=started > 1 and not torch.cuda.is_available(),  # else it takes no notice of the other processes
    )
    if accelerator.num_processes != started:
        raise InputError(
            f"{started} processes were started (WORLD_SIZE), but {accelerator.num_processes} found each other; start "
            "them with torchrun"
        )
    return accelerator


def end_process() -> None:
    """End this process with exit code 0 if there are others; with one process, do nothing.

    gloo's and the store's threads may still run when the interpreter goes, which then ends by an abort.
    """
    if process_count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def total(values: Tensor) -> Tensor:
    """The sum over all processes, without a gradient; all processes must call it."""
    if process_count() == 1:
        return values
    values = values.detach().clone()
    dist.all_reduce(values)
    return values


def gathered(value: T) -> list[T]:
    """The value of each process, in the processes' order; all processes must call it."""
    if process_count() == 1:
        return [value]
    values: list[Any] = [None] * process_count()
    dist.all_gather_object(values, value)
    return values


def is_loss_of_a_process(error: RuntimeError) -> bool:
    """Whether an error says that another process does not answer any more."""
    return process_count() > 1 and any(words in str(error).lower() for words in LOST)


def _shared_sum(values: Tensor) -> Tensor:
    """As `total`, with a gradient."""
    summed: Tensor = all_reduce(values)  # type: ignore[no-untyped-call]
    return summed


class BatchNormOverProcesses(nn.BatchNorm2d):
    """Batch norm whose mean and variance in training are those of the batches of all processes together.

    torch's own `SyncBatchNorm` runs on GPUs only; this one runs everywhere, and takes its place on CPUs.
    """

    def forward(self, values: Tensor) -> Tensor:
        """Normalise `(b, c, h, w)`."""
        if not self.training or process_count() == 1:
            return super().forward(values)
        over = (0, 2, 3)
        number = total(torch.tensor(float(values.numel() // values.shape[1]), device=values.device))
        wide = values.double()
        mean = _shared_sum(wide.sum(over)) / number
        centred = wide - mean[:, None, None]
        # Two sums, one after the other: the mean of squares minus the squared mean would cancel digits.
        variance = _shared_sum((centred**2).sum(over)) / number
        if self.track_running_stats:
            with torch.no_grad():
                assert self.running_mean is not None
                assert self.running_var is not None
                assert self.num_batches_tracked is not None
                self.num_batches_tracked += 1
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.to(self.running_mean), share)
                unbiased = variance * number / (number - 1).clamp(min=1)
                self.running_var.lerp_(unbiased.to(self.running_var), share)
        normal: Tensor = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            normal = normal * self.weight[:, None, None] + self.bias[:, None, None]
        shared: Tensor = normal.to(values.dtype)
        return shared


def share_batch_norms(network: nn.Module) -> nn.Module:
    """The network with batch norms over all processes, of equal names and weights."""
    if next(network.parameters()).device.type != "cpu":
        shared: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return shared
    for name, module in list(network.named_modules()):
        if type(module) is nn.BatchNorm2d:
            new = BatchNormOverProcesses(module.num_features, module.eps, module.momentum or 0.0, module.affine)
            new.weight, new.bias = module.weight, module.bias  # the same, also frozen
            new.load_state_dict(module.state_dict())
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, new.to(module.running_mean.device))  # type: ignore[union-attr]
    return network


def plain_strides(network: nn.Module) -> None:
    """Give weights of one pixel and their gradients the same strides.

    A 1 x 1 kernel lies in memory the same way as `channels_last` and not, but its gradient may name either strides; of
    a difference torch's DistributedDataParallel warns at the first step.
    """
    for parameter in network.parameters():
        if parameter.requires_grad and parameter.dim() == 4 and parameter.shape[2:] == (1, 1):
            strides = (parameter.shape[1], 1, 1, 1)
            parameter.data = parameter.data.contiguous().as_strided(parameter.shape, strides)

            def same(grad: Tensor, strides: tuple[int, ...] = strides) -> Tensor:
                return grad.contiguous().as_strided(grad.shape, strides)

            parameter.register_hook(same)  # type: ignore[no-untyped-call]
