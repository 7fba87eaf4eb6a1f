"""The steps of a run: batches, optimiser, saved states from which a killed run goes on, early stop."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import Progress
from torch import nn

from robosteer_core.errors import UserError
from robosteer_core.files import write_text, written
from robosteer_core.finetune.batches import Batches, PrefixSource
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.processes import Processes, like, unsharded
from robosteer_core.vla.checkpoint import read_pickled

if TYPE_CHECKING:
    from robosteer_core.finetune.events import Events

STATE, LOG, EVENTS = "training.pt", "log.jsonl", "tensorboard"
LOG_EVERY = 10


def require_finite(value: float, what: str, step: int, config: FinetuneConfig) -> float:
    """`value` as it is. Raises UserError where it is infinite or no number: training has diverged, and would not come back."""
    if not math.isfinite(value):
        rate = f"the learning rate was {config.rate(step):g} of at most {config.learning_rate:g}"
        raise UserError(
            f"training diverged: {what} is {value} in step {step + 1} of {config.steps}, {rate}; no result was written; "
            "train with a lower --lr into another --out"
        )
    return value


def state_bytes(trainable: int, config: FinetuneConfig) -> int:
    """What a saved state takes: float32 parameters, AdamW's two moments, and with held-out episodes the best parameters."""
    return 4 * trainable * (4 if config.held_out else 3)


@torch.no_grad()
def measured(model: nn.Module, batches: Batches, source: PrefixSource | None, *, held_out: bool = False) -> float:
    """`Batches.measure` within the wrapped model."""
    return model(lambda: batches.measure(source, held_out=held_out))


def run(
    model: nn.Module, source: PrefixSource | None, batches: Batches, out: Path, config: FinetuneConfig, processes: Processes,
    progress: Progress | None, events: type[Events] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Run the steps that are left; `model`, as `Processes.wrapped` gives it, ends with the last parameters, or the best ones
    on held-out episodes; `events` write the log for TensorBoard too. A saved state is the same however many processes there are, and goes on in any number of them.

    Returns `seconds` spent on all steps, `steps` run, and `best`: step and loss of the held-out episodes, None without any.
    Raises UserError at the first loss or gradient that is not finite; the state saved before stays as it is.
    """
    named = {name.removeprefix("module.").removeprefix("model."): p for name, p in model.named_parameters() if p.requires_grad}
    optimiser = torch.optim.AdamW(named.values(), lr=config.learning_rate, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-10)
    done, spent, log, best, waited, running = 0, 0.0, [], None, 0, []
    if (out / STATE).exists():
        state = read_pickled(out / STATE, "remove it, and the run begins anew")
        _put(named, state["parameters"])
        optimiser.load_state_dict(_laid_out(state["optimiser"], list(named.values())))
        done, spent, log, best, waited, running = (state[key] for key in ("step", "seconds", "log", "best", "waited", "running"))
    board = events(out / EVENTS, log) if events and processes.writes else None
    processes.wait()  # nobody reads a state that the first one has written since
    shares = _shares(config.batch_size, processes.count * config.accumulate)[processes.rank * config.accumulate :][: config.accumulate]
    task = progress and progress.add_task("finetuning", total=config.steps, completed=done)
    begin = time.monotonic()
    for step in range(done, config.steps):
        if waited >= config.patience:
            break
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        optimiser.zero_grad()
        loss = processes.sum(_backward(model, batches, source, step, shares, processes))
        gradient = nn.utils.clip_grad_norm_(named.values(), 1.0)
        require_finite(float(loss), "the loss", step, config)
        require_finite(float(unsharded(gradient)), "the gradient", step, config)
        optimiser.step()
        running = [*running[1 - LOG_EVERY :], float(loss)]
        done = step + 1
        if progress:
            progress.update(task, advance=1, description=f"finetuning, loss {np.mean(running):.3f}")
        if config.held_out and (done % config.validate_every == 0 or done == config.steps):
            held = require_finite(measured(model, batches, source, held_out=True), "the loss of the held-out episodes", step, config)
            log.append({"step": done, "held_out_loss": held})
            waited += 1
            if best is None or held < best["loss"]:
                best, waited = {"step": done, "loss": held, "parameters": {name: p.detach().clone() for name, p in named.items()}}, 0
        last = done == config.steps or waited >= config.patience
        if done % LOG_EVERY == 0 or last:
            log.append({"step": done, "loss": float(np.mean(running)), "rate": config.rate(step)})
        if done % config.save_every == 0 or last:
            state = processes.whole({
                "parameters": {name: p.detach() for name, p in named.items()}, "optimiser": optimiser.state_dict(),
                "step": done, "seconds": spent + time.monotonic() - begin, "log": log, "best": best, "waited": waited,
                "running": running,
            })  # fmt: skip
            if processes.writes:
                # First, so that a run killed in between writes it again: after the last state nothing would.
                write_text(out / LOG, "".join(json.dumps(entry) + "\n" for entry in log))
                with written(out / STATE) as temporary, temporary.open("wb") as file:
                    torch.save(state, file)
                if board:
                    board.write(log)
    if board:
        board.close()
    if best is not None:
        _put(named, best.pop("parameters"))
    return {"seconds": spent + time.monotonic() - begin, "steps": done, "best": best}


def saved_step(out: Path) -> int:
    """How many steps are behind the state from which a run in `out` goes on."""
    return torch.load(out / STATE, weights_only=True, mmap=True)["step"] if (out / STATE).exists() else 0


def _backward(
    model: nn.Module, batches: Batches, source: PrefixSource | None, step: int, shares: list[slice], processes: Processes
) -> torch.Tensor:
    """Gradients of this process's shares, averaged over the processes; returns the shares' part of the loss."""

    def loss(share: slice) -> torch.Tensor:
        return model(lambda: batches.loss(source, batches.rows(step), step, share))

    total: torch.Tensor | float = 0.0
    for share in shares[:-1]:
        with processes.apart(model):
            part = loss(share)
            (part * processes.count).backward()
        total = total + part.detach()
    part = loss(shares[-1])
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
        parameter.copy_(like(parameter, values[name]))


def _laid_out(state: dict[str, Any], parameters: list[nn.Parameter]) -> dict[str, Any]:
    """An optimiser's saved state with its moments laid out as the parameters are."""
    of = {
        index: {key: like(parameters[index], value) if value.shape == parameters[index].shape else value for key, value in kept.items()}
        for index, kept in state["state"].items()
    }
    return state | {"state": of}
