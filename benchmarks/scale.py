"""How long commands take on a results folder of many runs, and how much memory: 10,000 runs of
5,000 rows with --full.

The folder is what a sweep would have left: sweep.json, the two tables, and a folder a run with its
specification, row and curve. Each command runs as a process of its own; peak memory is that of the
process and of what it started."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rich.console
import rich.table

from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.machine import device_name
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.jobs import jobs_of
from llmscale.measure.sweep.provenance import describe_text
from llmscale.measure.sweep.records import write_tables
from llmscale.measure.sweep.spec import SweepSpec, parse_budgets
from llmscale.measure.text.prepare import TextSpec, prepare
from llmscale.measure.train.conditions import Conditions
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import RunSpec
from llmscale.quantity import format_bytes, format_count
from llmscale.runs.columns import rows_table
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint

TRUTH = Chinchilla(E=1.1, A=60.0, B=400.0, alpha=0.3, beta=0.4)
NOISE = 0.004
BUDGETS = ("60k", "80k", "100k", "130k", "160k", "200k", "260k", "350k", "450k", "600k")
SEEDS = 10
TOKENIZER = "bpe:300"
EVALUATIONS = 20
COOLDOWN = 0.2
LAUNCHER = """
import json, os, subprocess, sys, time
started = time.monotonic()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(json.dumps([time.monotonic() - started, used.ru_maxrss, os.waitstatus_to_exitcode(status)]))
"""
"""A small process in between: the kernel counts the memory of the one that starts a command as that
command's.
"""


@dataclass(frozen=True)
class Measured:
    """What a command took."""

    command: str
    seconds: float
    peak_bytes: int
    exit_code: int
    said: str = ""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=500, help="a multiple of 100")
    parser.add_argument("--rows", type=int, default=500, help="rows of each run's curve")
    parser.add_argument(
        "--full", action="store_true", help="10,000 runs of 5,000 rows: 2 GB twice, some minutes"
    )
    parser.add_argument(
        "--folder",
        type=Path,
        help="where to make the folder, and leave it; one made before is used",
    )
    parser.add_argument("--only", metavar="WORDS", help="only commands with these words")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    runs, rows = (10_000, 5_000) if asked.full else (asked.runs, asked.rows)
    with tempfile.TemporaryDirectory() as scratch:
        place = asked.folder or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        text = text_to_train(place)
        spec = described(text, runs)
        folder = ResultsFolder(place / "many")
        made = Measured("making the folder", 0.0, 0, 0)
        if not folder.curves_path.exists():
            started = time.monotonic()
            make_folder(folder, spec, rows)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            made = Measured("making the folder", time.monotonic() - started, peak, 0)
        measured = [
            made,
            *(
                measure(words, place)
                for words in commands(spec, folder)
                if (asked.only or "") in " ".join(words)
            ),
        ]
    if asked.json:
        print(
            json.dumps(
                {"runs": runs, "rows": runs * rows, "measured": [asdict(one) for one in measured]},
                indent=2,
            )
        )
    else:
        show(measured, runs, rows)
    # Few sizes, as without --full, have no envelope, and the command says so once it has read their
    # curves.
    sys.exit(
        any(
            one.exit_code not in ((0, 2) if "envelope" in one.command else (0,)) for one in measured
        )
    )


def commands(spec: SweepSpec, folder: ResultsFolder) -> list[list[str]]:
    """What is timed, in turn.

    The first sweep trains the run that is missing, the second finds nothing to do.
    """
    place = str(folder.path)
    return [
        ["status", place, "--json"],
        sweep_command(spec, folder, "--dry-run"),
        sweep_command(spec, folder, "--yes"),
        sweep_command(spec, folder, "--yes"),
        ["fit", place, "--bootstrap", "100"],
        ["fit", place],
        ["fit", place, "--method", "envelope"],
        ["fit", place, "--law", "curve", "--bootstrap", "20"],
        ["plot", place, "--kind", "curves"],
        ["plot", place, "--kind", "envelope"],
    ]


def sweep_command(spec: SweepSpec, folder: ResultsFolder, *others: str) -> list[str]:
    return [
        *(
            "sweep",
            "--sizes",
            ",".join(spec.sizes),
            "--tokens",
            ",".join(BUDGETS),
            "--seeds",
            str(spec.seeds),
        ),
        *(
            "--data",
            spec.data.source,
            "--tokenizer",
            TOKENIZER,
            "--context",
            str(spec.recipe.context),
        ),
        *("--device", "cpu", "--dtype", "float32", "--out", str(folder.path), *others),
    ]


def measure(words: list[str], place: Path) -> Measured:
    """Run `llmscale WORDS` and take the time and the peak memory that the kernel accounts to it."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "llmscale", *words]
    with (place / "said.txt").open("w+", encoding="utf-8") as said:
        told = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=said, text=True, check=True
        ).stdout
        seconds, peak, code = json.loads(told)
        said.seek(0)
        end = said.read()[-400:].strip() if code else ""
    return Measured(_short(words), seconds, peak * 1024, code, end)


def text_to_train(place: Path) -> Path:
    """Documents of counting, 1 MB: enough for every run."""
    path = place / "counting.jsonl"
    if not path.exists():
        documents = (
            "; ".join(str(number) for number in range(first, first + 100))
            for first in range(0, 200_000, 100)
        )
        path.write_text(
            "".join(json.dumps({"text": document}) + "\n" for document in documents),
            encoding="utf-8",
        )
    return path


def described(text: Path, runs: int) -> SweepSpec:
    """The sweep of so many runs: sizes by depth and width, ten budgets and ten seeds."""
    number = runs // (len(BUDGETS) * SEEDS)
    if number < 4 or number * len(BUDGETS) * SEEDS != runs:
        raise SystemExit(
            f"{runs} runs are not a multiple of {len(BUDGETS) * SEEDS}, four times that at least"
        )
    sizes = tuple(f"{1 + index % 4}x{16 + 8 * (index // 4)}x1" for index in range(number))
    return SweepSpec(
        sizes=sizes,
        tokens=parse_budgets(",".join(BUDGETS)),
        seeds=SEEDS,
        data=TextSpec(source=str(text), tokenizer=TOKENIZER),
        recipe=Recipe(context=32),
        hardware=Hardware(device="cpu", dtype="float32"),
    )


def make_folder(folder: ResultsFolder, spec: SweepSpec, rows: int) -> None:
    """The folder of the sweep with all runs but the first finished, each with `rows` rows."""
    store = prepare(spec.data)
    jobs = jobs_of(spec, store)
    trunks = {(job.shape, job.seed): job for job in jobs}  # of each the last: the largest budget
    rng = np.random.default_rng(0)
    name = device_name("cpu")
    trunk_curves: dict[str, Curve] = {}
    for job in [*trunks.values(), *jobs[1:]]:
        trunk = trunks[job.shape, job.seed]
        if job is trunk and job.run_id in trunk_curves:
            continue
        curve = Curve.of(job, rows, rng, trunk_curves.get(trunk.run_id))
        if job is trunk:
            trunk_curves[job.run_id] = curve
        run = folder.run_folder(job.run_id)
        conditions = Conditions("cpu", micro_batch=1)
        RunSpec(job, conditions, store=str(store.path), device_name=name).write(run)
        pq.write_table(
            curve.table(job),
            run.curve_path,
            compression="zstd",
            use_dictionary=["run_id", "lr"],
        )
        loss = float(curve.loss[-1])
        measured = {
            "loss": loss,
            "perplexity": float(np.exp(loss)),
            "loss_stderr": 0.001,
            "train_loss": loss,
        }
        parent = None if job is trunk else trunk.run_id
        row = run_row(
            job, "done", name, **measured, seconds=1.0, tokens_per_second=1e6, parent=parent
        )
        run.write_row(row)
    sweep = {"spec": spec.to_json(), "basis": spec.basis(), "runs": [job.run_id for job in jobs]}
    folder.write_sweep(
        {
            **sweep,
            "data": describe_text(store),
            "hardware": {"device": "cpu"},
            "command": "a benchmark",
        }
    )
    write_tables(folder, final=True)


@dataclass(frozen=True)
class Curve:
    """What a run has logged: a branch begins with its trunk's rows, and ends with a cooldown of its
    own.
    """

    step: np.ndarray
    tokens: np.ndarray
    train_loss: np.ndarray
    loss: np.ndarray
    lr: np.ndarray

    @classmethod
    def of(cls, job: Job, rows: int, rng: np.random.Generator, trunk: "Curve | None") -> "Curve":
        tokens = np.linspace(job.tokens / rows, job.tokens, rows).round().astype(np.int64)
        shared = 0
        if trunk is not None:
            shared = int((trunk.tokens <= (1 - COOLDOWN) * job.tokens).sum())
            own = np.linspace(trunk.tokens[shared - 1], job.tokens, rows - shared + 1)[1:]
            tokens = np.concatenate([trunk.tokens[:shared], own.round().astype(np.int64)])
        progress = tokens / job.tokens
        lr = (
            job.lr
            * np.minimum(1.0, progress / 0.02)
            * np.minimum(1.0, (1 - progress) / COOLDOWN + 1e-3)
        )
        above = 0.05 * np.minimum(1.0, (1 - progress) / COOLDOWN)  # what the cooldown takes away
        train_loss = TRUTH.loss(job.shape.params, tokens) * np.exp(
            above + NOISE * rng.standard_normal(rows)
        )
        loss = np.full(rows, np.nan)
        evaluated = np.unique(np.linspace(rows / EVALUATIONS, rows, EVALUATIONS).astype(int) - 1)
        loss[evaluated] = train_loss[evaluated]
        curve = cls(tokens, tokens, train_loss, loss, lr)
        if trunk is None:
            return curve
        values = {name: getattr(curve, name) for name in ("train_loss", "loss", "lr")}
        for name, value in values.items():
            value[:shared] = getattr(trunk, name)[:shared]
        return cls(tokens, tokens, **values)

    def table(self, job: Job) -> pa.Table:
        rows = len(self.step)
        absent = np.isnan(self.loss)
        columns = {
            "run_id": pa.array([job.run_id] * rows),
            "step": self.step,
            "tokens": self.tokens,
            "flops": self.tokens * float(job.shape.flops_per_token),
            "train_loss": self.train_loss,
            "train_perplexity": np.exp(self.train_loss),
            "loss": pa.array(self.loss, mask=absent),
            "perplexity": pa.array(np.exp(self.loss), mask=absent),
            "lr": self.lr,
            "grad_norm": 0.3 + 0.1 * np.sin(self.train_loss * 1e6),
            "tokens_per_second": 1e6 + 1e4 * np.cos(self.train_loss * 1e6),
            "seconds": self.tokens / 1e6,
        }
        schema = rows_table(CurvePoint, []).schema
        return pa.table(
            [pa.array(columns[name]) for name in schema.names], names=schema.names
        ).cast(schema)


def show(measured: Sequence[Measured], runs: int, rows: int) -> None:
    console = rich.console.Console(width=120)
    title = f"{format_count(runs)} runs, {format_count(runs * rows)} rows of curves"
    table = rich.table.Table("command", "seconds", "peak memory", "", title=title)
    for one in measured:
        problem = f"exit code {one.exit_code}: {one.said}" if one.exit_code else ""
        table.add_row(one.command, f"{one.seconds:.1f}", format_bytes(one.peak_bytes), problem)
    console.print(table)
    console.print(
        f"{os.cpu_count()} cores, Python {platform.python_version()}, pyarrow {pa.__version__}"
    )


def _short(words: Sequence[str]) -> str:
    """The command without the paths and lists that it names."""
    return " ".join(word for word in words if "/" not in word and len(word) < 24)


if __name__ == "__main__":
    main()
