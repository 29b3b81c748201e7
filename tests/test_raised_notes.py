"""Notes that no other test raises: each by what deserves it, and not by what is like it and sound.

Every code of the catalogue is raised in some test: here, or where the thing itself is tested."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from llmscale.explain.allocation import allocate
from llmscale.explain.allocation.parametric import of_fit
from llmscale.explain.curve_table import folder_steps
from llmscale.explain.figures._text import drawing_notes
from llmscale.explain.fit import Fit, fit_law
from llmscale.explain.fit.groups import fit_groups
from llmscale.explain.fit.stand_ins import with_stand_ins
from llmscale.explain.forecast.forecast import forecast
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.explain.laws.farseer import Farseer
from llmscale.explain.laws.power_floor import PowerFloor
from llmscale.explain.laws.transfer import Transfer
from llmscale.explain.table import read_table
from llmscale.measure import doctor
from llmscale.measure.sweep.notes import held_out_note, plan_notes
from llmscale.measure.sweep.result import SweepResult
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.tune.result import conclude
from llmscale.notes import CATALOGUE
from llmscale.runs.results_folder import ResultsFolder

TRUTH = Chinchilla(E=1.8, A=420.0, B=2100.0, alpha=0.36, beta=0.31)
RESULTS = Path(__file__).resolve().parents[1] / "results" / "cpu"
SIZES, BUDGETS = np.geomspace(1e7, 1e9, 5), np.geomspace(1e9, 1e11, 4)
Codes = set[str]


def frame(N: Any, D: Any, law: Chinchilla = TRUTH, noise: float = 0.0) -> pd.DataFrame:
    N, D = (np.asarray(values, dtype=float) for values in (N, D))
    rng = np.random.default_rng(0)
    loss = law.loss(N, D) * np.exp(noise * rng.standard_normal(len(N)))
    return pd.DataFrame({"params": N, "tokens": D, "loss": loss})


def grid(sizes: Any = SIZES, budgets: Any = BUDGETS, **more: Any) -> pd.DataFrame:
    N, D = (axis.ravel() for axis in np.meshgrid(sizes, budgets))
    return frame(N, D, **more)


@cache
def fitted(law: str, one_budget: bool = False) -> Fit:
    table = grid(budgets=BUDGETS[:1] if one_budget else BUDGETS)
    return fit_law(table, law, bootstrap=0, holdout="none", diagnostics=False)


def codes(found: Any) -> Codes:
    return {note.code for note in getattr(found, "notes", found)}


def of_fit_of(table: Any, law: str, bootstrap: int = 0) -> Codes:
    return codes(fit_law(table, law, bootstrap=bootstrap, holdout="none", diagnostics=False))


def isoflop(
    budgets: int = 4, sizes: int = 7, a: float = 0.5, off: float = 1.0, noise: float = 0.0
) -> pd.DataFrame:
    """Parabolas in ln N about an optimum that grows as C^a, whose sizes are centred `off` it."""
    C = np.repeat(np.geomspace(1e18, 1e21, budgets), sizes)
    best = 1e8 * (C / 1e18) ** a
    N = off * best * np.tile(np.geomspace(0.25, 4.0, sizes), budgets)
    rng = np.random.default_rng(1)
    loss = 3 * (C / 1e18) ** -0.05 + 0.05 * np.log(N / best) ** 2
    loss *= np.exp(noise * rng.standard_normal(len(N)))
    return pd.DataFrame({"params": N, "tokens": C / (6 * N), "flops": C, "loss": loss})


def by_isoflop(table: pd.DataFrame, law: str = "chinchilla", bootstrap: int = 0) -> Codes:
    return codes(allocate(table, "isoflop", law=law, bootstrap=bootstrap))


def tokens_that_harm() -> pd.DataFrame:
    table = grid()
    loss = TRUTH.loss(table["params"], 1e12) * (1 + 0.01 * np.log(table["tokens"] / 1e9))
    return table.assign(loss=loss)


def with_a_lone_run() -> pd.DataFrame:
    lone = pd.DataFrame({"params": [1e8], "tokens": [1e12], "flops": [6e20], "loss": [2.0]})
    return pd.concat([isoflop(), lone], ignore_index=True)


@cache
def by_envelope() -> Codes:
    crossed = grid(np.geomspace(1e7, 1e10, 8), np.geomspace(1e8, 1e12, 25))
    return codes(allocate(crossed, "envelope", bootstrap=0))


def refitted(exponents: list[float]) -> Codes:
    """An allocation whose refits have these values of alpha."""
    fit = fitted("chinchilla")
    values = np.array(list(fit.law.coefficients().values()))
    refits = np.tile(values, (len(exponents), 1))
    refits[:, list(fit.law.coefficients()).index("alpha")] = exponents
    return codes(of_fit(replace(fit, replicates=refits)))


def with_experts(gain: float) -> Codes:
    """Every run with 1, 8 and 64 experts; each factor of 8 lowers the loss by `gain`."""
    table = pd.concat([grid(noise=1e-3).assign(experts=n) for n in (1, 8, 64)], ignore_index=True)
    table["loss"] *= table["experts"] ** (-gain / np.log(8))
    return codes(fit_law(table, "chinchilla", bootstrap=0, holdout="none"))


def twice(apart: float) -> Codes:
    """Two runs at every point, of which nothing says that their losses are `apart`."""
    table = pd.concat([grid(), grid().assign(loss=lambda table: table["loss"] * (1 + apart))])
    return codes(fit_law(table, "chinchilla", bootstrap=0, holdout="none"))


def optimum_of(law: Any) -> Codes:
    return codes(of_fit(replace(fitted("chinchilla"), law=law)))


def forecast_by(law: PowerFloor) -> Codes:
    return codes(forecast(replace(fitted("power-floor", True), law=law), params=np.array([1e12])))


def grouped(alpha: float) -> Codes:
    other = replace(TRUTH, alpha=alpha)
    tables = {
        "a": read_table(grid(noise=1e-3)),
        "b": read_table(grid(law=other, noise=1e-3)),
    }
    return codes(fit_groups(tables, "data", "chinchilla", fit_options()))


def fit_options() -> Any:
    return replace(fitted("chinchilla").options, bootstrap=0, holdout="none", diagnostics=False)


def drawn(message: str) -> Codes:
    with drawing_notes() as notes:
        warnings.warn(message, UserWarning, stacklevel=1)
    return codes(notes)


def read(**columns: Any) -> Codes:
    return codes(read_table(grid().assign(**columns)))


def steps() -> Codes:
    runs = pd.DataFrame({"run_id": ["r"], "params": [1e7], "tokens": [1e9], "loss": [3.0]})
    lr = {"step": range(1, 11), "tokens": range(100, 1100, 100), "lr": 0.01, "loss": 3.0}
    return codes(folder_steps(read_table(runs), runs, pd.DataFrame(lr).assign(run_id="r")))


def stood_for(column: str) -> Codes:
    """The notes of the law of transfer on a table with that column."""
    return codes(with_stand_ins(read_table(grid().assign(**{column: 5e5})), Transfer))


def planned(**more: Any) -> Codes:
    """The notes of a plan of one run, on the GPU of nobody."""
    job = SimpleNamespace(
        tokens=1000, epochs=1.0, unique_tokens=10**6, steps=1000, size="10k", recipe="r",
        batch_tokens=2048, shape=SimpleNamespace(params=1e4), finetuning=None,
    )  # fmt: skip
    recipe = SimpleNamespace(batch_tokens=2048, context=256, tuned_rule=None)
    recipe.batch_tokens = more.pop("batch_tokens", 2048)
    spec = SimpleNamespace(flops=(), per_budget=5, spread=4.0, optimum=20.0, variants={"r": recipe})
    vars(spec).update(more)
    run = SimpleNamespace(job=job, memory_bytes=1, finished=False)
    return codes(plan_notes([run], spec, 100, "cuda"))  # type: ignore[list-item, arg-type]


def held_out(asked: int) -> Codes:
    """What a sweep says that asks for so many tokens of a text that has 100."""
    store: Any = SimpleNamespace(validation_tokens=100, validation_parts={}, complete=True)
    note = held_out_note(asked, store)
    return codes([note] if note else [])


def swept(status: str) -> Codes:
    """What is said at the end of a sweep of one run that came to `status`."""
    run = SimpleNamespace(
        status=status, size="10k", tokens=1000, error="no disk", recipe=None, seed=0, retry_of=None,
        params=10_000, loss=3.0, loss_stderr=0.0, spike_height=None,
    )  # fmt: skip
    plan: Any = SimpleNamespace(notes=(), waiting=())
    folder, text = ResultsFolder(Path("here")), {"validation_tokens": 1000}
    result = SweepResult(folder, "here", plan, text, (run,))  # type: ignore[arg-type]
    return codes(result.end_notes)


def tuned(**more: Any) -> Codes:
    """What is concluded of one size whose search ended in this way."""
    search = SimpleNamespace(lr_bracketed=True, batch_bracketed=True, lr=None, batch=None)
    rung = SimpleNamespace(params=1e6, tokens=1e8, size="1M")
    one = SimpleNamespace(
        rung=rung, search=search, finished=True, loss=3.0, lr=0.01, best_batch_tokens=2048.0
    )
    for name, value in more.items():
        setattr(search if hasattr(search, name) else one, name, value)
    return codes(conclude([one], Recipe()))  # type: ignore[list-item]


def machine(**more: Any) -> Codes:
    """What will be slow on a machine that has all, but for `more`."""
    device = doctor.Device("cuda", "GPU", 1, 1, "9.0", "bfloat16", "", 1e15)
    report = doctor.Report(
        python="3", platform="", torch="2", torch_cuda="12", device=device,
        compile=doctor.Compile("works", "g++", "", 1.0), no_kernels=None, cores=16, threads=16,
        load=0.0, memory_bytes=2**40, memory_free_bytes=2**40,
        cache=doctor.Storage(Path(), 0, 2**40), data=(), packages={}, slow=(),
    )  # fmt: skip
    return codes(doctor._what_will_be_slow(replace(report, **more)))


CPU = doctor.Device("cpu", "a CPU", 1, 1, None, "float32", "", 1e10)
FULL = doctor.Storage(Path(), 0, 2**20)
CASES: dict[str, tuple[Callable[[], Codes], Callable[[], Codes]]] = {
    "mixed-token-budgets": (
        lambda: of_fit_of(grid(), "power"),
        lambda: of_fit_of(grid(budgets=BUDGETS[:1]), "power"),
    ),
    "narrow-range": (
        lambda: of_fit_of(grid(sizes=[1e8, 2e8, 4e8, 8e8]), "chinchilla"),
        lambda: of_fit_of(grid(), "chinchilla"),
    ),
    "term-at-zero": (
        lambda: of_fit_of(tokens_that_harm(), "over-training"),
        lambda: of_fit_of(grid(), "over-training"),
    ),
    "refits-not-settled": (
        lambda: of_fit_of(read_table(RESULTS), "power-floor", bootstrap=100),
        lambda: of_fit_of(grid(budgets=BUDGETS[:1]), "power"),
    ),
    "held-out-short": (lambda: held_out(900), lambda: held_out(100)),
    "mixed-settings": (lambda: with_experts(0.02), lambda: with_experts(0.0)),
    "repeats-differ": (lambda: twice(0.1), lambda: twice(0.005)),
    "exponents-differ": (lambda: grouped(0.25), lambda: grouped(TRUTH.alpha)),
    "loss-not-positive": (
        lambda: forecast_by(PowerFloor(E=-1.0, A=400.0, alpha=0.36)),
        lambda: forecast_by(PowerFloor(E=1.8, A=400.0, alpha=0.36)),
    ),
    "not-a-power-law": (
        lambda: optimum_of(Farseer(0.1, 0.1, -0.2, -0.1, 0.2, 2.0, 0.1, -0.3, 3.0)),
        lambda: optimum_of(TRUTH),
    ),
    "exponent-implausible": (lambda: by_isoflop(isoflop(a=-0.2)), lambda: by_isoflop(isoflop())),
    "refits-without-optimum": (
        lambda: refitted([0.36, np.nan, 0.37]),
        lambda: refitted([0.36, 0.35, 0.37]),
    ),
    "bias-unknown": (
        lambda: by_isoflop(isoflop(), law="data-constrained"),
        lambda: by_isoflop(isoflop()),
    ),
    "runs-without-budget": (lambda: by_isoflop(with_a_lone_run()), lambda: by_isoflop(isoflop())),
    "few-budgets": (lambda: by_isoflop(isoflop(budgets=2)), lambda: by_isoflop(isoflop())),
    "optimum-uncertain": (
        lambda: by_isoflop(isoflop(off=3.5, noise=0.02), bootstrap=50),
        lambda: by_isoflop(isoflop(noise=0.001), bootstrap=50),
    ),
    "envelope-sizes": (
        by_envelope,
        lambda: by_isoflop(isoflop()),
    ),
    "envelope-of-final-losses": (
        by_envelope,
        lambda: by_isoflop(isoflop()),
    ),
    "crowded-figure": (
        lambda: drawn("constrained_layout not applied because axes sizes collapsed to zero"),
        lambda: drawn("Glyph 20013 (\\N{CJK UNIFIED IDEOGRAPH-4E2D}) missing from font(s) X."),
    ),
    "missing-signs": (
        lambda: drawn("Glyph 20013 (\\N{CJK UNIFIED IDEOGRAPH-4E2D}) missing from font(s) X."),
        lambda: drawn("constrained_layout not applied because axes sizes collapsed to zero"),
    ),
    "tokens-a-parameter": (
        lambda: read(tokens=lambda table: 5e4 * table["params"]),
        lambda: read(),
    ),
    "flops-from-tokens": (
        lambda: codes(read_table(grid().drop(columns="params").assign(flops_per_token=6e8))),
        lambda: read(),
    ),
    "stands-for": (lambda: stood_for("task_tokens"), lambda: stood_for("seed")),
    "loss-too-low": (lambda: read(loss=lambda table: 0.15 * table["loss"]), lambda: read()),
    "rows-are-steps": (steps, lambda: read()),
    "isoflop-grid": (lambda: planned(flops=(1e15,)), planned),
    "batch-rounded": (lambda: planned(batch_tokens=2000), planned),
    "failed-runs": (lambda: swept("failed"), lambda: swept("done")),
    "lr-at-edge": (lambda: tuned(lr_bracketed=False), tuned),
    "batch-at-edge": (lambda: tuned(batch_bracketed=False), tuned),
    "all-diverged": (lambda: tuned(loss=float("inf")), tuned),
    "unfinished": (lambda: tuned(finished=False), tuned),
    "no-gpu": (lambda: machine(device=CPU), machine),
    "no-cuda": (lambda: machine(torch_cuda=None), machine),
    "no-bfloat16": (lambda: machine(device=replace(CPU, kind="old")), machine),
    "few-cores": (lambda: machine(cores=2, threads=2), machine),
    "few-threads": (lambda: machine(threads=1), machine),
    "busy": (lambda: machine(load=16.0), machine),
    "little-memory": (lambda: machine(memory_free_bytes=2**20), machine),
    "little-disk": (lambda: machine(cache=FULL), machine),
}


@pytest.mark.parametrize("code", CASES)
def test_a_note_is_raised_by_what_deserves_it_and_by_nothing_else(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmscale.measure.doctor.shutil.which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr("llmscale.measure.doctor.machine.has_bfloat16", lambda kind: kind != "old")
    raised, calm = CASES[code]
    assert code in raised()
    assert code not in calm()


def test_every_code_is_raised_in_some_test() -> None:
    here = Path(__file__)
    others = "".join(
        path.read_text(encoding="utf-8") for path in here.parent.rglob("test_*.py") if path != here
    )
    untested = {code for code in CATALOGUE if f'"{code}"' not in others} - set(CASES)
    assert not untested, untested
