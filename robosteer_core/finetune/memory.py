"""How much memory a run needs, before it starts: its first step on tensors that have shapes and no content."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.frozen import GIB, below, rest
from robosteer_core.vla.policy import FlowPolicy, Inputs, Policy


@dataclass(frozen=True)
class Memory:
    """Bytes: `weights` of the policy; `optimiser`, what it keeps of every trained weight; `step`, the most that a part of a
    batch holds at once on its way there and back, gradients included."""

    weights: int
    optimiser: int
    step: int

    @property
    def total(self) -> int:
        return self.weights + self.optimiser + self.step

    def __str__(self) -> str:
        unit, name = (GIB, "GiB") if self.total >= GIB else (2**20, "MiB")
        parts = (f"{of} {getattr(self, of) / unit:.1f}" for of in ("weights", "optimiser", "step"))
        return f"memory: about {self.total / unit:.1f} {name} ({', '.join(parts)})"


def estimate(
    policy: Policy, config: FinetuneConfig, frames: int, cameras: int, first: int, *, frozen: bool, words: int | None = None, shards: int = 1
) -> Memory:
    """The memory that each process needs to train what requires gradients in `policy`, whose weights may lie on the meta device.

    `frames` pass at once, each with `cameras` images and `words` tokens of instruction (default: all there is place for);
    below layer `first` of the backbone nothing is trained, and with `frozen` nothing before it either. Weights and optimiser are
    shared out to so many `shards`; the step counts gradients as if they were not. Attention is taken as PyTorch's plain kernel,
    which keeps the weights of attention; a fused one needs less. What the allocator wastes and CUDA's own few hundred MiB
    come on top.
    """
    dtype = _computed(config)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in (*policy.model.parameters(), *policy.model.buffers()))
    trained = sum(parameter.numel() for parameter in policy.model.parameters() if parameter.requires_grad)
    # AdamW's two moments; in bfloat16 gradients are float32 all the same, and the weights are cast for each step.
    optimiser = trained * (8 + (4 if dtype == torch.bfloat16 else 0) + (4 if config.held_out else 0))
    step = _step(_on_meta(policy, dtype), config, frames, cameras, first, frozen, words)
    return Memory(weights // shards, optimiser // shards, step)


#: Bytes of the GPU that sparse finetuning of a real model is meant for: what is asked for where no GPU is here.
GPU = 24e9


def room(device: torch.device) -> float:
    """Bytes that a run may take: the GPU's, less a twentieth for what no estimate sees."""
    return 0.95 * torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else GPU


def that_fits(needed: Callable[[FinetuneConfig], Memory], config: FinetuneConfig, processes: int, most: float) -> FinetuneConfig | None:
    """The settings that train nearly the same in at most `most` bytes, `needed` as the estimate says; None where there are none.

    In the order of what they cost: batches in smaller parts, layers computed again on the way back, one draw per frame.
    """
    splits = [config.accumulate]
    while 2 * splits[-1] * processes <= config.batch_size:
        splits.append(2 * splits[-1])
    for draws in dict.fromkeys((config.draws, 1)):
        for checkpointing in dict.fromkeys((config.checkpointing, True)):
            kept = {"draws": draws, "checkpointing": checkpointing}
            candidates = [config.model_copy(update=kept | {"accumulate": split}) for split in splits]
            if needed(candidates[-1]).total <= most:
                return next(one for one in candidates if needed(one).total <= most)
    return None


def advice(needed: Callable[[FinetuneConfig], Memory], config: FinetuneConfig, processes: int, most: float) -> str:
    """What to type instead of settings that need more than `most` bytes."""
    found = that_fits(needed, config, processes, most)
    if found is None:
        return f"warning: more than {most / GIB:.1f} GiB, and no smaller parts fit: train fewer heads, or share the weights out (--sharded)"
    options = [f"--accumulate {found.accumulate}"] if found.accumulate != config.accumulate else []
    options += ["--checkpointing"] if found.checkpointing > config.checkpointing else []
    options += [f"--draws {found.draws}"] if found.draws != config.draws else []
    return f"warning: more than {most / GIB:.1f} GiB; {' '.join(options)} fits: {needed(found)}"


def reached(policy: Policy, config: FinetuneConfig, cameras: int) -> set[str]:
    """Names of the parameters that require gradients and get one: not the last layer's queries, a tower's last block, or an
    expert's words."""
    there = _on_meta(policy, _computed(config))
    _step(there, config, 1, cameras, 0, False, None)
    return {name for name, parameter in there.model.named_parameters() if parameter.grad is not None}


def prefix_is_trained(policy: FlowPolicy, cameras: int) -> bool:
    """Whether something is trained before the backbone's first layer, such as SmolVLA's projection of the state."""
    there = _on_meta(policy, torch.float32)
    with _Alive(there.model):
        return there.embed(_inputs(there, 1, cameras))[0].requires_grad


def _computed(config: FinetuneConfig) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bfloat16" else torch.float32


def _step(policy: Policy, config: FinetuneConfig, frames: int, cameras: int, first: int, frozen: bool, words: int | None) -> int:
    """Bytes of all that is made in one forward and backward pass and alive at once, at most."""
    inputs = _inputs(policy, frames, cameras, words)
    generator = torch.Generator().manual_seed(0)
    count = frames * config.draws if isinstance(policy, FlowPolicy) else frames
    # OpenVLA looks its actions' words up on the host.
    actions = torch.zeros(count, policy.chunk_size, policy.action_dim, device="cpu" if policy.family == "openvla" else "meta")
    with _Alive(policy.model) as alive, sdpa_kernel(SDPBackend.MATH):
        if isinstance(policy, FlowPolicy):
            prefix = rest(policy, below(policy, inputs, first), first) if frozen else policy.prefix(inputs)
            noise, times = policy.draw_noise(count, generator), policy.draw_time(count, generator)
            state = inputs.state.repeat_interleave(config.draws, 0)
            loss = policy.loss(prefix.repeated(config.draws), state, actions, noise, times).mean()
            del prefix
        else:
            loss = policy.losses(inputs, actions, generator).mean()
        if loss.requires_grad:  # else the base is only measured
            loss.backward()
    return alive.most


def _inputs(policy: Policy, frames: int, cameras: int, words: int | None = None) -> Inputs:
    described, meta = policy.config, torch.device("meta")
    words = words or described.instruction_tokens
    return Inputs(
        torch.zeros(frames, cameras, 3, described.image_size, described.image_size, device=meta),
        torch.zeros(frames, words, dtype=torch.long, device=meta),
        torch.ones(frames, words, dtype=torch.long, device=meta),
        torch.zeros(frames, policy.state_dim, device=meta),
    )


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors that operations make, until they are gone; those of `model` are there already."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.now = self.most = 0
        there = (tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers()))
        self._known = weakref.WeakValueDictionary({storage._cdata: storage for storage in there})

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function is torch.ops.aten._local_scalar_dense.default and args[0].is_meta:
            return True  # somebody asks whether all tokens of a mask count; they do
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if self._known.get(storage._cdata) is not storage:
                    self._known[storage._cdata] = storage
                    self._add(storage.nbytes())
                    weakref.finalize(storage, self._add, -storage.nbytes())
        return result

    def _add(self, count: int) -> None:
        self.now += count
        self.most = max(self.most, self.now)


def _on_meta(policy: Policy, dtype: torch.dtype) -> Policy:
    """The same policy with weights of `dtype` that take no memory; what is trained and what is not stays as it is."""
    known: dict[int, torch.Tensor] = {}
    for parameter in policy.model.parameters():
        like = torch.empty_like(parameter, device="meta", dtype=dtype, requires_grad=False)
        known[id(parameter)] = nn.Parameter(like, requires_grad=parameter.requires_grad)
    for buffer in policy.model.buffers():
        known[id(buffer)] = torch.empty_like(buffer, device="meta")
    there = copy.copy(policy)
    there.__dict__["_modules"] = {**policy._modules, "model": copy.deepcopy(policy.model, known)}
    return there
