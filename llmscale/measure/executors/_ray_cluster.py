"""A Ray cluster: connecting to one, or starting one on this machine that nobody else can reach."""

import logging
import os
import secrets
import signal
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.errors import InputError, LlmscaleError, WorkError
from llmscale.machine import available_cores
from llmscale.measure.executors import Gone
from llmscale.settings import Range, check_settings, setting

PRIVATE = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
"""Only this machine reaches a cluster of ours: who reaches a Ray cluster runs code on it."""
LOST = -9
"""The exit code of a run whose actor is gone: as if its process had been killed."""
START = "start one: ray start --head"


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


@contextmanager
def connected(address: str | None) -> Iterator[Any]:
    """The module ray, connected to the cluster at `address` or RAY_ADDRESS; one that was started
    for it ends with it. Raises InputError."""
    where = address or os.environ.get("RAY_ADDRESS")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not where:
        _ask_for_token()
    try:
        import ray
    except ImportError as error:
        problem = f"the executor ray needs the package ray: {error}"
        raise InputError(problem, "pip install 'llmscale[ray]'") from error
    if where and where.startswith("ray://"):
        raise InputError(
            f"{where} is the address of a Ray client, which has no streams",
            "start the sweep on a node of the cluster, with address = 'auto'",
        )
    if where and ":" in where:
        _check_listens(where)
    own: dict[str, Any] = {} if where else {"num_cpus": available_cores(), **PRIVATE}
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    try:
        with _current_folder_hidden(), _sigterm_kept():
            ray.init(address=where or "local", namespace="llmscale", **own, **quiet)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(f"there is no Ray cluster at {where}: {reason}", START) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextmanager
def marker(folder: Path) -> Iterator[Path]:
    """A file in the results folder of a run by which nodes tell whether they see it."""
    path = folder.resolve().parent.parent / f".seen-{uuid.uuid4().hex}"
    path.touch()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def check_room(ray: Any, needs: Mapping[str, float]) -> None:
    """Raise InputError if no node of the cluster can ever take a task."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, gpus = needs["num_cpus"], needs["num_gpus"]
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        most: dict[str, float] = max(nodes, key=lambda node: node.get("CPU", 0), default={})
        raise InputError(
            f"a run asks for {cpus} CPUs and {gpus} GPUs of one node, and the largest of "
            f"{len(nodes)} has {most.get('CPU', 0):g} and {most.get('GPU', 0):g}",
            "ask for fewer: --workers, or cpus in [hardware.ray]",
        )


def answer(ray: Any, awaited: Any) -> Any | Gone:
    """What an actor has answered, or the next item of its stream; Gone if no more is to come.

    Raises WorkError if the node failed for a reason that helps, and Ray's own if the actor is gone.
    """
    try:
        return ray.get(next(awaited) if isinstance(awaited, Iterator) else awaited)
    except StopIteration:
        return Gone(LOST, "its worker ended without a word")
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, LlmscaleError):
            problem = f"a node of the cluster failed: {error.cause.problem}"
            raise WorkError(problem, error.cause.fix) from error
        return Gone(LOST, f"{type(error.cause).__name__}: {error.cause}")


def _ask_for_token() -> None:
    """Have a cluster of our own take orders only from who knows its token, as Ray can from version
    2.52 on. Ray reads this as it is imported, and so do the processes that it starts."""
    mode = os.environ.setdefault("RAY_AUTH_MODE", "token")
    if mode == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@contextmanager
def _sigterm_kept() -> Iterator[None]:
    """SIGTERM is handled afterwards as before: in the main thread Ray sets its own handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    on_term = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, on_term)


@contextmanager
def _current_folder_hidden() -> Iterator[None]:
    """While this lasts the current folder is the root. Ray has its workers import first from the
    folder in which it was connected, which may hold anything."""
    before = os.getcwd()
    cache = os.environ.get("LLMSCALE_CACHE")
    if cache:  # workers stay in the root
        os.environ["LLMSCALE_CACHE"] = os.path.abspath(os.path.expanduser(cache))
    os.chdir(os.sep)
    try:
        yield
    finally:
        os.chdir(before)


def _check_listens(address: str) -> None:
    """Raise InputError if nothing answers at host:port, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise InputError(f"there is no Ray cluster at {address}: {error}", START) from error
