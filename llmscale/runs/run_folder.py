"""`runs/RUN_ID`: what one run has left. Each file is named, written and read in one place.
`spec.json`, which needs the types of training, is written and read in measure/train/run_spec.py."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmscale.errors import InputError
from llmscale.errors.command_lines import command_line
from llmscale.runs.checked import DamagedFile
from llmscale.runs.columns import rows_table
from llmscale.runs.rows import read_row
from llmscale.runs.run import CurvePoint, Run
from llmscale.runs.safe_paths import plain_name
from llmscale.runs.safe_write import write_json, write_table

if TYPE_CHECKING:
    import pyarrow as pa

CHECKPOINT, PREVIOUS_CHECKPOINT = "checkpoint.pt", "checkpoint-previous.pt"
SHARDED_CHECKPOINT = "checkpoint.dcp"
WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run, there or not; its name is the run's id."""

    path: Path

    @property
    def run_id(self) -> str:
        return self.path.name

    @property
    def spec_path(self) -> Path:
        """The job and how it is run: all that a worker needs."""
        return self.path / "spec.json"

    @property
    def row_path(self) -> Path:
        """The run's row of the table, once it has ended."""
        return self.path / "run.json"

    @property
    def curve_path(self) -> Path:
        """The run's rows of curves.parquet, once it has ended."""
        return self.path / "curve.parquet"

    @property
    def progress_path(self) -> Path:
        """These rows as they are logged, while it is under way (runs/log.py)."""
        return self.path / "progress.jsonl"

    @property
    def log_path(self) -> Path:
        """What the run's process says on standard error."""
        return self.path / "worker.log"

    @property
    def weights_path(self) -> Path:
        """The weights of a run that is done, if they are kept (measure/train/kept_weights.py)."""
        return self.path / WEIGHTS

    @property
    def tokenizer_path(self) -> Path:
        """The tokenizer of its text, next to kept weights."""
        return self.path / "tokenizer.json"

    @property
    def measured_path(self) -> Path:
        """What training measured besides its row: more columns of it (runs/scores.py)."""
        return self.path / "measured.json"

    @property
    def scores_path(self) -> Path:
        """What was measured of it later: more columns of its row (runs/scores.py)."""
        return self.path / "scores.json"

    @property
    def checkpoint_path(self) -> Path:
        return self.path / CHECKPOINT

    @property
    def has_checkpoint(self) -> bool:
        names = CHECKPOINT, PREVIOUS_CHECKPOINT, SHARDED_CHECKPOINT
        return any((self.path / name).exists() for name in names)

    @property
    def has_ended(self) -> bool:
        """Whether there is a row: whoever trained the run has written it."""
        return self.row_path.exists()

    def read_row(self) -> Run:
        """The row. Raises DamagedFile; FileNotFoundError while the run has not ended."""
        return read_row(self.row_path)

    def known_row(self) -> Run | None:
        """The row, or None while the run has not ended, or if it is damaged."""
        try:
            return self.read_row()
        except (DamagedFile, FileNotFoundError):
            return None

    def write_row(self, row: Run) -> None:
        write_json(self.row_path, asdict(row))

    def read_curve(self) -> "pa.Table":
        """The run's own curve. Raises DamagedFile."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return pq.read_table(self.curve_path, page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            again = f"train the run again: {command_line('rm', '-r', self.path)}"
            raise DamagedFile(self.curve_path, str(error), again) from error

    def write_curve(self, points: Iterable[CurvePoint]) -> None:
        write_table(self.curve_path, rows_table(CurvePoint, points))

    def sibling_file(self, place: str) -> Path:
        """The file at `place`, `../RUN_ID/NAME` seen from here. Raises InputError otherwise."""
        parts = place.split("/")
        if len(parts) != 3 or parts[0] != "..":
            problem = f"{place!r} is no file of another run of the sweep"
            raise InputError(problem, "use results that llmscale wrote")
        return self.path.parent / plain_name(parts[1]) / plain_name(parts[2])
