"""What the outcomes of the lab depend on."""

import subprocess
import sys
from pathlib import Path

from robosteer_sim import catalogue

#: What a trial runs in this process, in the lab's and in the cameras'.
ROOTS = "robosteer_sim.lab_venue, robosteer_sim.scripted, robosteer_sim.lab_server, robosteer_sim.cameras, robosteer_core.evaluation.trial_run"


def test_all_that_a_trial_runs_is_in_the_fingerprint_and_what_only_shows_is_not():
    program = f"import sys, {ROOTS}\nprint(*(m.__file__ for n, m in sys.modules.items() if n.startswith(('robosteer_sim', 'robosteer_core.runtime'))))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert len(run) > 40 and set(map(Path, run)) <= set(catalogue.sources())
    names = {f"{file.parent.name}/{file.name}" for file in catalogue.sources()}
    assert {"evaluation/trial_run.py", "evaluation/failure.py", "evaluation/remote_policy.py", "panda/parameters.h"} <= names
    assert not names & {"robosteer_sim/contact_sheet.py", "robosteer_sim/commands.py", "evaluation/plot.py", "pretrain/train.py"}


def test_other_physics_are_another_lab(monkeypatch):
    before = catalogue.LabCatalogue().fingerprint()
    assert before == catalogue.LabCatalogue().fingerprint()
    for changed in ("mujoco", "franky-sim", "numpy"):
        monkeypatch.setattr(catalogue, "version", lambda package, changed=changed: "0.1" if package == changed else "1.0")
        assert (after := catalogue.LabCatalogue().fingerprint()) != before
        before = after
