"""A step of finetuning 20 heads against one of all heads: time and memory of three sets of heads, in turn, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/sparse_speed.py [--rounds 8] [--width 256] [--batch 4] [--draws 1] [--device cpu]

A pi0 of 18 layers x 8 heads with random weights and reduced widths (see `deep_policy`; the real one is 2048 wide and has 816 tokens
before the actions', here 84). The sets: the release's golden one (swap_green_red_cube), the 20 best by our selection on the demonstrations
of --dataset, and the 20 best above the middle layer. Same rank, modules (q and o), batch and noise. Each set is tried with two caches:
`images`, the very same one on both sides, so that what is saved is the way back below the lowest adapted layer; and `frozen`, which
`robosteer finetune` has: each side's own of all that its adapter leaves as it was, the layers below the lowest adapted one too (of all
heads, nothing more than the images). A step is loss, backward pass, clipping and AdamW, as in `robosteer finetune`. Seconds are CPU time of this process (on a GPU the wall's); the ratio is the median over rounds of two neighbouring steps.
Memory is the most that one step's tensors take at once, gradients included, weights and cache not.
"""

import argparse
import copy
import os
import time
from pathlib import Path

import numpy as np
import torch
from capture_cost import deep_policy
from torch import nn

from robosteer_core.adapters.sparse_lora import add_adapter
from robosteer_core.adapters.targets import adapter_targets
from robosteer_core.episodes.reader import Dataset
from robosteer_core.finetune.batches import Batches
from robosteer_core.finetune.config import FinetuneConfig
from robosteer_core.finetune.frozen import FrozenPrefix
from robosteer_core.heads.capture import capture
from robosteer_core.heads.demonstrations import fit, load_demonstrations
from robosteer_core.heads.selection import ranked, select
from robosteer_core.vla.sites import Head

GOLDEN = [(9, 7), (9, 4), (8, 4), (9, 2), (5, 7), (7, 6), (8, 5), (9, 1), (7, 1), (1, 5), (3, 2), (9, 0), (3, 1), (9, 5), (1, 6), (4, 7), (7, 0),
          (8, 6), (5, 3), (1, 3)]  # fmt: skip
ALL = "all 136"
BRIDGE = Path(__file__).resolve().parents[3] / "shared" / "data" / "bridge_sample"


class Trainee:
    """One adapter on a copy of the policy, with its caches, and its steps."""

    def __init__(self, policy, demonstrations, heads, config) -> None:
        self.policy, self.heads, self.first = copy.deepcopy(policy), heads, min(head.layer for head in heads)
        torch.manual_seed(0)
        add_adapter(self.policy.model, adapter_targets(self.policy, heads, "none"), config.rank, config.alpha)
        self.policy.eval()
        self.trained = [parameter for parameter in self.policy.parameters() if parameter.requires_grad]
        self._optimiser = torch.optim.AdamW(self.trained, lr=1e-3)
        self._batches = Batches(self.policy, demonstrations, config)
        self.caches = {name: FrozenPrefix(self.policy, demonstrations, first) for name, first in (("images", 0), ("frozen", self.first))}
        assert all(cache.bytes for cache in self.caches.values()), "a cache would be larger than it may be: take fewer frames"

    def gradients(self, number: int, cache: str) -> None:
        self._optimiser.zero_grad()
        self._batches.loss(self.caches[cache], self._batches.rows(number), number).backward()

    def step(self, number: int, cache: str) -> None:
        self.gradients(number, cache)
        nn.utils.clip_grad_norm_(self.trained, 1.0)
        self._optimiser.step()
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, number: int, cache: str) -> float:
        clock = time.perf_counter if self.policy.device.type == "cuda" else time.process_time
        begin = clock()
        self.step(number, cache)
        return clock() - begin

    def bytes(self, cache: str) -> int:
        """Of the tensors of one step."""
        if self.policy.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.gradients(0, cache)
            return torch.cuda.max_memory_allocated() - before
        self._optimiser.zero_grad()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
            self.gradients(0, cache)
        events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
        return int(np.cumsum([event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--draws", type=int, default=1, help="noises per frame; the release draws one")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dataset", type=Path, default=BRIDGE)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)  # of the weights, which decide which heads are best
    policy, dataset = deep_policy(arguments.width).to(arguments.device), Dataset(arguments.dataset)
    fit(policy, dataset)
    demonstrations = load_demonstrations(dataset, policy)
    sets = head_sets(policy, demonstrations)
    few = load_demonstrations(dataset, policy, np.arange(0, len(demonstrations), 4))  # time does not depend on how many are cached
    config = FinetuneConfig(batch_size=arguments.batch, draws=arguments.draws, rank=arguments.rank, alpha=arguments.rank)
    trainees = {name: Trainee(policy, few, heads, config) for name, heads in sets.items()}
    sizes = policy.sizes
    print(
        f"pi0, {sum(p.numel() for p in policy.parameters()) / 1e6:.0f} M parameters, 18 x 8 heads, backbone {sizes.vlm_config.text_config.hidden_size} "
        f"and expert {sizes.dit_config.hidden_size} wide; rank {config.rank}, batch {config.batch_size}, {config.draws} noises a frame, "
        f"{len(few)} frames; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )  # fmt: skip
    # All heads reach down to layer 0, so that their two caches are one.
    trials = [(name, cache) for name in trainees for cache in ("images", "frozen") if name != ALL or cache == "images"]
    spent: dict[tuple[str, str], list[float]] = {trial: [] for trial in trials}
    for number in range(-1, arguments.rounds):
        turn = number % len(trials)
        for name, cache in trials[turn:] + trials[:turn]:
            seconds = trainees[name].seconds(number + 1, cache)
            if number >= 0:  # the first is for warming up
                spent[name, cache].append(seconds)
        print(f"round {number + 1} of {arguments.rounds}, load {os.getloadavg()[0]:.1f}", flush=True)
    slow, memory = np.array(spent[ALL, "images"]), {trial: trainees[trial[0]].bytes(trial[1]) for trial in trials}
    print(f"{'heads':20s} lowest  trained    cache     s/step   {'faster than all heads':24s}  step's memory      cached per frame")
    for name, cache in trials:
        trainee = trainees[name]
        low, middle, high = np.percentile(slow / np.array(spent[name, cache]), (25, 50, 75))
        print(
            f"{name:20s} {trainee.first:6d} {sum(p.numel() for p in trainee.trained):9,d}  {cache:8s} {np.median(spent[name, cache]):7.3f}   "
            f"{middle:5.2f}x ({low:.2f} to {high:.2f})     {memory[name, cache] / 2**20:8.1f} MiB {memory[name, cache] / memory[ALL, 'images']:5.2f}x "
            f"{trainee.caches[cache].bytes / len(few) / 2**10:8.0f} KiB"
        )  # fmt: skip


def head_sets(policy, demonstrations) -> dict[str, list[Head]]:
    """The backbone's heads of the same index as the expert's that are ranked, as in the release."""
    eligible = policy.sites.eligible("vlm")
    found = select(capture(policy, demonstrations), demonstrations.action / demonstrations.action.std(0), demonstrations.episode, eligible=eligible)
    order = ranked(found.scores[found.ks.index(found.k)], eligible)
    middle = len(eligible) // 2
    places = {
        "golden set": GOLDEN, "best 20": found.heads, "best 20, upper half": [place for place in order if place[0] >= middle][:20],
        ALL: order,
    }  # fmt: skip
    return {name: [Head("vlm", *place) for place in of_set] for name, of_set in places.items()}


if __name__ == "__main__":
    main()
