"""A policy as a trial needs it, wherever it comes from: a checkpoint, a script, a server, a Python object."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trials import Trial
from robosteer_core.rig import Rig
from robosteer_core.runtime.observation import Observation
from robosteer_core.runtime.runner import EXECUTED

if TYPE_CHECKING:
    from torch import Tensor

    from robosteer_core.vla.config import PolicyConfig
    from robosteer_core.vla.policy import Policy

GROUP = "robosteer.policies"
GREY = 128
_REMOTE = ("ws://", "wss://")

Act = Callable[[Observation], np.ndarray]
Truth = Callable[[], dict]


class TrialPolicy(ABC):
    """`begin` gives the function that acts in one trial: from an observation to actions (chunk, 7) of the rig's space."""

    #: Of each chunk this many actions are executed before the policy is asked again.
    executed: int = EXECUTED
    #: Whether the rig's inference delay is charged for each decision.
    charged: bool = True

    @abstractmethod
    def identity(self) -> object:
        """What its outcomes depend on, as JSON; trials of one identity are never mixed with those of another.

        None where that cannot be told: its trials are never resumed.
        """

    @abstractmethod
    def begin(self, trial: Trial, truth: Truth) -> Act:
        """`truth()` is the lab's ground truth: for scripted operators, which see nothing else."""

    def close(self) -> None:
        """Let go of what it holds."""


class PolicySpec(BaseModel):
    """Where to find a policy: small, and the same in every process. `images: grey` blinds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str = Field(min_length=1)
    policy: str = Field(min_length=1, description="checkpoint folder, name of an entry point, or ws://host:port")
    adapter: Path | None = None
    images: Literal["camera", "grey"] = "camera"
    device: str = Field("cpu", description="where a checkpoint folder runs: cpu, cuda, cuda:1")


def require_policy(policy: str, adapter: Path | None = None, device: str = "cpu") -> None:
    """Raises UserError where this machine has no such policy, adapter or device. What is in their files is not looked at."""
    named = {point.name for point in entry_points(group=GROUP)}
    folder = not policy.startswith(_REMOTE) and policy not in named
    if folder and not Path(policy).is_dir():
        known = ", ".join(sorted(named)) or "none"
        raise UserError(f"no policy {policy!r}; expected a checkpoint folder, ws://host:port, or one of: {known}")
    if adapter is not None and not folder:
        raise UserError(f"an adapter goes into a checkpoint folder; {policy!r} is none")
    if adapter is not None and not adapter.is_dir():
        raise UserError(f"no adapter in {adapter}: expected a folder as `robosteer finetune` makes one")
    if folder and device != "cpu":
        _require_device(device)


def _require_device(device: str) -> None:
    import torch

    try:
        wanted, there = torch.device(device), torch.cuda.device_count()
    except RuntimeError as error:
        raise UserError(f"the policy cannot run on {device!r} here: {str(error).splitlines()[0]}") from error
    if wanted.type == "cuda" and (wanted.index or 0) >= there:
        found = ", ".join(f"cuda:{number}" for number in range(there)) or "none that this PyTorch can use"
        raise UserError(f"the policy cannot run on {device!r} here: expected a GPU of this machine, found {found}; give another device")


def load_trial_policy(spec: PolicySpec, rig: Rig) -> TrialPolicy:
    """Raises UserError where there is no such policy, or it does not fit the rig."""
    require_policy(spec.policy, spec.adapter, spec.device)
    if spec.policy.startswith(_REMOTE):
        from robosteer_core.evaluation.remote_policy import RemotePolicy

        policy = RemotePolicy(spec.policy, rig)
    elif named := entry_points(group=GROUP, name=spec.policy):
        policy = next(iter(named)).load()(rig)
    else:
        policy = CheckpointPolicy(Path(spec.policy), spec.adapter, rig, spec.device)
    return Blind(policy) if spec.images == "grey" else policy


class SampledPolicy(TrialPolicy):
    """A policy of ours in memory; its noise follows from the trial's seed."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def identity(self) -> object:
        return None  # what is in memory may have been trained since it was read

    def begin(self, trial: Trial, truth: Truth) -> Act:
        import torch

        generator = torch.Generator().manual_seed(trial.seed)
        return lambda observation: self._policy.act(observation, generator)


class CheckpointPolicy(SampledPolicy):
    """A checkpoint folder of ours on a device of torch, with an adapter or without, which can be changed."""

    def __init__(self, folder: Path, adapter: Path | None, rig: Rig, device: str = "cpu") -> None:
        import torch

        from robosteer_core.vla.checkpoint import fingerprint, load_policy, on_device

        # Two threads would add in another order on another machine; the cores are the lab's and the cameras'.
        torch.set_num_threads(1)
        super().__init__(on_device(load_policy(folder), device))
        self._rig, self._identity = rig, {"policy": fingerprint(folder), "adapter": None}
        if device != "cpu":
            self._identity["device"] = device  # sums come out otherwise there
        self._base = self._state()
        self.use(adapter)

    def use(self, adapter: Path | None) -> None:
        """Let another adapter act, or with None the base alone, which is not read again: bit by bit as if loaded with it.

        Raises UserError where it does not fit the base or the rig; what acted before then acts on.
        """
        before, files = self._state(), []
        self._put(self._base)
        try:
            if adapter is not None:
                from robosteer_core.adapters.store import HEADS, WEIGHTS, apply_adapter, base_of  # and peft, which alone takes 0.2 s

                folder, sha256 = base_of(self._policy)
                if sha256 != self._identity["policy"]:
                    raise UserError(f"the policy in {folder} has changed since it was loaded; load it again")
                apply_adapter(self._policy, adapter, merged=True)
                # Statistics and scale are in the record of the heads, also where there are none.
                files = [file for file in (adapter / HEADS, adapter / WEIGHTS) if file.is_file()]
            self._policy.config.require_rig(self._rig)  # as the adapter was fitted to a dataset
        except BaseException:
            self._put(before)
            raise
        self._identity = self._identity | {"adapter": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files} or None}

    def _state(self) -> tuple[PolicyConfig, dict[str, Tensor]]:
        """The weights are not copied: merging an adapter puts others in their place."""
        return self._policy.config, {name: parameter.data for name, parameter in self._policy.model.named_parameters()}

    def _put(self, state: tuple[PolicyConfig, dict[str, Tensor]]) -> None:
        self._policy.config, weights = state
        for name, parameter in self._policy.model.named_parameters():
            parameter.data = weights[name]

    def identity(self) -> object:
        return self._identity


class ObjectPolicy(TrialPolicy):
    """Any object with `act(observation)` -> (chunk, 7); `reset()`, where it has one, is called before each trial.

    Its attribute `identity` (JSON, e.g. a hash of its weights) says what its outcomes depend on; without one its trials
    cannot be resumed.
    """

    def __init__(self, policy: object) -> None:
        if not callable(getattr(policy, "act", None)):
            raise UserError(f"a policy needs a method act(observation) that gives actions (chunk, 7); {policy!r:.80} has none")
        self._policy, self._identity = policy, getattr(policy, "identity", None)
        try:
            json.dumps(self._identity, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise UserError(f"the identity of a policy is JSON, e.g. a text; {policy!r:.80} has {self._identity!r:.80}: {error}") from error
        self.executed, self.charged = getattr(policy, "executed", EXECUTED), getattr(policy, "charged", True)

    def identity(self) -> object:
        return self._identity

    def begin(self, trial: Trial, truth: Truth) -> Act:
        if callable(getattr(self._policy, "reset", None)):
            self._policy.reset()
        return self._policy.act


class Blind(TrialPolicy):
    """Another policy, its images made grey: a control that shows whether it looks."""

    def __init__(self, policy: TrialPolicy) -> None:
        self._policy = policy
        self.executed, self.charged = policy.executed, policy.charged

    def identity(self) -> object:
        return {"grey": self._policy.identity()}

    def begin(self, trial: Trial, truth: Truth) -> Act:
        act = self._policy.begin(trial, truth)

        def blindly(observation: Observation) -> np.ndarray:
            frames = {name: replace(f, colour=np.full_like(f.colour, GREY)) for name, f in observation.frames.items()}
            return act(replace(observation, frames=frames))

        return blindly

    def close(self) -> None:
        self._policy.close()
