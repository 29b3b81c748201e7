"""Slurm's own commands: handing a job in, the queue, and ending jobs.

submitit writes the batch scripts and hands them in. Its own jobs run a pickled function; ours run
the worker as a plain command, so that nothing is pickled and nothing that lies in a results folder
is ever unpickled."""

import hashlib
import shlex
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, WorkError
from llmscale.machine.child import SAFE, python, search_path
from llmscale.measure.executors import Place
from llmscale.measure.executors._worker_process import EXIT_INTERRUPTED, WORKER
from llmscale.runs.run_folder import CHECKPOINT, SHARDED_CHECKPOINT, RunFolder
from llmscale.settings import Range, check_settings, setting

SECONDS_TO_SAVE = 90
"""How long before the time limit a worker is told to save its checkpoint; less if that is short."""
SECONDS_BETWEEN_QUEUES = 5.0
"""How often to ask for the queue, in one call for all jobs."""
SECONDS_WITHOUT_QUEUE = 900.0
"""How long the controller may be out of reach."""
STOP_SECONDS, SECONDS_BETWEEN_STOPS = 120.0, 2.0
"""How long a job that is told to stop may take until it is cancelled, and how often it is told."""
ENDED = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL",
         "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT")  # fmt: skip
"""States of jobs that do not come back; others, such as REQUEUED, are on their way."""


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
        usual="one if runs are trained on GPUs",
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


class Queue:
    """What squeue answered last. Raises InputError without Slurm, or what hands jobs in."""

    def __init__(self) -> None:
        try:
            import submitit  # noqa: F401
        except ImportError:
            raise InputError("submitit is not installed", "pip install 'llmscale[slurm]'") from None
        try:
            answer = _ask()
        except FileNotFoundError:
            fix = "start this on a machine that hands jobs in"
            raise InputError("there is no squeue on this machine", fix) from None
        if answer is None:
            fix = "see what is wrong with the cluster: squeue --me"
            raise InputError("squeue does not answer", fix)
        self._asked = self._answered = time.monotonic()
        self._ended_at: dict[str, float] = {}
        """When a job was first seen to have ended, by the monotonic clock."""
        self._take(answer)

    def refresh(self) -> None:
        """Ask again, if it is time. Raises WorkError after long without an answer."""
        now = time.monotonic()
        if now - self._asked < SECONDS_BETWEEN_QUEUES:
            return
        self._asked, answer = now, _ask()
        if answer is not None:
            self._take(answer)
        elif now - self._answered > SECONDS_WITHOUT_QUEUE:
            fix = "jobs go on; run it again to take them up"
            raise WorkError("squeue has not answered for 15 minutes", fix)

    def state(self, job_id: str) -> str | None:
        """The state of a job, if the controller remembers it."""
        return self._states.get(job_id, (None,))[0]

    def alive(self) -> dict[str, str]:
        """The ids of jobs that go on, by name."""
        jobs = self._states.items()
        return {name: job_id for job_id, (state, name) in jobs if state not in ENDED}

    def is_gone(self, job_id: str, for_seconds: float) -> bool:
        """Whether a job was seen to have ended so long ago, and is not requeued."""
        if not _has_ended(self._states, job_id):
            self._ended_at.pop(job_id, None)
            return False
        now = time.monotonic()
        return now - self._ended_at.setdefault(job_id, now) >= for_seconds

    def _take(self, answer: dict[str, tuple[str, str]]) -> None:
        self._states = answer
        self._asked = self._answered = time.monotonic()


def _ask() -> dict[str, tuple[str, str]] | None:
    """State and name by id of each job of this user's; None if the controller does not answer."""
    answer = _call("squeue", "--me", "--noheader", "--states=all", "--format=%i|%T|%j")
    if answer is None:
        return None
    lines = (line.strip().split("|", 2) for line in answer.splitlines())
    return {job_id: (state, name) for job_id, state, name in lines}


def _has_ended(states: Mapping[str, tuple[str, str]], job_id: str) -> bool:
    """Whether a job does not come back: one that is not in the queue does not either."""
    return job_id not in states or states[job_id][0] in ENDED


def end_jobs(ids: Iterable[str]) -> None:
    """Let jobs save and end, or leave the queue if they wait there; cancel them at a second Ctrl-C,
    or if they take too long."""
    left, deadline = set(ids), time.monotonic() + STOP_SECONDS
    try:
        while left and time.monotonic() < deadline:
            states = _ask()
            if states is not None:
                left = {job_id for job_id in left if not _has_ended(states, job_id)}
                for job_id in left:
                    tell_to_stop(job_id, states[job_id][0])
            if left:
                time.sleep(SECONDS_BETWEEN_STOPS)
    finally:
        if left:
            _call("scancel", *left)


def tell_to_stop(job_id: str, state: str | None) -> None:
    """Let a job save and end for good, or leave the queue if it waits there."""
    _call("scontrol", "update", f"jobid={job_id}", "requeue=0")
    how = "--state=PENDING" if state == "PENDING" else "--signal=TERM"
    _call("scancel", how, job_id)


def _call(*command: str) -> str | None:
    """What a command of Slurm answers; None if it fails."""
    text: Any = {"capture_output": True, "encoding": "utf-8", "errors": "replace"}
    try:
        return str(subprocess.run(command, timeout=60, check=True, **text).stdout)
    except subprocess.SubprocessError:
        return None


def job_name(folders: Sequence[Path]) -> str:
    """The name of the job that trains the runs of `folders`: by it a sweep whose own process was
    killed finds the jobs that go on."""
    paths = "\n".join(str(folder.resolve()) for folder in folders)
    digest = hashlib.blake2b(paths.encode(), digest_size=6).hexdigest()
    return f"llmscale-{folders[0].name}-{digest}"


def hand_in(folders: Sequence[Path], place: Place, options: Options) -> str:
    """Hand in a job that trains `folders`, and give its id. Raises WorkError if Slurm refuses."""
    from submitit import SlurmExecutor
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    names = [folder.resolve() for folder in folders]
    home = names[0] / "slurm"
    home.mkdir(exist_ok=True)
    begun = shlex.quote(str(home / "begun"))
    checkpoints = [folder / name for folder in names for name in (CHECKPOINT, SHARDED_CHECKPOINT)]
    saved = " || ".join(f"[ {shlex.quote(str(path))} -nt {begun} ]" for path in checkpoints)
    cpus, log = options.cpus or place.threads, f"--error={RunFolder(names[0]).log_path}"
    to_save = min(SECONDS_TO_SAVE, options.time_minutes * 60 // 4)
    on_gpu = int(place.gpu is not None)
    gpus = on_gpu if options.gpus is None else options.gpus
    # 130: the worker was told to end and has saved. If that was for the time limit, the job goes on
    # from there, with or without a sweep that watches it; if a sweep wants it to end, it has
    # forbidden this job to requeue.
    requeue = (
        f"if [ $code -eq {EXIT_INTERRUPTED} ] && {{ {saved}; }} "
        '&& scontrol requeue "$SLURM_JOB_ID"; then sleep 600; fi'
    )
    executor = SlurmExecutor(folder=home)
    executor.update_parameters(
        job_name=job_name(folders),
        partition=options.partition,
        account=options.account,
        qos=options.qos,
        time=options.time_minutes,
        cpus_per_task=cpus,
        gpus_per_node=gpus or None,
        mem=f"{round(options.memory_gb * 1024)}M" if options.memory_gb else None,
        setup=[f"touch {begun}", *options.setup.splitlines()],
        teardown=["code=$?", requeue, "exit $code"],
        srun_args=[f"--cpus-per-task={cpus}", log, "--open-mode=append"],
        additional_parameters={"requeue": True, "signal": f"TERM@{to_save}"},
    )
    settings = {"OMP_NUM_THREADS": str(cpus), "TOKENIZERS_PARALLELISM": "false"}
    settings |= {**SAFE, **search_path()}
    words = [f"{name}={value}" for name, value in settings.items()]
    words += python("-m", WORKER, *map(str, names))
    try:
        # Of a plain command: `submit` would pickle a function.
        job = executor._submit_command(shlex.join(["env", *words]))
    except (FailedJobError, FailedSubmissionError) as error:
        reason = " ".join(str(error).split())
        fix = "correct [hardware.slurm]; the same command goes on"
        raise WorkError(f"Slurm refuses the job: {reason}", fix) from error
    return str(job.job_id)
