"""`robosteer doctor`: look at everything that a run needs, and say what to do about what is wrong."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def doctor(
    rig: Annotated[str, typer.Option(help="rig: a YAML file, or the name of one in launch/")] = "lab",
    folder: Annotated[Path, typer.Option(help="where recordings will go; a file of 64 MB is written there and removed")] = Path("runs"),
    json_out: Annotated[str, typer.Option("--json", help="file for the findings, - for the standard output alone")] = "",
) -> None:
    """Look at computer, robot, cameras and graph before a run. Exit code 1 where something has to be mended."""
    from rich.console import Console
    from rich.markup import escape

    from robosteer_core.files import write_text
    from robosteer_core.rig import load_rig
    from robosteer_ros.doctor import cameras, computer, graph, network, robot
    from robosteer_ros.doctor.finding import Level

    config = load_rig(rig)
    # Findings come one by one: some take a second. With --json - the standard output is the JSON's.
    console, found = Console(stderr=json_out == "-"), []
    colours = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "red"}
    looks = [computer.findings(config, folder), *(part.findings(config) for part in (network, robot, cameras, graph))]
    for finding in itertools.chain.from_iterable(looks):
        found.append(finding)
        level = f"[{colours[finding.level]}]{finding.level.value:>4}[/]"
        console.print(f"{level}  {finding.check}: {escape(finding.found)}", soft_wrap=True)
        if finding.remedy:
            console.print(f"      {escape(finding.remedy)}", soft_wrap=True)
    count = Counter(finding.level for finding in found)
    console.print(f"rig {rig}: {', '.join(f'{count[level]} {level.value}' for level in Level)}")
    if json_out:
        text = json.dumps({"rig": rig, "findings": [asdict(finding) for finding in found]}, indent=1)
        typer.echo(text) if json_out == "-" else write_text(Path(json_out), text + "\n")
    if count[Level.FAIL]:
        raise typer.Exit(1)
