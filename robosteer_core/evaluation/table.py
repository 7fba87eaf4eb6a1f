"""Trials as one Parquet table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from robosteer_core.evaluation.trials import TrialRecord
from robosteer_core.files import written


def write_table(path: Path, records: Sequence[TrialRecord]) -> None:
    """One row per trial: policy, task, variation, seed, outcome, times [s], limits that acted, digest. Replaced in one step."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {
        "policy": (pa.string(), lambda r: r.trial.policy),
        "task": (pa.string(), lambda r: r.trial.task),
        "variation": (pa.string(), lambda r: r.trial.variation),
        "seed": (pa.int64(), lambda r: r.trial.seed),
        "success": (pa.bool_(), lambda r: r.success),
        "failure_class": (pa.string(), lambda r: r.failure_class),
        "failure": (pa.string(), lambda r: r.failure),
        "robot_s": (pa.float64(), lambda r: r.robot_s),
        "wall_s": (pa.float64(), lambda r: r.wall_s),
        "ticks": (pa.int64(), lambda r: r.ticks),
        "late_ticks": (pa.int64(), lambda r: r.late_ticks),
        "policy_ms": (pa.list_(pa.float64()), lambda r: list(r.policy_ms)),
        "interventions": (pa.map_(pa.string(), pa.int64()), lambda r: list(r.interventions.items())),
        "digest": (pa.string(), lambda r: r.digest),
    }
    arrays = {name: pa.array([value(r) for r in records], kind) for name, (kind, value) in columns.items()}
    with written(path) as temporary:
        pq.write_table(pa.table(arrays), temporary)
