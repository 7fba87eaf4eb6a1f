"""The steps of a run: batches, optimiser, saved states from which a killed run goes on, early stop."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import Progress
from torch import nn

from robosteer_core.finetune.batches import Batches, PrefixSource
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.processes import Processes
from robosteer_core.vla.policy import Policy

STATE, LOG = "training.pt", "log.jsonl"
LOG_EVERY = 10


class _Loss(nn.Module):
    """The loss as one module's forward, which is what gradients are averaged around."""

    def __init__(self, policy: Policy, batches: Batches, source: PrefixSource | None) -> None:
        super().__init__()
        self.model, self._batches, self._source = policy.model, batches, source

    def forward(self, step: int, share: slice) -> torch.Tensor:
        return self._batches.loss(self._source, self._batches.rows(step), step, share)


def run(
    policy: Policy, source: PrefixSource | None, batches: Batches, out: Path, config: FinetuneConfig, processes: Processes,
    progress: Progress | None,
) -> dict[str, Any]:  # fmt: skip
    """Run the steps that are left; the policy ends with the last parameters, or the best ones on held-out episodes.

    Returns `seconds` spent on all steps, `steps` run, and `best`: step and loss of the held-out episodes, None without any.
    """
    named = {name: p for name, p in policy.model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(named.values(), lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-10)
    done, spent, log, best, waited = 0, 0.0, [], None, 0
    if (out / STATE).exists():
        state = torch.load(out / STATE, weights_only=True, map_location=policy.device)
        _put(named, state["parameters"])
        optimiser.load_state_dict(state["optimiser"])
        done, spent, log, best, waited = (state[key] for key in ("step", "seconds", "log", "best", "waited"))
    processes.wait()  # nobody reads a state that the first one has written since
    module = processes.wrapped(_Loss(policy, batches, source))
    shares = _shares(config.batch_size, processes.count * config.accumulate)[processes.rank * config.accumulate :][: config.accumulate]
    task = progress and progress.add_task("finetuning", total=config.steps, completed=done)
    begin, running = time.monotonic(), []
    policy.eval()
    for step in range(done, config.steps):
        if waited >= config.patience:
            break
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        optimiser.zero_grad()
        loss = processes.sum(_backward(module, step, shares, processes))
        nn.utils.clip_grad_norm_(named.values(), 1.0)
        optimiser.step()
        running.append(float(loss))
        done = step + 1
        if progress:
            progress.update(task, advance=1, description=f"finetuning, loss {np.mean(running[-LOG_EVERY:]):.3f}")
        if config.held_out and (done % config.validate_every == 0 or done == config.steps):
            held = batches.measure(source, held_out=True)
            log.append({"step": done, "held_out_loss": held})
            waited += 1
            if best is None or held < best["loss"]:
                best, waited = {"step": done, "loss": held, "parameters": {name: p.detach().clone() for name, p in named.items()}}, 0
        last = done == config.steps or waited >= config.patience
        if done % LOG_EVERY == 0 or last:
            log.append({"step": done, "loss": float(np.mean(running[-LOG_EVERY:])), "rate": config.rate(step)})
        if (done % config.save_every == 0 or last) and processes.writes:
            state = {
                "parameters": {name: p.detach() for name, p in named.items()}, "optimiser": optimiser.state_dict(),
                "step": done, "seconds": spent + time.monotonic() - begin, "log": log, "best": best, "waited": waited,
            }  # fmt: skip
            torch.save(state, out / (STATE + ".tmp"))
            (out / (STATE + ".tmp")).replace(out / STATE)
            (out / (LOG + ".tmp")).write_text("".join(json.dumps(entry) + "\n" for entry in log))
            (out / (LOG + ".tmp")).replace(out / LOG)
    if best is not None:
        _put(named, best.pop("parameters"))
    return {"seconds": spent + time.monotonic() - begin, "steps": done, "best": best}


def _backward(module: nn.Module, step: int, shares: list[slice], processes: Processes) -> torch.Tensor:
    """Gradients of this process's shares, averaged over the processes; returns the shares' part of the loss."""
    total: torch.Tensor | float = 0.0
    for share in shares[:-1]:
        with processes.apart(module):
            part = module(step, share)
            (part * processes.count).backward()
        total = total + part.detach()
    part = module(step, shares[-1])
    # Averaging divides by the number of processes; the shares' losses add up.
    (part * processes.count if processes.count > 1 else part).backward()
    return total + part.detach()


def _shares(size: int, count: int) -> list[slice]:
    """A batch in `count` parts, the whole one as it is."""
    if count == 1:
        return [slice(None)]
    bounds = np.linspace(0, size, count + 1).round().astype(int).tolist()
    return [slice(start, stop) for start, stop in zip(bounds, bounds[1:])]


@torch.no_grad()
def _put(named: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    for name, parameter in named.items():
        parameter.copy_(values[name])
