"""Runs as jobs of a Slurm cluster, whose nodes share the results folder: one job a task.

submitit writes the batch scripts and hands them in. Its own jobs run a pickled function; ours run
the worker as a plain command, so that nothing is pickled and nothing that lies in a results folder
is ever unpickled. What comes of a job is read from the folders of its runs, and whether it goes on
from `squeue`.

A job is found by its name, which follows from the folders of its runs: a sweep whose own process
was killed takes up the jobs that go on. Preempted jobs and those of lost nodes are requeued by
Slurm; before the time limit the worker is told to save its checkpoint, and the job requeues itself.
"""

import hashlib
import shlex
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, WorkError
from llmscale.machine.child import SAFE, python, search_path
from llmscale.measure.executors import Event, Place, Task
from llmscale.measure.executors._watch import Watch, exit_code
from llmscale.runs.run_folder import CHECKPOINT, SHARDED_CHECKPOINT, RunFolder
from llmscale.settings import Range, check_settings, setting

NEEDS = "submitit"
LOSSES = 5
"""How often a run is handed in again without a step more than before."""
LOST = -9
"""The exit code of a run that was lost too often: as if its process had been killed."""
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_QUEUES = 5.0
"""How often to ask for the queue, in one call for all jobs."""
SECONDS_TO_SEE = 10.0
"""How long files that a job has written may take to be seen here after it has ended."""
SECONDS_WITHOUT_QUEUE = 900.0
"""How long the controller may be out of reach."""
SECONDS_TO_SAVE = 90
"""How long before the time limit a worker is told to save its checkpoint; less where that is short.
"""
STOP_SECONDS = 120.0
"""How long a job that was told to stop may take before it is cancelled."""
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL",
    "OUT_OF_MEMORY",
         "PREEMPTED", "REVOKED", "TIMEOUT")  # fmt: skip
"""States of jobs that do not come back.

Others, such as REQUEUED or COMPLETING, are on their way.
"""


@dataclass(frozen=True)
class Options:
    """What is Slurm's own. TOML table `[hardware.slurm]`."""

    partition: str | None = setting(None, help="The partition of its jobs.")
    account: str | None = setting(None, help="The account that they are charged to.")
    qos: str | None = setting(None, help="Their quality of service.")
    time_minutes: int = setting(
        60,
        help="Time limit of a job. A run that takes longer goes on from its checkpoint, in the "
        "same job, requeued.",
        within=Range(1, 10_000_000),
    )
    cpus: int | None = setting(
        None, help="CPUs for each run, and its threads.", usual="one", within=Range(1, 100_000)
    )
    gpus: int | None = setting(
        None,
        help="GPUs for each job.",
        usual="one where runs are trained on GPUs",
        within=Range(0, 1000),
    )
    memory_gb: float | None = setting(
        None,
        help="Memory of a job.",
        usual="the cluster's default",
        within=Range(0, 1e6, above=True),
    )
    setup: str = setting(
        "",
        help="Lines of shell to run on the node before the worker, such as `module load cuda`.",
    )

    def __post_init__(self) -> None:
        check_settings(self, " in [hardware.slurm]")


@dataclass(eq=False)
class _Job:
    """A job of a task, and the runs of it that have not ended."""

    task: Task
    job_id: str
    running: list[Path]
    ended_at: float | None = None
    """When it was seen to have ended, by the monotonic clock."""
    stopped: bool = False


@dataclass
class _Reached:
    """When a run was lost last: at which step, and how often since without progress."""

    lost_at: int = -1
    losses: int = 0


@dataclass
class _Queue:
    """The last answer of squeue: state by job id, and the ids of jobs that go on by name."""

    states: dict[str, str] = field(default_factory=dict)
    alive: dict[str, str] = field(default_factory=dict)


def check() -> None:
    """Raise InputError where there is no Slurm here."""
    _first_queue()


def run(
    tasks: Sequence[Task],
    places: Sequence[Place],
    report: Callable[[Event], object],
    options: Options | None = None,
) -> None:
    """Train `tasks` on the cluster, as many at a time as there are `places`; see
    executors/__init__.py.

    Raises InputError where there is no Slurm here, WorkError where it takes no jobs.
    """
    if tasks:
        _Lead(tasks, places, report, options or Options()).run()


class _Lead:
    """The machine that leads: it hands in jobs and watches their folders."""

    def __init__(
        self,
        tasks: Sequence[Task],
        places: Sequence[Place],
        report: Callable[[Event], object],
        options: Options,
    ) -> None:
        self._waiting, self._places, self._report, self._options = (
            list(tasks),
            places,
            report,
            options,
        )
        self._jobs: list[_Job] = []
        self._watch = Watch()
        self._reached = {folder: _Reached() for task in tasks for folder in task.folders}
        self._stopped: set[Path] = set()
        self._started: set[Path] = set()
        self._queue, self._asked = _first_queue(), time.monotonic()
        self._answered = self._asked

    def run(self) -> None:
        try:
            while self._waiting or self._jobs:
                self._hand_in()
                self._look()
                if self._jobs or self._waiting:
                    time.sleep(SECONDS_BETWEEN_LOOKS)
        except BaseException:
            self._stop_all()
            raise

    def _hand_in(self) -> None:
        """Take up jobs that go on, and hand in as many more as there are places for."""
        for task in list(self._waiting):
            job_id = self._queue.alive.get(_name(task.folders))
            if not job_id and (len(self._jobs) >= len(self._places) or not self._can_start(task)):
                continue
            self._waiting.remove(task)
            running = self._begin(task)
            if not running:
                continue
            if job_id:
                self._report(
                    Event(
                        "warned",
                        running[0],
                        message=f"goes on as job {job_id}, which was handed in before",
                    )
                )
            else:
                try:
                    job_id = _submit(task.folders, self._places[0], self._options)
                except WorkError:
                    if not self._jobs:
                        raise
                    self._waiting.insert(
                        0, task
                    )  # the cluster takes no more of this user's jobs for now
                    return
            self._jobs.append(_Job(task, job_id, running))

    def _begin(self, task: Task) -> list[Path]:
        """The runs of `task` that have not ended yet."""
        running = []
        for folder in task.folders:
            if folder not in self._started:
                self._started.add(folder)
                self._report(Event("started", folder))
                if RunFolder(folder).has_ended:
                    self._report(Event("ended", folder, exit_code=0))
                    continue
                self._watch.begin(folder)
            running.append(folder)
        return running

    def _can_start(self, task: Task) -> bool:
        """Whether the file that `task` waits for is there, or nobody will write it any more."""
        if task.after is None or task.after.exists():
            return True
        unended = {folder for other in self._waiting for folder in other.folders}
        unended.update(folder for job in self._jobs for folder in job.running)
        return task.after.parent not in unended

    def _look(self) -> None:
        """Read what the runs have logged, and which have ended."""
        self._ask()
        for job in list(self._jobs):
            for folder in list(job.running):
                self._look_at(folder, job)
            if not job.running:
                self._jobs.remove(job)
            elif job.ended_at is not None and time.monotonic() - job.ended_at > (
                0 if job.stopped else SECONDS_TO_SEE
            ):
                self._jobs.remove(job)
                self._lose(job)

    def _look_at(self, folder: Path, job: _Job) -> None:
        code = None if folder in self._stopped else exit_code(folder)
        for event in (
            self._watch.events(folder) if code is None else self._watch.last_events(folder)
        ):
            if self._report(event) is True and code is None and folder not in self._stopped:
                self._stopped.add(folder)
        if code is not None:
            job.running.remove(folder)
            self._report(Event("ended", folder, exit_code=code))
        elif not job.stopped and self._stopped.issuperset(job.running):
            job.stopped = True
            _tell_to_stop(job.job_id, self._queue.states.get(job.job_id))

    def _ask(self) -> None:
        """Ask for the queue, if it is time: a job that is not in it has ended."""
        now = time.monotonic()
        if now - self._asked < SECONDS_BETWEEN_QUEUES:
            return
        self._asked = now
        queue = _squeue()
        if queue is None:
            if now - self._answered > SECONDS_WITHOUT_QUEUE:
                raise WorkError(
                    "squeue has not answered for 15 minutes",
                    "jobs go on; run it again to take them up",
                )
            return
        self._queue, self._answered = queue, now
        for job in self._jobs:
            if queue.states.get(job.job_id, "COMPLETED") not in ENDED:
                job.ended_at = None  # requeued
            elif job.ended_at is None:
                job.ended_at = now

    def _lose(self, job: _Job) -> None:
        """The job has ended and some of its runs have not: they are handed in again."""
        state = self._queue.states.get(job.job_id, "gone from the queue")
        why = f"job {job.job_id} is {state}; see {RunFolder(job.running[0]).log_path}"
        again = []
        for folder in job.running:
            step, reached = self._watch.step(folder), self._reached[folder]
            reached.losses = 1 if step > reached.lost_at else reached.losses + 1
            reached.lost_at = step
            if folder in self._stopped:
                self._report(Event("ended", folder, exit_code=130))
            elif state == "CANCELLED":
                self._report(
                    Event(
                        "warned",
                        folder,
                        message=f"job {job.job_id} was cancelled; the same command goes on",
                    )
                )
                self._report(Event("ended", folder, exit_code=130))
            elif reached.losses > LOSSES:
                self._report(
                    Event(
                        "ended",
                        folder,
                        exit_code=LOST,
                        message=f"was lost {reached.losses} times: {why}",
                    )
                )
            else:
                self._report(
                    Event(
                        "warned",
                        folder,
                        message=f"lost at step {step}, it is handed in again: {why}",
                    )
                )
                again.append(folder)
        if again:
            self._waiting.insert(0, Task(tuple(again), job.task.after))

    def _stop_all(self) -> None:
        """Let the workers save and end, and take waiting jobs out of the queue; a second Ctrl-C
        cancels at once.
        """
        if not self._jobs:
            return
        ids = {job.job_id for job in self._jobs}
        message = (
            f"{len(ids)} jobs save their checkpoints and end; Ctrl-C again cancels them at once"
        )
        self._report(Event("warned", self._jobs[0].running[0], message=message))
        deadline = time.monotonic() + STOP_SECONDS
        try:
            while time.monotonic() < deadline:
                queue = _squeue()
                if queue is not None:
                    ids = {
                        job_id
                        for job_id in ids
                        if queue.states.get(job_id, "COMPLETED") not in ENDED
                    }
                    for job_id in ids:
                        _tell_to_stop(job_id, queue.states[job_id])
                if not ids:
                    return
                time.sleep(2 * SECONDS_BETWEEN_LOOKS)
        finally:
            if ids:
                _call("scancel", *ids)


def _name(folders: Sequence[Path]) -> str:
    """The name of the job that trains the runs of `folders`."""
    paths = "\n".join(str(folder.resolve()) for folder in folders)
    return (
        f"llmscale-{folders[0].name}-{hashlib.blake2b(paths.encode(), digest_size=6).hexdigest()}"
    )


def _submit(folders: Sequence[Path], place: Place, options: Options) -> str:
    """Hand in a job that trains the runs of `folders`, and give its id.

    Raises WorkError where Slurm refuses it.
    """
    try:
        from submitit import SlurmExecutor
        from submitit.core.utils import FailedJobError, FailedSubmissionError
    except ImportError:
        raise _not_installed() from None
    names = [folder.resolve() for folder in folders]
    home = names[0] / "slurm"
    home.mkdir(exist_ok=True)
    begun = shlex.quote(str(home / "begun"))
    saved = " || ".join(
        f"[ {shlex.quote(str(folder / name))} -nt {begun} ]"
        for folder in names
        for name in (CHECKPOINT, SHARDED_CHECKPOINT)
    )
    cpus = options.cpus or place.threads
    seconds = options.time_minutes * 60
    additional: dict[str, Any] = {
        "requeue": True,
        "signal": f"TERM@{min(SECONDS_TO_SAVE, seconds // 4)}",
    }
    executor = SlurmExecutor(folder=home)
    executor.update_parameters(
        job_name=_name(folders),
        partition=options.partition,
        account=options.account,
        qos=options.qos,
        time=options.time_minutes,
        cpus_per_task=cpus,
        gpus_per_node=(options.gpus if options.gpus is not None else int(place.gpu is not None))
        or None,
        mem=f"{round(options.memory_gb * 1024)}M" if options.memory_gb else None,
        setup=[f"touch {begun}", *options.setup.splitlines()],
        # 130: the worker was told to end and has saved. Where that was for the time limit, the job
        # goes on from there, with or without a sweep that watches it; where a sweep wants it to
        # end, it has forbidden this job to requeue.
        teardown=[
            "code=$?",
            f'if [ $code -eq 130 ] && {{ {saved}; }} && scontrol requeue "$SLURM_JOB_ID"; then '
            "sleep 600; fi",
            "exit $code",
        ],
        srun_args=[
            f"--cpus-per-task={cpus}",
            f"--error={RunFolder(names[0]).log_path}",
            "--open-mode=append",
        ],
        additional_parameters=additional,
    )
    settings = {
        "OMP_NUM_THREADS": str(cpus),
        "TOKENIZERS_PARALLELISM": "false",
        **SAFE,
        **search_path(),
    }
    words = [
        *(f"{name}={value}" for name, value in settings.items()),
        *python("-m", "llmscale.measure.train.worker"),
    ]
    command = shlex.join(["env", *words, *map(str, names)])
    try:
        job_id: str = executor._submit_command(
            command
        ).job_id  # of a plain command: `submit` would pickle a function
    except (FailedJobError, FailedSubmissionError) as error:
        reason = " ".join(str(error).split())
        raise WorkError(
            f"Slurm refuses the job: {reason}", "mend [hardware.slurm]; the same command goes on"
        ) from error
    return job_id


def _first_queue() -> _Queue:
    """The queue, where there is a Slurm and what hands jobs in. Raises InputError."""
    try:
        import submitit  # noqa: F401
    except ImportError:
        raise _not_installed() from None
    try:
        queue = _squeue()
    except FileNotFoundError:
        raise InputError(
            "there is no squeue on this machine", "start this on a machine that hands jobs in"
        ) from None
    if queue is None:
        raise InputError(
            "squeue does not answer", "see what is wrong with the cluster: squeue --me"
        )
    return queue


def _not_installed() -> InputError:
    return InputError("submitit is not installed", "pip install 'llmscale[slurm]'")


def _squeue() -> _Queue | None:
    """Every job of this user that the controller remembers; None where it does not answer."""
    answer = _call("squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%j")
    if answer is None:
        return None
    queue = _Queue()
    for line in answer.splitlines():
        job_id, state, name = line.strip().split("|", 2)
        queue.states[job_id] = state
        if state not in ENDED:
            queue.alive[name] = job_id
    return queue


def _tell_to_stop(job_id: str, state: str | None) -> None:
    """Let a job save and end for good, or leave the queue where it waits there."""
    _call("scontrol", "update", f"jobid={job_id}", "requeue=0")
    if state == "PENDING":
        _call("scancel", "--state=PENDING", job_id)
    else:
        _call("scancel", "--signal=TERM", job_id)


def _call(*command: str) -> str | None:
    """What a command of Slurm answers; None where it fails."""
    try:
        answer = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=60, check=True
        )
        return answer.stdout
    except subprocess.SubprocessError:
        return None
