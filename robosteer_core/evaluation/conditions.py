"""What is to be tried: from a YAML file of conditions, or from the words of the command line."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import TypeAdapter, ValidationError

from robosteer_core.errors import UserError
from robosteer_core.evaluation.catalogue import Catalogue, expand_tasks, expand_variations
from robosteer_core.evaluation.trial_policy import PolicySpec
from robosteer_core.evaluation.trials import Cell

Plan = tuple[dict[str, PolicySpec], tuple[Cell, ...]]


class Condition(PolicySpec):
    """A policy on one task, or on `all`, under a variation or `all` of them, under a name of its own."""

    task: str
    variation: str = "none"


def load_conditions(path: Path, catalogue: Catalogue) -> Plan:
    """Read a YAML list of conditions. Raises UserError naming the file and the entry that is wrong, or the unknown task."""
    if not path.is_file():
        raise UserError(f"no file of conditions at {path}; expected a YAML list of name, policy, adapter, images, device, task, variation")
    try:
        conditions = TypeAdapter(list[Condition]).validate_python(yaml.safe_load(path.read_bytes()))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    except ValidationError as error:
        reasons = [f"  {'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']} (found {e['input']!r:.60})" for e in error.errors()]
        raise UserError(
            f"{path} is not a list of conditions (name, policy, adapter, images, device, task, variation):\n" + "\n".join(reasons)
        ) from error
    names = [condition.name for condition in conditions]
    if not names or len(set(names)) < len(names):
        raise UserError(f"{path}: expected conditions with distinct names, found: {', '.join(names) or 'none'}")
    specs = {c.name: PolicySpec(name=c.name, policy=c.policy, adapter=c.adapter, images=c.images, device=c.device) for c in conditions}
    return specs, tuple(cell for c in conditions for cell in _cells([c.name], [c.task], [c.variation], catalogue))


def grid(
    policies: list[str], adapters: list[str], tasks: list[str], variations: list[str], catalogue: Catalogue, device: str = "cpu"
) -> Plan:
    """Every policy on every task under every variation. A policy's name is the word that named it, with its adapter's."""
    if len(adapters) > len(policies):
        raise UserError(f"each --adapter belongs to the --policy in the same place; found {len(adapters)} for {len(policies)}")
    specs: dict[str, PolicySpec] = {}
    for policy, adapter in zip(policies, adapters + ["none"] * (len(policies) - len(adapters))):
        name = policy if adapter == "none" else f"{policy} + {adapter}"
        if name in specs:
            raise UserError(f"the policy {name!r} is named twice; name each once")
        specs[name] = PolicySpec(name=name, policy=policy, adapter=None if adapter == "none" else Path(adapter), device=device)
    return specs, _cells(list(specs), tasks, variations, catalogue)


def _cells(policies: list[str], tasks: list[str], variations: list[str], catalogue: Catalogue) -> tuple[Cell, ...]:
    tasks, variations = expand_tasks(catalogue, tasks), expand_variations(catalogue, variations)
    return tuple(Cell(policy=name, task=task, variation=variation) for name in policies for task in tasks for variation in variations)
