"""The graph of a rig: which processes it has, and how each is started."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import yaml
from pydantic import Field

from robosteer_core.errors import UserError
from robosteer_core.rig import NODES, Contract, Rig
from robosteer_ros.node_process import NodeProcess


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
        _require_parameters(Path(settings.params_file))
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


def _require_parameters(file: Path) -> None:
    """Raises UserError where the file is not what nodes take their parameters from: which node has which, they say themselves."""
    try:
        content = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"no file of parameters {file} ({error}); expected a YAML file of ROS 2") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UserError(f"{file}{where}: {getattr(error, 'problem', error)}; expected a YAML file of ROS 2") from error
    sections = [("", content)]
    for where, found in sections:
        if not isinstance(found, dict):
            expected = "expected `ros__parameters`, with names and values below it, or the name of a node"
            raise UserError(f"{file}: {expected}{where and f' below {where}'}, found {found!r:.60}")
        sections += [(f"{where}/{name}".lstrip("/"), below) for name, below in found.items() if not where.endswith("ros__parameters")]


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
