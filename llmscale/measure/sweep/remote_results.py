"""A sweep at a URL: fetched before it is planned, and sent while it is carried out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from llmscale.errors import InputError, LlmscaleError, WorkError
from llmscale.measure.executors import Event
from llmscale.runs.lock import only_writer
from llmscale.runs.remote import Remote, is_url, results_at
from llmscale.runs.remote._files import reason
from llmscale.runs.remote.lock import RemoteLock
from llmscale.runs.remote.uploads import Uploads, try_often
from llmscale.runs.safe_write import make_folder

START_SECONDS = 15.0
"""How long to try to reach the URL before anything is trained."""

Report = Callable[[Event], object]


def remote_of(out: str | None) -> Remote | None:
    """The results at `out`, if it is a URL. Raises InputError without its file system."""
    return results_at(out) if out is not None and is_url(out) else None


def fetch_results(remote: Remote, look_only: bool = False) -> list[str]:
    """Bring the mirror up to what is at the URL; the names of what has changed. Raises InputError.

    If a sweep of this machine is at work the mirror is up to date, which is enough to look at it.
    """
    make_folder(remote.folder)
    changed: list[str] = []

    def pull() -> None:
        changed.extend(remote.pull())

    try:
        with only_writer(remote.folder):
            try_often(pull, START_SECONDS)
    except InputError:
        if not look_only or not remote.folder.joinpath("sweep.json").exists():
            raise
    except LlmscaleError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise _unreachable(remote, error) from error
    return changed


@contextmanager
def kept_at(remote: Remote | None, report: Report, tell: Callable[[str], None]) -> Iterator[Report]:
    """Hold the URL for this sweep, and send what it writes; gives the `report` to call. Does
    nothing without a URL.

    Raises InputError if another sweep holds the URL, or has written there since `fetch_results`;
    WorkError at the end if something could not be sent."""
    if remote is None:
        yield report
        return
    lock = RemoteLock(remote.files, tell)
    try:
        try_often(lock.__enter__, START_SECONDS)
    except LlmscaleError:
        raise
    except Exception as error:
        raise _unreachable(remote, error) from error
    try:
        if any(name.endswith(("spec.json", "run.json")) for name in fetch_results(remote)):
            problem = f"another sweep has written to {remote.url} meanwhile"
            raise InputError(problem, "give the same command again")
        with Uploads(remote, lock, tell) as uploads:

            def passed_on(event: Event) -> object:
                if event.kind == "ended":
                    uploads.soon()
                return report(event)

            yield passed_on
    finally:
        lock.__exit__(None, None, None)


def _unreachable(remote: Remote, error: Exception) -> LlmscaleError:
    kind = InputError if isinstance(error, PermissionError) else WorkError
    problem = f"{remote.url} cannot be read or written: {reason(error)}"
    return kind(problem, "check its name, the network and the keys")
