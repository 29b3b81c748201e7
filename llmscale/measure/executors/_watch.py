"""What the folders of runs tell of workers elsewhere: logged steps, and that a run has ended."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmscale.measure.executors import Event
from llmscale.runs.log import read_progress
from llmscale.runs.run_folder import RunFolder


@dataclass
class _Seen:
    """How far a run's progress has been read: which file, to which offset and step."""

    file: int | None = None
    offset: int = 0
    step: int = 0


class Watch:
    """Steps of runs logged since the watch began or was asked last, once, in order."""

    def __init__(self) -> None:
        self._seen: dict[Path, _Seen] = {}

    def begin(self, folder: Path) -> None:
        """Watch `folder` from here on, if it is not watched. What is there already is no news."""
        if folder not in self._seen:
            self._seen[folder] = _Seen()
            self.events(folder)

    def events(self, folder: Path) -> list[Event]:
        """What was logged since."""
        seen = self._seen[folder]
        try:
            file = RunFolder(folder).progress_path.stat().st_ino
        except FileNotFoundError:
            return []
        if file != seen.file:  # a worker that goes on from a checkpoint has written it anew
            seen.file, seen.offset = file, 0
        rows, seen.offset = read_progress(folder, seen.offset)
        return self._news(folder, rows)

    def last_events(self, folder: Path) -> list[Event]:
        """What a run that has ended logged since: its progress is gone, and its curve is there."""
        run = RunFolder(folder)
        rows = run.read_curve().to_pylist() if run.curve_path.exists() else []
        return [*self.events(folder), *self._news(folder, rows)]

    def _news(self, folder: Path, rows: list[dict[str, Any]]) -> list[Event]:
        seen = self._seen[folder]
        new = [row for row in rows if row["step"] > seen.step]
        if new:
            seen.step = new[-1]["step"]
        return [Event("logged", folder, point=row) for row in new]


def exit_code(folder: Path) -> int | None:
    """0 if the run's row says done or diverged, 1 if it failed, None while it goes on."""
    try:
        row = RunFolder(folder).read_row()
    except FileNotFoundError:
        return None
    return 1 if row.status == "failed" else 0
