"""What each of several processes does: `torchrun ... worker.py FOLDER [sharded]` runs what FOLDER/runs.pickle names, one after another."""

import json
import pickle
import sys
from pathlib import Path

import torch
from runs import Dies, Killed

from robosteer_core.finetune.processes import Processes
from robosteer_core.finetune.train import finetune
from robosteer_core.vla.checkpoint import load_policy


def main(folder: Path, sharded: bool) -> None:
    torch.set_num_threads(1)
    processes = Processes(sharded=sharded)
    demonstrations, runs = pickle.loads((folder / "runs.pickle").read_bytes())
    for name, heads, config, updates in runs:
        try:
            finetune(load_policy(folder / "base"), demonstrations, heads, folder / name, config, dataset="demonstrations",
                     scored_part="expert", processes=processes, progress=None if updates is None else Dies(updates))  # fmt: skip
        except Killed:
            pass
    policy = load_policy(folder / "base")
    processes.wrapped(policy)
    held = sum(getattr(p, "_local_tensor", p).numel() for p in policy.parameters())
    (folder / f"held{processes.rank}.json").write_text(json.dumps(held))


if __name__ == "__main__":
    main(Path(sys.argv[1]), "sharded" in sys.argv)
