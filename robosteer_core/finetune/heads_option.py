"""What `--heads` may say: a selection, random heads, whole layers, all of them, or none."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from robosteer_core.adapters.store import base_of
from robosteer_core.errors import UserError
from robosteer_core.heads.task_heads import TRAINED_PART, default_count, read_heads
from robosteer_core.vla.policy import Policy
from robosteer_core.vla.sites import Head, Sites


def parse_heads(option: str, policy: Policy, n_heads: int | None = None) -> tuple[list[Head], str | None]:
    """Heads of `policy` to train, and the part whose heads were scored (None where none were).

    `option` is the file of a selection, `random:SEED`, `layers:N,N,...`, `all`, or `none`; `n_heads` (random only) defaults to
    the number that a selection would have. `all`, `layers` and `random` mean the backbone's heads that reach the action.
    Raises UserError for anything else, and for a selection that was made on another policy.
    """
    sites = policy.sites
    eligible = sites.eligible_heads(TRAINED_PART)
    if option == "none":
        return [], None
    if option == "all":
        return eligible, None
    kind, _, seed = option.partition(":")
    if kind == "layers":
        return _whole_layers(seed, eligible), None
    if kind == "random":
        if not seed.isdecimal():
            raise UserError(f"expected random:SEED with a whole number as seed; found {option!r}")
        count = n_heads or default_count(sites)
        if count > len(eligible):
            raise UserError(f"{count} random heads were asked for; the model has {len(eligible)} eligible ones")
        chosen = np.random.default_rng(int(seed)).choice(len(eligible), count, replace=False)
        return [eligible[index] for index in sorted(chosen.tolist())], None
    heads, record = read_heads(Path(option))
    require_trainable(sites, heads)
    made_on = record.get("policy_sha256", record.get("base_sha256"))  # the latter in the `heads.json` of an adapter
    if made_on is not None:
        base, sha256 = base_of(policy)
        if made_on != sha256:
            raise UserError(
                f"the heads in {option} were selected on the policy {record.get('policy', record.get('base'))} (weights {made_on[:12]}); the one to train is "
                f"{base} (weights {sha256[:12]}); select heads on this one, or train that one"
            )
    return heads, record.get("scored_part")


def require_trainable(sites: Sites, heads: Iterable[Head]) -> None:
    """Raises UserError for a head that the model lacks, or whose training would change nothing."""
    for head in heads:
        site = sites.site(head)
        if head.part == "vision" or not sites.eligible(head.part)[head.layer, head.head]:
            why = "the image encoder is frozen" if head.part == "vision" else "its queries and outputs do not reach the action"
            raise UserError(f"head {tuple(head)} cannot be trained: {why} (layer {site.layer} of {len(sites.part(head.part))})")


def _whole_layers(option: str, eligible: list[Head]) -> list[Head]:
    known = {head.layer for head in eligible}
    numbers = option.split(",")
    if not all(number.isdecimal() and int(number) in known for number in numbers):
        raise UserError(f"expected layers:N,N,... with layers whose heads reach the action, {min(known)} to {max(known)}; found {option!r}")
    return [head for head in eligible if head.layer in set(map(int, numbers))]
