"""Do warnings earn their place? Faults that people's tables have, planted in clean and in public
tables: how many are found, how often a clean table is warned of, and what warnings of public tables
say of the forecasts made there.

    .venv/bin/python experiments/planted_faults.py PART PUBLISHED [MORE]

PART is seen (the tables that limits were chosen on) or kept (those that they were not). PUBLISHED
is a folder of public tables, MORE one of tables that others collected. Chinchilla is fitted. A
fault is found if a note that would lead people to it is raised, or the table refused, and neither
was without the fault; news do not count. It matters if the loss at three times the largest N and D
moves by 0.5% or more. Writes results/planted-faults/PART.json, and README.md from both parts."""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from planted.faults import FAULTS, REFUSED
from planted.tables import Base, public, simulated

from llmscale.errors import LlmscaleError
from llmscale.explain.fit import Fit, fit_law
from llmscale.explain.fit.backtest import budgets
from llmscale.explain.forecast.asked import forecast_at
from llmscale.notes import Weight, weight_of

RESULTS = Path(__file__).resolve().parents[1] / "results" / "planted-faults"
SIMULATED, CLEAN = 6, 40
"""Simulated tables that faults are planted in, and that only false alarms are counted on."""
SEEDS = {"seen": (0, 2), "kept": (5, 7)}
AHEAD, MATTERS = 3.0, 0.005
ORIGINS, HORIZON = 4, 15.0
"""Origins of each public table, and how many times beyond the runs forecasts are judged."""
OF_DESIGN = ("floor-uncertain", "floor-at-zero", "few-sizes", "narrow-range", "collinear-design")
"""What a right table may be too small to tell: true of it, and no alarm."""


def main(part: str, published: str, more: str | None = None) -> None:
    folder = Path(more) if more else None
    tables = [base for base in public(Path(published), folder) if base.seen == (part == "seen")]
    planted, clean = SEEDS[part]
    cases = []
    for number, base in enumerate([*simulated(SIMULATED, planted), *tables]):
        cases += _plant_all(base, number)
        print(f"{number + 1}: {base.name}", file=sys.stderr, flush=True)
    payload = {
        "cases": cases,
        "clean": [_alarms(base) for base in simulated(CLEAN, clean)],
        "public": [_alarms(base) for base in tables],
        "origins": [row for base in tables for row in _origins(base)],
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    text = json.dumps(payload, indent=1) + "\n"
    (RESULTS / f"{part}.json").write_text(text, encoding="utf-8")
    (RESULTS / "README.md").write_text(report(), encoding="utf-8")


def _fitted(frame: pd.DataFrame, holdout: str = "largest") -> Fit | None:
    try:
        return fit_law(frame, "chinchilla", bootstrap=50, holdout=holdout)
    except LlmscaleError:
        return None


def _codes(fit: Fit | None) -> set[str]:
    if fit is None:
        return {REFUSED}
    return {note.code for note in fit.notes if weight_of(note) > Weight.NEWS}


def _plant_all(base: Base, number: int) -> list[dict[str, Any]]:
    """Every fault in one table."""
    whole = _fitted(base.frame, "none")
    before, cases = _codes(whole), []
    for index, fault in enumerate(FAULTS.values()):
        frame = fault.plant(base, np.random.default_rng([7, number, index]))
        if frame is None:
            continue
        fit = _fitted(frame, "none")
        after = _codes(fit)
        cases.append(
            {
                "table": base.name,
                "real": base.real,
                "fault": fault.name,
                "group": fault.group,
                "found": bool((after - before) & fault.leads),
                "known": bool(before & fault.leads),
                "codes": sorted(after),
                "moved": _moved(whole, fit, base.frame),
            }
        )
    return cases


def _moved(whole: Fit | None, fit: Fit | None, frame: pd.DataFrame) -> float | None:
    """How far the loss ahead moves, in ln; None if either was refused."""
    if whole is None or fit is None:
        return None
    at = {name: [AHEAD * float(frame[name].max())] for name in ("params", "tokens")}
    with np.errstate(all="ignore"):
        moved = float(np.log(fit.loss(**at) / whole.loss(**at))[0])
    return moved if np.isfinite(moved) else None


def _alarms(base: Base) -> dict[str, Any]:
    codes = _codes(_fitted(base.frame))
    return {"table": base.name, "family": base.family, "codes": sorted(codes)}


def _origins(base: Base) -> list[dict[str, Any]]:
    """From each origin of a public table: what is warned of, and how forecasts err ahead."""
    frame = base.frame.assign(flops=6 * base.frame["params"] * base.frame["tokens"])
    frame["run_id"] = [f"row {row}" for row in range(len(frame))]
    budget, rows = budgets(frame, ("params", "tokens")), []
    places = np.linspace(0.3, 0.95, ORIGINS) * int(budget.max())
    for origin in np.unique(places.round().astype(int)):
        behind, ahead = base.frame[budget <= origin], frame[budget > origin]
        near = ahead["flops"] < HORIZON * frame["flops"][budget <= origin].max()
        fit = _fitted(behind.reset_index(drop=True))
        if fit is None or not near.any():
            continue
        told = forecast_at(fit, N=ahead["params"][near], D=ahead["tokens"][near])
        off = np.abs(np.log(ahead["loss"][near].to_numpy(dtype=float) / told.loss))
        width = float(np.median(np.log(told.high / told.low)))
        rows.append(
            {
                "table": base.name,
                "family": base.family,
                "runs": len(behind),
                "codes": sorted(_codes(fit)),
                "error": float(off.mean()),
                "of_width": float(off.mean()) / width,
            }
        )
    return rows


def report() -> str:
    """Both parts, as far as they were made."""
    lines = ["# Planted faults", "", "Made by experiments/planted_faults.py, which says how.", ""]
    parts = {
        part: json.loads((RESULTS / f"{part}.json").read_text(encoding="utf-8"))
        for part in SEEDS
        if (RESULTS / f"{part}.json").exists()
    }
    for part, found in parts.items():
        chosen = "that limits were chosen on" if part == "seen" else "that limits were not seen on"
        lines += [f"## Tables {chosen}", "", *_summary(found), "", *_by_fault(found["cases"]), ""]
        lines += [*_worth(found["origins"]), ""]
    return "\n".join(lines)


def _summary(found: dict[str, Any]) -> list[str]:
    cases = [case for case in found["cases"] if not case["known"]]
    matter = [case for case in cases if _matters(case)]
    lines = []
    for what, chosen in (("all", cases), ("that matter", matter)):
        for where, real in (("simulated", False), ("public", True)):
            of = [case["found"] for case in chosen if case["real"] is real]
            lines.append(
                f"- faults in {where} tables, {what}: {np.mean(of):.0%} of {len(of)} found"
            )
    for where in ("clean", "public"):
        codes = [set(one["codes"]) for one in found[where]]
        alarms = [bool(one - set(OF_DESIGN)) for one in codes]
        lines.append(
            f"- {'clean simulated' if where == 'clean' else 'public'} tables with a warning: "
            f"{np.mean(alarms):.0%} of {len(codes)} (with what a design cannot tell "
            f"({', '.join(OF_DESIGN)}): {np.mean([bool(one) for one in codes]):.0%})"
        )
    return lines


def _matters(case: dict[str, Any]) -> bool:
    return case["moved"] is None or abs(case["moved"]) >= MATTERS


def _by_fault(cases: list[dict[str, Any]]) -> list[str]:
    by: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for case in cases:
        if not case["known"]:
            by[case["fault"]].append(case)
    lines = ["| fault | found | if it matters | forecast moves by |", "| --- | --- | --- | --- |"]
    for name, of in by.items():
        matter = [case["found"] for case in of if _matters(case)]
        moved = [abs(case["moved"]) for case in of if case["moved"] is not None]
        share = f"{np.mean(matter):.0%} of {len(matter)}" if matter else ""
        typical = f"{np.median(moved):.1%}" if moved else "refused"
        found = f"{np.mean([case['found'] for case in of]):.0%} of {len(of)}"
        lines.append(f"| {name} | {found} | {share} | {typical} |")
    return lines


def _worth(origins: list[dict[str, Any]]) -> list[str]:
    """What each warning of public tables says of the forecasts made there."""
    frame = pd.DataFrame(origins)
    codes = sorted({code for row in origins for code in row["codes"]})
    lines = [
        "Forecasts up to 15x ahead from origins of public tables, with each warning and without: "
        "median of the mean error, and of the error over the interval's width.",
        "",
        "| warning | raised | error with | without | over the width | without |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for code in codes:
        has = frame["codes"].map(lambda of, code=code: code in of)
        cells = [
            f"{frame[name][rows].median():.{digits}%}"
            for name, digits in (("error", 2), ("of_width", 0))
            for rows in (has, ~has)
        ]
        lines.append(f"| {code} | {has.mean():.0%} of {len(has)} | {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main(*sys.argv[1:])
