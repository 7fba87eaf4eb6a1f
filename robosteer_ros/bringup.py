"""The graph of a rig: which processes it has, and how each is started."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from pydantic import Field

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import require_policy
from robosteer_core.rig import NODES, Contract, Rig
from robosteer_ros.node_process import NodeProcess
from robosteer_ros.nodes.rig_node import KINDS, parameters_of
from robosteer_ros.ros.parameter_file import require_names


class GraphSettings(Contract):
    """What of a rig's graph is started, and how."""

    rig: str = Field("lab", description="the rig: a YAML file, or the name of one in launch/")
    only: str = Field("", description=f"nodes to start, joined by commas, of {', '.join(NODES)}; empty: those of the rig")
    policy: str = Field("", description="policy of the node `policy`; without one this node is left out")
    adapter: str = Field("", description="adapter of the policy")
    device: str = Field("cpu", description="where a policy from a checkpoint folder runs: cpu, cuda, cuda:1")
    namespace: str = Field("", pattern=r"^/?([A-Za-z_]\w*(/[A-Za-z_]\w*)*/?)?$", description="namespace of all nodes")
    params_file: str = Field("", description="parameters of the nodes, a YAML file of ROS 2")
    log_level: str = Field("info", description="least severity that nodes log: debug, info, warn, error or fatal")
    logs: Path = Field(Path("runs/graph"), description="folder of what the processes print")


def processes_of(rig: Rig, settings: GraphSettings) -> list[NodeProcess]:
    """The processes of a rig's nodes, in the order in which they are activated. Raises UserError for what cannot be started."""
    asked = [name.strip() for name in settings.only.split(",") if name.strip()]
    if unknown := sorted(set(asked) - set(NODES)):
        raise UserError(f"there are no nodes {', '.join(unknown)}; expected some of {', '.join(NODES)}")
    wanted = asked or [name for name in rig.nodes if name != "policy" or settings.policy]
    if settings.policy and "policy" not in wanted:
        raise UserError(f"a policy is given, and its node is not among those to start: {', '.join(wanted)}")
    if settings.adapter and not settings.policy:
        raise UserError("an adapter is given without its policy: name the policy too")
    if settings.params_file:
        _require_parameters(rig, settings)
    if settings.log_level not in ("debug", "info", "warn", "error", "fatal"):
        raise UserError(f"a log level is one of debug, info, warn, error, fatal; found {settings.log_level!r}")
    found = []
    for stage, kind in enumerate(NODES):
        if kind not in wanted:
            continue
        if kind == "cameras":
            for camera in rig.cameras:
                name = f"{camera.name}_camera"
                found.append(_process(settings, name, "camera", (name,), stage, ("-r", f"__node:={name}")))
        else:
            own = settings.model_dump(include={"policy", "adapter", "device"}) if kind == "policy" else {}
            words = (word for name, value in own.items() if value for word in ("-p", f"{name}:={value}"))
            nodes = ("arm", "gripper") if kind == "arm" else (kind,)
            found.append(_process(settings, kind, kind, nodes, stage, tuple(words), early=kind == "policy"))
    return found


def require_policy_of(settings: GraphSettings) -> None:
    """Raises UserError where this machine lacks what the node `policy` is to load."""
    require_policy(settings.policy, Path(settings.adapter) if settings.adapter else None, settings.device)


def _require_parameters(rig: Rig, settings: GraphSettings) -> None:
    """Raises UserError where the file has what the nodes of the rig do not, also those that are left out this time."""
    own = {"supervisor": GraphSettings.model_fields.keys() - {"namespace"} | {"processes"}}
    own |= {kind: parameters_of(kind).keys() for kind in KINDS if kind != "camera"}
    own |= {f"{camera.name}_camera": parameters_of("camera").keys() for camera in rig.cameras}
    within = f"/{settings.namespace.strip('/')}".rstrip("/")
    nodes = {f"{within}/{name}": names for name, names in own.items()}
    if not require_names(settings.params_file, nodes):
        raise UserError(f"{settings.params_file}: nothing in it is meant for a node of this graph; expected some of {', '.join(nodes)}")


def _process(
    settings: GraphSettings, name: str, module: str, nodes: tuple[str, ...], stage: int, words: tuple[str, ...], early: bool = False
) -> NodeProcess:
    module = f"robosteer_ros.nodes.{module}"
    if importlib.util.find_spec(module) is None:
        raise UserError(f"the node {name} is not part of this version ({module} is not there); leave it out by `only`")
    ros = ["--params-file", settings.params_file] if settings.params_file else []
    ros += ["--log-level", settings.log_level, "-p", f"rig:={settings.rig}", *words]
    ros += ["-r", f"__ns:=/{settings.namespace.strip('/')}"] if settings.namespace else []
    return NodeProcess(name, (sys.executable, "-m", module, "--ros-args", *ros), nodes, stage, early)
