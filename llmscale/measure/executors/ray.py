"""Runs on a Ray cluster: an actor a place, which keeps a worker process on whatever node Ray finds
for it.

What the workers say comes back as the actors' streams, so that nodes need no more of the results
than to read and write them: in a folder that they share with this machine, or at the URL of the
results."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import WorkError
from llmscale.measure.executors import Event, Executor, Gone, Place, Task, Worker
from llmscale.measure.executors import _ray_cluster as cluster
from llmscale.measure.executors._by_url import ByUrl
from llmscale.measure.executors._remote_worker import Node
from llmscale.measure.executors._worker_process import event_of
from llmscale.runs.remote import results_at, url_of

SECONDS_BETWEEN_LOOKS = 0.5
MOST_ASKED = 16
"""Actors that wait for room at a time: enough to fill a cluster soon, and have it grow."""


@dataclass(eq=False)
class _Actor(Worker):
    actor: Any = None
    awaited: Any = None
    """Its first sign of life, then the stream of a task's news; None while it has nothing to do."""
    is_up: bool = False
    sees: bool = True
    """Whether its node sees the results folder."""


class Ray(Executor):
    """An actor a place."""

    NEEDS, Options = "ray", cluster.Options

    @classmethod
    def threads_elsewhere(cls, options: Any, device: str) -> int | None:
        return options.cpus or (1 if device == "cuda" else None)

    def __init__(self, tasks: Sequence[Task], places: Sequence[Place], options: Any) -> None:
        self._places, self._actors = places, list[_Actor]()
        self._paths = {folder.name: folder for task in tasks for folder in task.folders}
        self._afters = [task.after for task in tasks if task.after is not None]
        self._begun: set[Path] = set()
        with ExitStack() as stack:
            self._ray = stack.enter_context(cluster.connected(options.address if options else None))
            self._marker = stack.enter_context(cluster.marker(tasks[0].folders[0]))
            url = url_of(self._marker.parent)
            self._by_url = ByUrl(results_at(url)) if url else None
            on_gpu = places[0].gpu is not None
            self._needs = {"num_cpus": places[0].threads, "num_gpus": int(on_gpu)}
            cluster.check_room(self._ray, self._needs)
            self._taken = stack.pop_all()

    def ready(self, waiting: Sequence[Task]) -> Iterator[Worker]:
        idle = sum(one.awaited is None or not one.is_up for one in self._actors)
        if len(self._actors) < len(self._places) and idle < min(len(waiting), MOST_ASKED):
            node = self._ray.remote(Node).options(max_concurrency=2, max_restarts=0, **self._needs)
            place = self._places[len(self._actors)]
            new = _Actor(place, actor=node.remote(place.threads))
            new.awaited = new.actor.sees.remote(str(self._marker))
            self._actors.append(new)
        yield from (one for one in self._actors if one.is_up and one.awaited is None)

    def start(self, worker: Worker) -> bool:
        assert isinstance(worker, _Actor)
        folders = worker.running
        train: Any = worker.actor.train
        given: list[Any] = [[str(folder.resolve()) for folder in folders]]
        if self._by_url is not None and worker.sees:
            self._by_url.fetch_checkpoints(self._begun.intersection(folders))
        elif self._by_url is not None:
            self._by_url.send(folders[0])
            train = worker.actor.train_at
            given = [self._by_url.url, [folder.name for folder in folders]]
        worker.awaited = train.options(num_returns="streaming").remote(*given)
        self._begun.update(folders)
        return True

    def poll(self) -> Iterator[tuple[Worker, Event | Gone]]:
        self._look_for_branch_points()
        awaited = {one.awaited: one for one in self._actors if one.awaited is not None}
        if not awaited:
            return
        found, _ = self._ray.wait(list(awaited), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
        if not found:
            return
        worker = awaited[found[0]]
        try:
            said = cluster.answer(self._ray, worker.awaited)
        except self._ray.exceptions.RayActorError as error:
            self._actors.remove(worker)  # with its node or by itself
            yield worker, Gone(cluster.LOST, str(error).splitlines()[0])
            return
        if isinstance(said, Gone):
            if not worker.is_up:
                raise WorkError(f"a node of the cluster cannot train: {said.why}", "see its logs")
            worker.awaited = None
            yield worker, said
        elif not worker.is_up:
            self._welcome(worker, said)
        else:
            folder = self._paths[Path(said["folder"]).name]
            if "exit_code" in said and not worker.sees and self._by_url is not None:
                self._by_url.fetch_run(folder)
            if event := event_of(said, folder):
                yield worker, event

    def stop(self, worker: Worker, folder: Path) -> None:
        assert isinstance(worker, _Actor)
        worker.actor.stop.remote(str(folder))

    def end(self) -> None:
        busy = [one for one in self._actors if one.running]
        with self._taken:
            try:
                for one in busy:
                    one.actor.stop_all.remote()
                for one in busy:
                    with suppress(StopIteration, self._ray.exceptions.RayError):
                        while True:
                            self._ray.get(next(one.awaited))
            finally:
                for one in self._actors:
                    self._ray.kill(one.actor)

    def _welcome(self, worker: _Actor, sees: bool) -> None:
        worker.awaited, worker.is_up, worker.sees = None, True, sees
        if not sees and self._by_url is None:
            raise WorkError(
                f"a node of the cluster does not see {self._marker.parent}",
                "name a folder that all nodes share, or a URL such as s3://bucket/name, with --out",
            )

    def _look_for_branch_points(self) -> None:
        """Fetch those that nodes without the folder are to write, if they are at the URL by now."""
        afar = {folder for one in self._actors if not one.sees for folder in one.running}
        missing = [path for path in self._afters if path.parent in afar and not path.exists()]
        if self._by_url is not None:
            self._by_url.look_for(missing)
