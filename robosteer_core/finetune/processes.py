"""The processes of one run, as `torchrun` starts them: each passes its share of every batch, the first one writes."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.utils._pytree import tree_map_only

from robosteer_core.errors import UserError
from robosteer_core.vla.policy import Policy

Result = TypeVar("Result")


class Processes:
    """`count` of them, of which this is number `rank`; it trains on `device` (default: where the policy is). One alone needs nothing
    of accelerate.

    Each holds all weights, and gradients are averaged (DDP); or they are `sharded` (FSDP2): each holds its part of every
    weight, gradient and moment of the optimiser, and a layer's weights come together while it runs. accelerate starts the
    processes; what it knows of FSDP2 it does on accelerators alone, so that the sharding is PyTorch's own `fully_shard`, the
    same on a GPU and in the tests.
    """

    def __init__(self, device: torch.device | None = None, *, sharded: bool = False) -> None:
        self.count, self.rank, self._accelerator = int(os.environ.get("WORLD_SIZE", 1)), 0, None
        self.device, self.sharded = device, sharded
        if self.count == 1:
            if sharded:
                raise UserError(f"expected several processes to share the weights out to; found one; {_START}")
            return
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs

        self._accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)]
        )  # fmt: skip
        if self._accelerator.num_processes != self.count:
            raise UserError(f"expected {self.count} processes, as WORLD_SIZE says; accelerate found {self._accelerator.num_processes}; {_START}")
        self.rank = self._accelerator.process_index

    @property
    def writes(self) -> bool:
        return self.rank == 0

    def wrapped(self, policy: Policy) -> Within:
        """What everything that runs the policy's model has to go through from now on, on the device of this process."""
        within = Within(policy.model)
        if self.sharded:  # each weight goes to the device as it is shared out
            # Resharded always, the rest too: what is put into the shards is then what runs next.
            options = dict(mesh=torch.distributed.init_device_mesh(self._accelerator.device.type, (self.count,)), reshard_after_forward=True)
            for path in _units(policy):
                fully_shard(policy.model.get_submodule(path), **options)
            return fully_shard(within, **options)
        if self.device is not None:
            policy.to(self.device)
        if self._accelerator is None or not any(parameter.requires_grad for parameter in policy.model.parameters()):
            return within
        return self._accelerator.prepare_model(within, device_placement=False)

    def apart(self, within: nn.Module) -> AbstractContextManager:
        """Within it, a backward pass leaves gradients to be averaged by a later one; of shards they are averaged at once,
        because whole ones would have to be kept."""
        return nullcontext() if self._accelerator is None or self.sharded else within.no_sync()

    def sum(self, value: torch.Tensor) -> torch.Tensor:
        return value if self._accelerator is None else self._accelerator.reduce(value, "sum")

    def wait(self) -> None:
        """Until all processes are here."""
        if self._accelerator is not None:
            self._accelerator.wait_for_everyone()

    def whole(self, values: Any) -> Any:
        """The same structure with every sharded tensor put together, on the host of the process that writes (None elsewhere)."""

        def gather(value: DTensor) -> torch.Tensor | None:
            full = unsharded(value)
            return full.detach().cpu() if self.writes else None

        return tree_map_only(DTensor, gather, values)

    def gather(self, policy: Policy) -> None:
        """Make sharded weights whole again where they are written; the policy can be saved there, and run no more."""
        for module in policy.model.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                if isinstance(parameter, DTensor):
                    found = self.whole(parameter)
                    if found is not None:
                        module.register_parameter(name, nn.Parameter(found, requires_grad=parameter.requires_grad))


def own_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none. Raises UserError where GPUs are fewer than processes."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= count:
        raise UserError(f"expected a GPU for each process; found process {number} (counted from 0) and {count} GPUs; start fewer processes")
    return torch.device("cuda", number)


_START = "start them by `torchrun --nproc_per_node N -m robosteer_core.cli finetune ...`"


class Within(nn.Module):
    """Anything that runs a model, as one module's forward: around it gradients are averaged and shards come together."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[], Result]) -> Result:
        return work()


def like(parameter: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """A whole tensor that every process has, laid out as the parameter is."""
    if not isinstance(parameter, DTensor):
        return value
    return distribute_tensor(value.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None)


def unsharded(value: torch.Tensor) -> torch.Tensor:
    """A tensor put together in every process, where it is sharded."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def _units(policy: Policy) -> list[str]:
    """Modules whose weights come together as they run: the projections of all layers, and the words. Not whole layers, because
    `decoder.run_layers` calls what is in them."""
    sites, found = policy.sites, []
    for part in sites.parts:
        for layer in sites.layers(part):
            attention, forward = layer.attention, layer.feed_forward
            found += [attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj, forward.gate, forward.up, forward.down]
    words = next(path for path, module in policy.model.named_modules() if module is policy.backbone.embed_tokens)
    return [path for path in (*found, words) if path]
