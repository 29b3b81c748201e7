"""What the machine that leads exchanges with nodes that reach the results only at their URL."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from llmscale.errors import LlmscaleError, WorkError
from llmscale.measure.executors._remote_worker import send_store
from llmscale.measure.train.run_spec import read_spec
from llmscale.runs.remote import Remote, is_needed
from llmscale.runs.remote._files import reason
from llmscale.runs.remote.uploads import LAST_TRIES_SECONDS, try_often
from llmscale.runs.run_folder import RunFolder

SECONDS_BETWEEN_FETCHES = 5.0


class ByUrl:
    """The results at a URL, of which this machine has a mirror. Raises WorkError out of reach."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._sent, self._last_look = set[Path](), 0.0

    @property
    def url(self) -> str:
        return self._remote.files.full_url

    def send(self, folder: Path) -> None:
        """Put at the URL what a node needs to train the run in `folder`."""
        store = Path(read_spec(RunFolder(folder)).store)
        if store not in self._sent:
            self._patiently(lambda: send_store(self._remote, store))
            self._sent.add(store)
        self._patiently(self._remote.push)

    def fetch_run(self, folder: Path) -> None:
        """Bring what a node has written of a run here, but for its checkpoint."""
        home = f"runs/{folder.name}/"
        self._fetch(lambda name: name.startswith(home) and "/checkpoint" not in name)

    def fetch_checkpoints(self, folders: Iterable[Path]) -> None:
        """Bring what runs go on from here."""
        saved = tuple(f"runs/{folder.name}/checkpoint" for folder in folders)
        if saved:
            self._fetch(lambda name: name.startswith(saved))

    def look_for(self, files: Iterable[Path]) -> None:
        """Fetch branch points that other tasks wait for, now and then, if they are there."""
        names = {f"runs/{path.parent.name}/{path.name}" for path in files}
        if names and time.monotonic() - self._last_look > SECONDS_BETWEEN_FETCHES:
            self._last_look = time.monotonic()
            self._fetch(names.__contains__)

    def _fetch(self, wanted: Callable[[str], bool]) -> None:
        pull = self._remote.pull
        self._patiently(lambda: pull(lambda name: is_needed(name) and wanted(name)))

    def _patiently(self, act: Callable[[], object]) -> None:
        try:
            try_often(act, LAST_TRIES_SECONDS)
        except LlmscaleError:
            raise
        except Exception as error:  # each file system has errors of its own
            problem = f"{self._remote.url} could not be reached: {reason(error)}"
            raise WorkError(problem, "check the network; the same command goes on") from error
