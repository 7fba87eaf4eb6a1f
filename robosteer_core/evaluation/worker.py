"""What runs trials: one venue and the policies, in this process or in processes of their own."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import traceback
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

from robosteer_core.errors import UserError
from robosteer_core.evaluation.trial_policy import ObjectPolicy, PolicySpec, TrialPolicy, load_trial_policy
from robosteer_core.evaluation.trial_run import run_trial
from robosteer_core.evaluation.trials import Trial, TrialRecord
from robosteer_core.evaluation.venue import Interrupted, Venue, venue_class
from robosteer_core.evaluation.video import TrialVideo
from robosteer_core.rig import Rig

logger = logging.getLogger(__name__)

END_TIMEOUT_S = 30
#: How often a trial is begun that something outside of it cuts short.
ATTEMPTS = 3


@dataclass(frozen=True)
class Job:
    """A trial, the robot time that it may take, and where its video goes, None for none."""

    trial: Trial
    seconds: float
    video: Path | None = None


@dataclass(frozen=True)
class Setting:
    """What every worker needs; it is sent to their processes. `policies` by name: where to find one, or the object."""

    rig: Rig
    through: str
    policies: Mapping[str, PolicySpec | object]
    folder: Path

    def loads(self, name: str) -> bool:
        """Whether `policy` loads one, which is to be closed; else it is the caller's object."""
        return isinstance(self.policies[name], PolicySpec)

    def policy(self, name: str) -> TrialPolicy:
        source = self.policies[name]
        if isinstance(source, PolicySpec):
            return load_trial_policy(source, self.rig)
        return source if isinstance(source, TrialPolicy) else ObjectPolicy(source)


class Worker:
    """Runs one trial after the other. `loaded` are policies that are there already, and stay when it ends. A context manager."""

    def __init__(self, setting: Setting, number: int, alone: bool, loaded: Mapping[str, TrialPolicy] | None = None) -> None:
        self._setting, self._number, self._alone = setting, number, alone
        self._policies: dict[str, TrialPolicy] = dict(loaded or {})
        self._venue: Venue | None = None
        self._open = ExitStack()

    def run(self, job: Job) -> TrialRecord:
        setting, name = self._setting, job.trial.policy
        if name not in self._policies:
            self._policies[name] = setting.policy(name)
            if setting.loads(name):
                self._open.callback(self._policies[name].close)
        if self._venue is None:
            venue = venue_class(setting.through)(setting.rig, setting.folder / f"worker{self._number}", self._alone)
            self._venue = self._open.enter_context(venue)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._try(job, self._policies[name])
            except Interrupted as interruption:
                if attempt == ATTEMPTS:
                    raise
                logger.warning("once more, because it was cut short: %s", interruption)

    def _try(self, job: Job, policy: TrialPolicy) -> TrialRecord:
        rig = self._setting.rig
        if job.video is None:
            return run_trial(rig, self._venue, policy, job.trial, job.seconds)
        video = TrialVideo(rig.rates.policy_hz)
        record = run_trial(
            rig, self._venue, policy, job.trial, job.seconds,
            lambda observation: video.add([frame.colour for frame in observation.frames.values()]),
        )  # fmt: skip
        video.save(job.video)
        return record

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def run_jobs(
    setting: Setting, jobs: Iterable[Job], processes: int, loaded: Mapping[str, TrialPolicy] | None = None
) -> Iterator[tuple[Job, TrialRecord]]:
    """Outcomes of `jobs` as they come. With several processes each takes the next job when it is free, in their order.

    Raises UserError where a job cannot be done (a policy's server is gone), and when a process dies; what the others have
    begun comes first.
    """
    jobs = list(jobs)
    if processes == 1 or len(jobs) <= 1:
        with Worker(setting, 0, True, loaded) as worker:
            for job in jobs:
                yield job, worker.run(job)
        return
    with _Team(setting, min(processes, len(jobs))) as team:
        yield from team.run(jobs)


def default_processes(through: str) -> int:
    """One per core at our disposal, at most 4; through the arm 1: each would start a lab and an arm of its own, and need two."""
    return 1 if through == "arm" else min(4, len(os.sched_getaffinity(0)))


class _Team:
    """Workers in processes. One whose parent has died finds its connection closed, and ends."""

    def __init__(self, setting: Setting, count: int) -> None:
        # Fresh processes: an OpenGL context and a policy's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._members: dict[Connection, multiprocessing.process.BaseProcess] = {}
        for number in range(count):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(setting, number, there), name=f"trials {number}", daemon=False)
            process.start()
            there.close()
            self._members[here] = process

    def run(self, jobs: list[Job]) -> Iterator[tuple[Job, TrialRecord]]:
        waiting, running, trouble = list(reversed(jobs)), {}, None
        for connection in self._members:
            self._give(connection, waiting, running)
        while running:
            for connection in wait(list(running)):
                job = running.pop(connection)
                try:
                    kind, content = connection.recv()
                except (EOFError, OSError):
                    kind, content = "died", None
                if kind == "done":
                    self._give(connection, waiting, running)
                    yield job, content
                else:
                    trouble = trouble or self._trouble(connection, kind, content)
                    waiting.clear()
        if trouble is not None:
            raise trouble

    def _trouble(self, connection: Connection, kind: str, content: str | None) -> Exception:
        if kind == "refused":
            return UserError(content)
        if kind == "failed":
            return RuntimeError(f"a process that runs trials failed:\n{content}")
        process = self._members[connection]
        process.join(END_TIMEOUT_S)  # its connection closes before it can be asked how it ended
        return UserError(
            f"a process that runs trials has died (exit code {process.exitcode}); what was done is kept: the same command "
            "again goes on"
        )

    def _give(self, connection: Connection, waiting: list[Job], running: dict[Connection, Job]) -> None:
        if waiting:
            running[connection] = waiting.pop()
            try:
                connection.send(running[connection])
            except OSError:
                pass  # it has died: the next look at the connection finds that

    def __enter__(self) -> _Team:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._members:
            connection.close()
        for process in self._members.values():
            process.join(END_TIMEOUT_S)
            if process.is_alive():
                process.kill()
                process.join()


def _serve(setting: Setting, number: int, connection: Connection) -> None:
    """A worker's process: jobs come and outcomes go by `connection`, until it closes."""
    # An interrupt from the keyboard reaches the whole group; the parent decides what ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Worker(setting, number, False) as worker:
            while True:
                job = connection.recv()
                try:
                    answer = ("done", worker.run(job))
                except UserError as error:
                    answer = ("refused", str(error))
                except Exception:
                    answer = ("failed", traceback.format_exc())
                connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent has no more jobs, or has gone; what it did not get is run again
