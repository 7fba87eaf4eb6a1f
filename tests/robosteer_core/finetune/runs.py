"""Short runs, and runs that are killed."""

import io
import json

from rich.console import Console
from safetensors.torch import load_file

from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.train import finetune
from robosteer_core.vla.checkpoint import load_policy
from robosteer_core.vla.sites import Head

HEADS = [Head("vlm", 0, 1), Head("vlm", 1, 5)]
SHORT = FinetuneConfig(steps=6, batch_size=4, draws=2, rank=4, alpha=4, save_every=2)


def train(base, demonstrations, out, config=SHORT, heads=HEADS, progress=None):
    policy = load_policy(base)
    return policy, finetune(policy, demonstrations, heads, out, config, dataset="demonstrations", scored_part="expert", progress=progress)


def weights(out):
    return load_file(out / "adapter_model.safetensors")


def losses(out):
    return [entry["loss"] for entry in map(json.loads, (out / "log.jsonl").read_text().splitlines()) if "loss" in entry]


class Killed(Exception):
    pass


class Dies:
    """A progress bar that ends the run after some updates, between two saved states."""

    def __init__(self, updates, by=Killed):
        self.left, self.by, self.console = updates, by, Console(file=io.StringIO())

    def add_task(self, *_, **__):
        return 1

    def advance(self, *_):
        pass

    def update(self, *_, advance=0, **__):
        self.left -= advance
        if self.left < 0:
            raise self.by
