"""One resumable command: collect, train, measure, write the checkpoint with its model card."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from pydantic import ValidationError

from robosteer_core.episodes.layout import write_json
from robosteer_core.errors import UserError
from robosteer_core.evaluation.statistics import SuccessRate
from robosteer_core.rig import Rig
from robosteer_core.vla.checkpoint import fingerprint
from robosteer_core.vla.config import Normalisation, PolicyConfig
from robosteer_core.vla.policy import FlowPolicy
from robosteer_core.vla.small import IMAGE_SIZE, INSTRUCTION_TOKENS, new_policy
from robosteer_sim.pretrain import INSTRUCTIONS
from robosteer_sim.pretrain.collect import collect
from robosteer_sim.pretrain.evaluate import successes
from robosteer_sim.pretrain.train import Shards, train
from robosteer_sim.tasks import TASKS

#: Seeds of pretraining scenes begin here; demonstrations and trials have others.
FIRST_SEED = 1_000_000
#: Seeds of the scenes in which the finished base is measured.
MEASURED_SEED = 900_000
FLOW_STEPS = 5


def pretrain(rig: Rig, out: Path, work: Path, episodes: int, steps: int, trials: int, seed: int, processes: int, say: Callable[[str], None]) -> None:
    """Write the base policy to `out`. Shards, training state and measured successes are kept in `work`; killed and called
    again, it goes on from there."""
    began = time.perf_counter()
    work.mkdir(parents=True, exist_ok=True)
    _claim(work / "settings.json", {"episodes": episodes, "seed": seed, "rig": rig.model_dump(mode="json")})
    paths = collect(rig, work / "shards", episodes, IMAGE_SIZE, FIRST_SEED + 100_000 * seed, processes)
    shards = Shards(paths, tuple(camera.name for camera in rig.cameras))
    say(f"{len(shards)} frames of {episodes} episodes")
    policy = new_policy(
        PolicyConfig(
            family="pi0", cameras=tuple(camera.name for camera in rig.cameras), image_size=IMAGE_SIZE,
            state_names=rig.state_names, action_names=rig.action_space.names, action_hz=rig.rates.policy_hz,
            instruction_tokens=INSTRUCTION_TOKENS, flow_steps=FLOW_STEPS,
            state=Normalisation.of(shards.state), action=Normalisation.of(shards.action),
        ),
        seed,
    )  # fmt: skip
    torch.set_num_threads(processes)
    train(policy, shards, work, steps, seed)
    policy.save(out)
    minutes = (time.perf_counter() - began) / 60
    rates = _measure(policy, rig, work / "measured.json", trials, fingerprint(out), say)
    (out / "README.md").write_text(_card(policy, shards, episodes, steps, seed, minutes, rates))


def _claim(path: Path, settings: dict) -> None:
    """Put on record what the folder's episodes and weights are made for. Raises UserError where it is something else."""
    if not path.exists():
        write_json(settings, path)
    found = json.loads(path.read_text())
    with suppress(KeyError, ValidationError):  # as rigs, not by their words: those of an older version mean the same
        found["rig"] = Rig.model_validate(found["rig"]).model_dump(mode="json")
    differing = [f"{key} {found.get(key)!r:.40}" for key in settings if found.get(key) != settings[key]]
    if differing:
        raise UserError(f"{path.parent} holds a pretraining with another {', '.join(differing)}; choose another --work or remove it")


#: What is measured together: instructions of one verb, and each task of the lab that was not taught.
TAUGHT = {
    verb: [text for text in INSTRUCTIONS if text.startswith(verb)] for verb in dict.fromkeys(text.split()[0] for text in INSTRUCTIONS)
}  # fmt: skip
MEASURED = {f"{verb}, {len(texts)} instructions": texts for verb, texts in TAUGHT.items()} | {
    f"not taught: {task}": [task] for task in ("press the red button", *TASKS) if task not in INSTRUCTIONS
}


def _measure(policy: FlowPolicy, rig: Rig, path: Path, trials: int, weights: str, say: Callable[[str], None]) -> dict[str, SuccessRate]:
    """Success on what was taught and what was not, remembered in `path` for these weights."""
    known = json.loads(path.read_text()) if path.exists() else {}
    measured = known.get("rates", {}) if known.get("weights") == weights and known.get("trials") == trials else {}
    torch.set_num_threads(1)
    for name, instructions in MEASURED.items():
        if name not in measured:
            good, failures = successes(policy, rig, instructions, range(MEASURED_SEED, MEASURED_SEED + trials))
            measured[name] = good
            write_json({"weights": weights, "trials": trials, "rates": measured}, path)
            say(f"{name}: {good} of {trials} {dict(Counter(failures)) or ''}")
    return {name: SuccessRate(successes=measured[name], trials=trials) for name in MEASURED}


def _card(policy: FlowPolicy, shards: Shards, episodes: int, steps: int, seed: int, minutes: float, rates: dict[str, SuccessRate]) -> str:
    rows = "\n".join(
        f"| {name} | {rate.successes} of {rate.trials} | {rate.wilson_95[0]:.2f}-{rate.wilson_95[1]:.2f} |" for name, rate in rates.items()
    )
    parameters = sum(parameter.numel() for parameter in policy.model.parameters())
    return f"""# Small pi0, pretrained in the simulated lab

{parameters:,} parameters in the architecture of pi0 (transformers' `PI0ForConditionalGeneration`): a SigLIP encoder, a Gemma
backbone and a Gemma action expert of {policy.backbone.config.num_hidden_layers} layers x {policy.backbone.config.num_attention_heads} heads each, two cameras of {policy.config.image_size} x {policy.config.image_size} pixels.

- Made by: `robosteer sim pretrain --episodes {episodes} --steps {steps} --seed {seed}`; {minutes:.0f} minutes in the last call
- Data: {episodes} episodes ({len(shards)} frames at {policy.config.action_hz:g} Hz) of the scripted operator in the simulated lab, noise on the executed
  commands, none on the recorded ones; {len(INSTRUCTIONS)} instructions: touch, open, stack; none presses, pushes,
  picks up or places into anything; in half of the scenes distractors stand about
- Loss: flow matching, and the place of an object that is named, read from the instruction's last token (the head that reads
  it is not part of the file); mugs, cups, markers and cans are only named, never touched
- Not for any real robot: it has seen nothing but this lab

Success in scenes that it was not trained on, inside one process without FCI, 12 s a trial, 20 s for the longer tasks:

| instruction | successes | 95 % Wilson interval |
|---|---|---|
{rows}
"""
