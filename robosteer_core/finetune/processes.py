"""The processes of one run, as `torchrun` starts them: each passes its share of every batch, the first one writes."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

from robosteer_core.errors import UserError


class Processes:
    """`count` of them, of which this is number `rank`. One alone needs nothing of accelerate."""

    def __init__(self) -> None:
        self.count, self.rank, self._accelerator = int(os.environ.get("WORLD_SIZE", 1)), 0, None
        if self.count == 1:
            return
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)]
        )  # fmt: skip
        if self._accelerator.num_processes != self.count:
            raise UserError(
                f"expected {self.count} processes, as WORLD_SIZE says; accelerate found {self._accelerator.num_processes}; "
                "start them by `torchrun --nproc_per_node N -m robosteer_core.cli finetune ...`"
            )
        self.rank = self._accelerator.process_index

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over the processes."""
        return module if self._accelerator is None else self._accelerator.prepare_model(module, device_placement=False)

    def apart(self, module: nn.Module) -> AbstractContextManager:
        """Within it, a backward pass of a wrapped module leaves gradients to be averaged by a later one."""
        return nullcontext() if self._accelerator is None else module.no_sync()

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        return value if self._accelerator is None else self._accelerator.reduce(value, "sum")

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()
