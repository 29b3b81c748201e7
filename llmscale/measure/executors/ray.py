"""Runs on a Ray cluster: an actor a place, which keeps a worker process on whatever node Ray finds
for it.

The cluster is that of the option `address` or of RAY_ADDRESS; without either one is started on this
machine for the time of the sweep. What the workers say comes back as the actors' streams, so that
nodes need no more of the results than to read and write them: in a folder that they share with this
machine, or at the URL of the results."""

import logging
import os
import secrets
import signal
import socket
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, LlmscaleError, WorkError, WriteError
from llmscale.machine import available_cores
from llmscale.measure.executors import Event, Place, Task
from llmscale.measure.executors._remote_worker import Node, send_store
from llmscale.measure.executors._worker_process import why_lost
from llmscale.measure.train.run_spec import read_spec
from llmscale.runs.remote import Remote, is_needed, results_at, url_of
from llmscale.runs.remote._files import reason
from llmscale.runs.remote.uploads import LAST_TRIES_SECONDS, try_often
from llmscale.runs.run_folder import RunFolder
from llmscale.settings import Range, check_settings, setting

NEEDS = "ray"
LOSSES = 5
"""How often a run is started again without a step more than before."""
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_FETCHES = 5.0
"""How often to look at the URL for a branch point that a task waits for."""
MOST_ASKED = 16
"""So many actors at a time wait for Ray to find room for them: enough to fill a cluster soon, and
to have it grow.
"""
LOST = -9
"""The exit code of a run that was lost too often: as if its process had been killed."""
PRIVATE = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
"""Of a cluster that is started for a sweep: who reaches a Ray cluster runs code on it, so only this
machine does.
"""


@dataclass(frozen=True)
class Options:
    """What is Ray's own. TOML table `[hardware.ray]`."""

    address: str | None = setting(
        None,
        help="Of a cluster, host:port, or auto for the one that this machine belongs to.",
        usual="that of RAY_ADDRESS, or a cluster of this machine only for the time of the sweep",
    )
    cpus: int | None = setting(
        None,
        help="CPUs for each run, and its threads.",
        usual="as many as a run would get on this machine",
        within=Range(1, 100_000),
    )

    def __post_init__(self) -> None:
        check_settings(self, " in [hardware.ray]")


@dataclass(eq=False)
class _Place:
    """An actor, what is awaited of it, and the runs of its task that have not ended."""

    actor: Any
    awaited: Any = None
    """Its first sign of life, then the stream of a task's news; None while it has nothing to do."""
    ready: bool = False
    sees: bool = True
    """Whether the node sees the results folder."""
    task: Task | None = None
    running: list[Path] = field(default_factory=list)


@dataclass
class _Reached:
    """How far a run has got: its last step, that of when it was lost last, and how often since
    without progress.
    """

    step: int = 0
    lost_at: int = -1
    losses: int = 0
    resumes: bool = False


def run(
    tasks: Sequence[Task],
    places: Sequence[Place],
    report: Callable[[Event], object],
    options: Options | None = None,
) -> None:
    """Train `tasks` on the cluster, as many at a time as there are `places`; see
    executors/__init__.py.

    Raises InputError where there is no such cluster, WorkError where its nodes do not see the
    results."""
    if not tasks:
        return
    with (
        _connected(options.address if options else None) as ray,
        _marker(tasks[0].folders[0]) as marker,
    ):
        _Lead(ray, tasks, places, report, marker).run()


class _Lead:
    """The machine that leads: it hands tasks to actors and takes their news."""

    def __init__(
        self,
        ray: Any,
        tasks: Sequence[Task],
        places: Sequence[Place],
        report: Callable[[Event], object],
        marker: Path,
    ) -> None:
        self._ray, self._report, self._marker = ray, report, marker
        self._waiting, self._count, self._threads = deque(tasks), len(places), places[0].threads
        self._places: list[_Place] = []
        self._reached = {folder: _Reached() for task in tasks for folder in task.folders}
        self._paths = {folder.name: folder for folder in self._reached}
        self._stopped: set[Path] = set()
        url = url_of(marker.parent)
        self._remote: Remote | None = results_at(url) if url else None
        self._sent, self._last_look = False, 0.0
        self._needs = {"num_cpus": self._threads, "num_gpus": _gpus(tasks[0], places[0])}
        _check_room(ray, self._needs)

    def run(self) -> None:
        try:
            while self._waiting or any(place.running for place in self._places):
                self._hand_out()
                self._listen()
        except KeyboardInterrupt:
            self._stop()
            raise
        finally:
            for place in self._places:
                self._ray.kill(place.actor)

    def _hand_out(self) -> None:
        for place in self._places:
            if place.ready and place.awaited is None and (task := self._next()) is not None:
                self._begin(task, place)
        idle = sum(place.awaited is None or not place.ready for place in self._places)
        if len(self._places) < self._count and idle < min(len(self._waiting), MOST_ASKED):
            actor = self._ray.remote(Node).options(max_concurrency=2, max_restarts=0, **self._needs)
            place = _Place(actor.remote(self._threads))
            place.awaited = place.actor.sees.remote(str(self._marker))
            self._places.append(place)

    def _next(self) -> Task | None:
        for task in self._waiting:
            if self._can_start(task):
                self._waiting.remove(task)
                return task
        return None

    def _can_start(self, task: Task) -> bool:
        """Whether the file that `task` waits for is there, or nobody will write it any more."""
        if task.after is None or task.after.exists():
            return True
        self._look_for(task.after)
        unended = {folder for other in self._waiting for folder in other.folders}
        unended.update(folder for place in self._places for folder in place.running)
        return task.after.parent not in unended or task.after.exists()

    def _look_for(self, path: Path) -> None:
        """Fetch a branch point from the URL, now and then, where a node that sees only that is to
        write it.
        """
        afar = {folder for place in self._places if not place.sees for folder in place.running}
        if path.parent in afar and time.monotonic() - self._last_look > SECONDS_BETWEEN_FETCHES:
            self._last_look = time.monotonic()
            self._fetch(lambda name: name == f"runs/{path.parent.name}/{path.name}")

    def _begin(self, task: Task, place: _Place) -> None:
        for folder in task.folders:
            if not self._reached[folder].resumes:
                self._report(Event("started", folder))
            if RunFolder(folder).has_ended:
                self._report(Event("ended", folder, exit_code=0))
            else:
                place.running.append(folder)
        if not place.running:
            return
        place.task = task
        if place.sees:
            saved = tuple(
                f"runs/{folder.name}/checkpoint"
                for folder in place.running
                if self._reached[folder].resumes
            )
            if self._remote is not None and saved:
                self._fetch(lambda name: name.startswith(saved))
            names = [str(folder.resolve()) for folder in place.running]
            place.awaited = place.actor.train.options(num_returns="streaming").remote(names)
            return
        assert self._remote is not None
        self._send(place.running[0])
        ids = [folder.name for folder in place.running]
        place.awaited = place.actor.train_at.options(num_returns="streaming").remote(
            self._remote.files.full_url, ids
        )

    def _listen(self) -> None:
        """Take one piece of news, if there is any soon."""
        awaited = {place.awaited: place for place in self._places if place.awaited is not None}
        if not awaited:
            return
        ready, _ = self._ray.wait(list(awaited), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
        if not ready:
            return
        place = awaited[ready[0]]
        try:
            if not place.ready:
                self._welcome(place, self._ray.get(place.awaited))
                return
            said = self._ray.get(next(place.awaited))
        except StopIteration:
            self._release(place, "its worker ended without a word")
        except self._ray.exceptions.RayActorError as error:
            self._places.remove(place)  # with its node or alone
            self._release(place, str(error).splitlines()[0])
        except self._ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, LlmscaleError):
                raise WorkError(
                    f"a node of the cluster failed: {error.cause.problem}", error.cause.fix
                ) from error
            self._release(place, f"{type(error.cause).__name__}: {error.cause}")
        else:
            self._take(place, said)

    def _welcome(self, place: _Place, sees: bool) -> None:
        place.awaited, place.ready, place.sees = None, True, sees
        if not sees and self._remote is None:
            raise WorkError(
                f"a node of the cluster does not see {self._marker.parent}",
                "name a folder that all nodes share, or a URL such as s3://bucket/name, with --out",
            )

    def _take(self, place: _Place, said: dict[str, Any]) -> None:
        folder = self._paths[Path(said["folder"]).name]
        reached = self._reached[folder]
        if "point" in said:
            step = said["point"]["step"]
            if reached.resumes:
                self._report(
                    Event("warned", folder, message=f"goes on from its checkpoint at step {step}")
                )
                reached.resumes = False
            reached.step = max(reached.step, step)
            if (
                self._report(Event("logged", folder, point=said["point"])) is True
                and folder not in self._stopped
            ):
                self._stopped.add(folder)
                place.actor.stop.remote(str(folder))
            return
        if "cannot_write" in said and place.sees:
            raise WriteError(*said["cannot_write"])
        if "warning" in said:
            self._report(Event("warned", folder, message=said["warning"]))
        if "exit_code" not in said or folder not in place.running:
            return
        place.running.remove(folder)
        if not place.sees:
            self._fetch(
                lambda name: name.startswith(f"runs/{folder.name}/") and "/checkpoint" not in name
            )
        why = why_lost(said["exit_code"])
        if said["exit_code"] and why:
            self._lose(place, folder, f"its process {why}")
        else:
            self._report(Event("ended", folder, exit_code=said["exit_code"]))

    def _release(self, place: _Place, why: str) -> None:
        """Nothing more is to come of its task: runs that have not ended are started again, from
        their checkpoints.
        """
        place.awaited = None
        for folder in place.running:
            self._lose(place, folder, why)
        place.running = []

    def _lose(self, place: _Place, folder: Path, why: str) -> None:
        reached = self._reached[folder]
        reached.losses = 1 if reached.step > reached.lost_at else reached.losses + 1
        reached.lost_at, reached.resumes = reached.step, True
        if folder in self._stopped:
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
                    message=f"lost at step {reached.step}, it is started again: {why}",
                )
            )
            after = place.task.after if place.task else None
            self._waiting.appendleft(Task((folder,), after))

    def _send(self, folder: Path) -> None:
        """Put at the URL what nodes that see only that need."""
        remote = self._remote
        assert remote is not None
        if not self._sent:
            store = Path(read_spec(RunFolder(folder)).store)
            _patiently(remote, lambda: send_store(remote, store))
            self._sent = True
        _patiently(remote, remote.push)

    def _fetch(self, wanted: Callable[[str], bool]) -> None:
        remote = self._remote
        assert remote is not None
        _patiently(remote, lambda: remote.pull(lambda name: is_needed(name) and wanted(name)))

    def _stop(self) -> None:
        """Let the workers save and end; a second Ctrl-C ends them at once."""
        busy = [place for place in self._places if place.running]
        for place in busy:
            place.actor.stop_all.remote()
        for place in busy:
            with suppress(StopIteration, self._ray.exceptions.RayError):
                while True:
                    self._ray.get(next(place.awaited))


def _ask_for_token() -> None:
    """Have a cluster of our own take orders only from who knows its token, as Ray can from version
    2.52 on.

    Ray reads this as it is imported, and so do the processes that it starts.
    """
    if (
        os.environ.setdefault("RAY_AUTH_MODE", "token") == "token"
        and "RAY_AUTH_TOKEN_PATH" not in os.environ
    ):
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def _current_folder_hidden() -> Iterator[None]:
    """While this lasts the current folder is the root.

    Ray has its workers import first from the folder in which it was connected, which may hold
    anything."""
    before = os.getcwd()
    cache = os.environ.get("LLMSCALE_CACHE")
    if cache:
        os.environ["LLMSCALE_CACHE"] = os.path.abspath(
            os.path.expanduser(cache)
        )  # workers stay in the root
    os.chdir(os.sep)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """The module ray, connected; a cluster that was started for it ends with it.

    Raises InputError.
    """
    where = address or os.environ.get("RAY_ADDRESS")
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
    ):
        os.environ.setdefault(name, value)
    if not where:
        _ask_for_token()
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"the executor ray needs the package ray: {error}", "pip install 'llmscale[ray]'"
        ) from error
    if where and where.startswith("ray://"):
        raise InputError(
            f"{where} is the address of a Ray client, which has no streams",
            "start the sweep on a node of the cluster, with address = 'auto'",
        )
    if where and ":" in where:
        _check_listens(where)
    own: dict[str, Any] = {} if where else {"num_cpus": available_cores(), **PRIVATE}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        with _current_folder_hidden():
            ray.init(address=where or "local", namespace="llmscale", **own, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"there is no Ray cluster at {where}: {reason}", "start one: ray start --head"
        ) from error
    finally:
        signal.signal(signal.SIGTERM, on_term)  # ray sets its own
    try:
        yield ray
    finally:
        ray.shutdown()


def _check_listens(address: str) -> None:
    """Raise InputError where nothing answers at host:port, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise InputError(
            f"there is no Ray cluster at {address}: {error}", "start one: ray start --head"
        ) from error


@contextmanager
def _marker(folder: Path) -> Iterator[Path]:
    """A file in the results folder that nodes look for, to tell whether they see it."""
    path = folder.resolve().parent.parent / f".seen-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def _patiently(remote: Remote, act: Callable[[], object]) -> None:
    try:
        try_often(act, LAST_TRIES_SECONDS)
    except LlmscaleError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise WorkError(
            f"{remote.url} could not be reached: {reason(error)}",
            "check the network; the same command goes on",
        ) from error


def _gpus(task: Task, place: Place) -> int:
    device = read_spec(RunFolder(task.folders[0])).conditions.device
    return 1 if device == "cuda" or place.gpu is not None else 0


def _check_room(ray: Any, needs: Mapping[str, float]) -> None:
    """Raise InputError where no node of the cluster can ever take a task."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(
        node.get("CPU", 0) >= needs["num_cpus"] and node.get("GPU", 0) >= needs["num_gpus"]
        for node in nodes
    ):
        most: dict[str, float] = max(nodes, key=lambda node: node.get("CPU", 0), default={})
        raise InputError(
            f"a run asks for {needs['num_cpus']} CPUs and {needs['num_gpus']} GPUs of one node, "
            "and the largest of"
            f" {len(nodes)} has {most.get('CPU', 0):g} and {most.get('GPU', 0):g}",
            "ask for fewer: --workers, or cpus in [hardware.ray]",
        )
