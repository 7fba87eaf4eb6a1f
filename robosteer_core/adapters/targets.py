"""What an adapter trains: slices of attention projections, and by choice feed-forward layers and the action modules.

Robotic Steering's paper trains q and o of the chosen heads; its release adds a LoRA on the feed-forward layers of the whole
backbone and trains the modules between actions and expert in full (reference/robotic_steering.md, section 5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from robosteer_core.adapters.slices import KeyValueRule, Slice, head_slices
from robosteer_core.errors import UserError
from robosteer_core.vla.policy import Policy
from robosteer_core.vla.sites import Head

#: Modules that carry state, time and actions into the expert and actions out of it, by their names in pi0, pi0.5 and SmolVLA.
ACTION_MODULES = (
    "state_proj", "action_in_proj", "action_time_mlp_in", "action_time_mlp_out", "time_mlp_in", "time_mlp_out", "action_out_proj",
)  # fmt: skip


@dataclass(frozen=True)
class Targets:
    """Module paths relative to `policy.model`: `slices` of projections, `whole` linear layers with an ordinary LoRA, and
    modules trained in `full`."""

    slices: dict[str, Slice]
    whole: tuple[str, ...] = ()
    full: tuple[str, ...] = ()

    def parameters(self, model: nn.Module, rank: int) -> int:
        """How many parameters an adapter on them has."""
        count = 0
        for path in self.full:
            module = model.get_submodule(path)
            count += sum(parameter.numel() for parameter in getattr(module, "original_module", module).parameters())
        for path in (*self.slices, *self.whole):
            layer, part = model.get_submodule(path), self.slices.get(path)
            rows, columns = layer.out_features, layer.in_features
            if part is not None:
                rows, columns = (len(part.indices), columns) if part.dim == 0 else (rows, len(part.indices))
            count += rank * (rows + columns)
        return count


def adapter_targets(
    policy: Policy, heads: Sequence[Head], kv: KeyValueRule = "own", *, feed_forward: bool = False, action_modules: bool = False
) -> Targets:
    """Targets of an adapter of these heads, all of one part.

    `feed_forward` adds all feed-forward layers of that part that reach the action, `action_modules` what is named so above.
    Raises UserError for heads that the model lacks, and where it has no such modules.
    """
    whole: tuple[str, ...] = ()
    slices, part = head_slices(policy.sites, heads, kv), heads[0].part
    if feed_forward:
        layers = (site for site, reaches in zip(policy.sites.feed_forward(part), policy.sites.eligible_feed_forward(part)) if reaches)
        whole = tuple(path for site in layers for path in (site.gate, site.up, site.down) if path)
    full = tuple(path for path, _ in policy.model.named_modules() if path.rpartition(".")[2] in ACTION_MODULES) if action_modules else ()
    if action_modules and not full:
        raise UserError(f"a policy of the family {policy.family} has no action modules ({', '.join(ACTION_MODULES)}) to train")
    return Targets(slices, whole, full)
