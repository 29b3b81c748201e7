"""Tuning gives one result, in whatever order trials end, and whatever is killed."""

import json
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sweeps import llmscale, write_counting

from llmscale.measure.executors import Event, Place, Task
from llmscale.measure.sweep.hardware import Hardware
from llmscale.measure.sweep.spec import SweepSpec, parse_budgets
from llmscale.measure.sweep.status import sweep_status
from llmscale.measure.text.prepare import TextSpec, TokenStore, prepare
from llmscale.measure.train.calibrate import Speeds
from llmscale.measure.train.job import Job, run_row
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.run_spec import read_spec
from llmscale.measure.tune import run as study
from llmscale.measure.tune.search import Grid
from llmscale.runs.columns import rows_table
from llmscale.runs.log import append_progress, end_progress
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import CurvePoint
from llmscale.runs.run_folder import RunFolder
from llmscale.runs.safe_write import write_table, write_text


class Pretended:
    """An executor whose trials log made-up curves in a random order; some are slow to hear that
    they are stopped.
    """

    def __init__(self, seed: int, kills: int) -> None:
        self.random, self.kills = random.Random(seed), kills
        self.stopped = 0

    def run(
        self,
        tasks: Sequence[Task],
        places: Sequence[Place],
        report: Callable[[Event], object],
        options: None,
    ) -> None:
        under_way = {task.folders[0]: self.rows(task.folders[0]) for task in tasks}
        unwanted: set[Path] = set()
        while under_way:
            folder = self.random.choice(list(under_way))
            rows = under_way[folder]
            for _ in range(min(len(rows), self.random.randint(1, 12))):
                point = rows.pop(0)
                append_progress(folder, point)
                if self.kills and self.random.random() < 0.01:
                    self.kills -= 1
                    if (
                        self.random.random() < 0.5
                    ):  # a worker that lost its sweep goes on to the end
                        self.finish(folder)
                    raise KeyboardInterrupt
                if report(Event("logged", folder, point=asdict(point))) is True:
                    self.stopped += folder not in unwanted
                    unwanted.add(folder)
            if folder in unwanted and self.random.random() < 0.7:
                del under_way[folder]
                report(Event("ended", folder, exit_code=130))
            elif not rows:
                del under_way[folder]
                self.finish(folder)
                report(Event("ended", folder, exit_code=0))

    def rows(self, folder: Path) -> list[CurvePoint]:
        end_progress(folder)
        return curve(read_spec(RunFolder(folder)).job)[0]

    def finish(self, folder: Path) -> None:
        job = read_spec(RunFolder(folder)).job
        rows, loss = curve(job)
        write_table(folder / "curve.parquet", rows_table(CurvePoint, rows))
        write_text(
            folder / "run.json",
            json.dumps(asdict(run_row(job, "done", "x", loss=loss, seconds=1.0))),
        )
        end_progress(folder)


def curve(job: Job) -> tuple[list[CurvePoint], float]:
    """The best learning rate is far above where the search begins, so that it goes a long way."""
    away = math.log(job.lr / 0.08)
    final = 3 + 0.08 * away**2
    noise = random.Random(job.run_id)
    rows = []
    for step in range(job.log_every, job.steps + 1, job.log_every):
        share = step / job.steps
        loss = final + 0.3 * (1 - share) + 0.02 * away * (1 - share) + noise.gauss(0, 0.002)
        tokens = step * job.batch_tokens
        rows.append(
            CurvePoint(
                job.run_id,
                step,
                tokens,
                1.0,
                loss,
                1.0,
                None,
                None,
                job.lr,
                None,
                None,
                float(step),
            )
        )
    return rows, final


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> TokenStore:
    return prepare(
        TextSpec(source=str(write_counting(tmp_path_factory.mktemp("text"))), tokenizer="bpe:300")
    )


def tuned(folder: Path, store: TokenStore, executor: Pretended) -> dict[str, Any]:
    spec = SweepSpec(
        sizes=("1x16x1",),
        tokens=parse_budgets("30k"),
        seeds=1,
        data=TextSpec(source=store.name, tokenizer="bpe:300"),
        recipe=Recipe(context=32),
        hardware=Hardware(device="cpu", dtype="float32", workers=2, compile="never"),
    )
    for _ in range(50):
        one = study.Study(spec, Grid(), store, ResultsFolder(folder))
        try:
            while (plan := one.next_round()) is not None:
                one.carry_out(plan, "llmscale tune --sizes 1x16x1", lambda event: None)
        except KeyboardInterrupt:
            continue
        return one.tuning().to_json()
    raise AssertionError("the search does not end")


def pretend(monkeypatch: pytest.MonkeyPatch, executor: Pretended) -> None:
    monkeypatch.setattr(
        "llmscale.measure.sweep.run.train_tasks", lambda name, *given: executor.run(*given)
    )


def test_the_order_in_which_trials_end_and_kills_change_nothing(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = SimpleNamespace(measure_speeds=lambda *_: Speeds(1e11, ((1e4, 1e9),)))
    monkeypatch.setattr("llmscale.measure.train.calibrate.measure_speeds", measured.measure_speeds)
    results = []
    for seed, kills in ((0, 0), (1, 0), (2, 5)):
        executor = Pretended(seed, kills)
        pretend(monkeypatch, executor)
        results.append(tuned(tmp_path / f"{seed}", store, executor))
        rows = json.loads((tmp_path / f"{seed}" / "tune.json").read_text())
        assert rows["trials"] == results[-1]["trials"]
    statuses = [trial["status"] for trial in results[0]["trials"]]
    assert "stopped" in statuses
    assert all(result == results[0] for result in results[1:])

    (tmp_path / "0" / "tune.json").write_bytes(b"{")
    executor = Pretended(9, 0)
    pretend(monkeypatch, executor)
    assert tuned(tmp_path / "0", store, executor) == results[0]


def test_status_of_a_tuned_folder_shows_rates_and_names_the_sweep_that_uses_the_rule(
    store: TokenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Pretended(0, 0)
    monkeypatch.setattr(
        "llmscale.measure.train.calibrate.measure_speeds", lambda *_: Speeds(1e11, ((1e4, 1e9),))
    )
    pretend(monkeypatch, executor)
    out = tmp_path / "tuned"
    tuned(out, store, executor)
    status = sweep_status(ResultsFolder(out))
    assert status.finished
    assert status.next_command == f"llmscale sweep --sizes 1x16x1 --rule {out}"
    stopped = [run for run in status.runs if run.state == "stopped early"]
    assert stopped
    assert all(0 < run.share_done < 1 for run in stopped)
    assert status.flops_left == 0
    shown = llmscale("status", str(out))
    assert shown.exit_code == 0
    assert f"{stopped[0].lr:.3g}" in shown.stdout
    changed = json.loads((out / "tune.json").read_text())
    changed["rungs"][0]["finished"] = False
    (out / "tune.json").write_text(json.dumps(changed))
    assert (
        sweep_status(ResultsFolder(out)).next_command == f"llmscale tune --sizes 1x16x1 --out {out}"
    )
