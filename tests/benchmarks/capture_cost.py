"""What capturing adds to a forward pass: taps on and off in turn, in one run.

    OMP_NUM_THREADS=1 python tests/benchmarks/capture_cost.py [--rounds 60] [--width 512] [--device cpu]

A pi0 of 18 layers x 8 heads with random weights, two cameras, batch 4. A pass is the prefix and one suffix; the last
line gives the release's whole recipe, one suffix pass more than sampling. CPU time of this process, which a loaded
machine changes less than the wall's; the median over rounds of the ratio of two neighbouring passes.
"""

import argparse
import os
import time
from contextlib import ExitStack

import numpy as np
import torch
from transformers import PI0Config, PI0ForConditionalGeneration

from robosteer_core.heads.capture import DEFAULT_READ, read_batch
from robosteer_core.heads.tap import Read, Tap, last_valid, mean_of_images, one_token
from robosteer_core.vla.config import Normalisation, PolicyConfig
from robosteer_core.vla.pi0 import Pi0Policy
from robosteer_core.vla.tokenizer import InstructionTokenizer, train

BATCH, CAMERAS = 4, ("front", "wrist")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    policy = deep_policy(arguments.width).to(arguments.device)
    random = np.random.default_rng(0)
    images = {name: random.integers(0, 255, (BATCH, policy.config.image_size, policy.config.image_size, 3), dtype=np.uint8) for name in CAMERAS}
    inputs = policy.inputs(images, random.normal(size=(BATCH, 7)), ["press the red button"] * BATCH)
    noise = torch.randn(BATCH, policy.chunk_size, policy.action_dim, device=policy.device)
    count = sum(parameter.numel() for parameter in policy.parameters())
    shapes = ", ".join(f"{part} {layers} x {heads}" for part, (layers, heads) in ((part, policy.sites.shape(part)) for part in policy.sites.parts))
    print(f"pi0 with {count / 1e6:.1f} M parameters ({shapes}), batch {BATCH}, {arguments.rounds} rounds, load {os.getloadavg()[0]:.1f}")

    @torch.inference_mode()
    def forward() -> None:
        policy.velocity(policy.prefix(inputs), inputs.state, noise, torch.ones(BATCH, device=noise.device))
        if noise.is_cuda:
            torch.cuda.synchronize()

    mask = policy.embed(inputs)[1]
    reductions = {"expert": one_token(policy.first_action_token), "vlm": last_valid(mask), "vision": mean_of_images(BATCH)}
    for names in (["expert"], ["expert", "vlm", "vision"], ["expert.ffn", "vlm.ffn", "vision.ffn"]):
        reads = [Read.parse(name) for name in names]

        def tapped(reads=reads) -> None:
            with ExitStack() as stack:
                taps = [stack.enter_context(Tap(policy.model, read.paths(policy.sites), reductions[read.part])) for read in reads]
                forward()
            for tap in taps:
                tap.read().cpu()

        compare(f"a pass with taps on {', '.join(names)}", forward, tapped, arguments.rounds)

    @torch.inference_mode()
    def sample() -> None:
        policy.sample(policy.prefix(inputs), inputs.state, noise)

    compare("sampling and the release's extra pass", sample, lambda: read_batch(policy, inputs, noise, [DEFAULT_READ]), arguments.rounds // 4)


def compare(name: str, plain, changed, rounds: int) -> None:
    plain(), changed()
    ratios = []
    for number in range(rounds):
        order = (plain, changed) if number % 2 else (changed, plain)
        spent = {work: cpu_time(work) for work in order}
        ratios.append(spent[changed] / spent[plain])
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    print(f"{name:60s} {100 * (middle - 1):+6.2f} %   (quartiles {100 * (low - 1):+.2f} to {100 * (high - 1):+.2f})   load {os.getloadavg()[0]:.1f}", flush=True)


def cpu_time(work) -> float:
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    began = clock()
    work()
    return clock() - began


def deep_policy(width: int) -> Pi0Policy:
    """18 layers x 8 heads in backbone and expert, 6 x 4 in the image encoder, 96 px images of 36 patches; random weights."""
    names, tokenizer = tuple("abcdefg"), InstructionTokenizer(train(), 12)
    unit = Normalisation(mean=(0.0,) * 7, std=(1.0,) * 7)
    config = PolicyConfig(
        family="pi0", cameras=CAMERAS, image_size=96, state_names=names, action_names=names, action_hz=15, instruction_tokens=12,
        flow_steps=10, state=unit, action=unit,
    )  # fmt: skip
    gemma = {"model_type": "gemma", "num_hidden_layers": 18, "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": width // 4}
    text = gemma | {"hidden_size": width, "intermediate_size": 4 * width, "vocab_size": tokenizer.vocabulary_size + 1}
    vision = {
        "model_type": "siglip_vision_model", "hidden_size": width // 2, "intermediate_size": 2 * width, "num_hidden_layers": 6,
        "num_attention_heads": 4, "patch_size": 16, "image_size": 96, "vision_use_head": False,
    }  # fmt: skip
    vlm = {
        "model_type": "paligemma", "text_config": text, "vision_config": vision, "projection_dim": width, "hidden_size": width,
        "image_token_index": tokenizer.vocabulary_size,
    }  # fmt: skip
    model = PI0ForConditionalGeneration(
        PI0Config(
            vlm_config=vlm, dit_config=gemma | {"hidden_size": width // 2, "intermediate_size": 2 * width}, chunk_size=16,
            max_state_dim=7, max_action_dim=7, num_inference_steps=10,
        )
    )  # fmt: skip
    return Pi0Policy(model, config, tokenizer)


if __name__ == "__main__":
    main()
