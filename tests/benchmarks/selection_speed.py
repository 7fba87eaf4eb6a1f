"""Head selection at the size of a real pi0: seconds, CPU seconds and peak memory.

    OMP_NUM_THREADS=2 python tests/benchmarks/selection_speed.py [--frames 2000] [--methods greedy variance ...]

The input is random, with near-duplicates (1e-4 apart) of every tenth frame in another demonstration. The load of the
machine is printed with it: on a busy one the wall time says little, the CPU seconds stay.
"""

import argparse
import os
import resource
import time

import numpy as np
import torch

from robosteer_core.heads.alternatives import METHODS, select_by
from robosteer_core.heads.selection import select
from robosteer_core.heads.stability import stability

LAYERS, HEADS, WIDTH, EPISODES = 18, 8, 256, 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--methods", nargs="*", choices=METHODS, default=[])
    parser.add_argument("--stability", action="store_true", help="the bootstrap too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    random, count = np.random.default_rng(0), arguments.frames
    activations = random.standard_normal((count, LAYERS, HEADS, WIDTH), np.float32)
    actions, episodes = random.normal(size=(count, 8)), np.arange(count) * EPISODES // count
    copied = np.arange(0, count, 10)
    activations[(copied + count // 2) % count] = activations[copied] * (1 + 1e-4 * random.standard_normal(activations[copied].shape))
    print(f"{count} frames x {LAYERS * HEADS} heads x 4 values of k, d = {WIDTH}; {arguments.threads} threads on {os.cpu_count()} cores")
    report("select", lambda: select(activations, actions, episodes))
    if arguments.stability:
        chosen = select(activations, actions, episodes)
        report("stability", lambda: stability(activations, actions, episodes, chosen, eligible=np.ones((LAYERS, HEADS), bool)))
    for method in arguments.methods:
        merit = random.random((LAYERS, HEADS))
        report(method, lambda: select_by(method, activations, actions, episodes, merit=merit))


def report(name: str, work) -> None:
    load, wall, cpu = os.getloadavg()[0], time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:10s} {wall:6.1f} s   CPU {cpu:6.1f} s   peak so far {peak:.2f} GiB   load before {load:.1f}, after {os.getloadavg()[0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
