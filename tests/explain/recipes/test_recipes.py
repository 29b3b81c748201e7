"""Compute multipliers of simulated recipes, whose truth is known, and recipes that do not
compare."""

import math
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import llmscale
from llmscale import InputError, RecipeComparison
from llmscale.explain.recipes import posterior
from llmscale.explain.recipes.gate import Gate

TOP = 1e20
SIZES = np.geomspace(1e7, 3e8, 6)


def ladder(
    k: float = 1.0,
    *,
    exponent: float = 0.15,
    noise: float = 0.002,
    common: float = 0.0,
    seeds: int = 2,
    seed: int = 0,
    sizes: Any = SIZES,
    floor: float = 1.6,
    **columns: Any,
) -> pd.DataFrame:
    """Runs with 20 tokens a parameter of a recipe that takes k times the compute at TOP; tables of
    one `seed` have a share of the noise in `common`."""
    N = np.repeat(sizes, seeds)
    C = 120.0 * N**2
    at_top = 0.8 * (TOP / C.max()) ** -0.15
    loss = floor + at_top * (C / (k * C.max())) ** -exponent
    one, own = np.random.default_rng(seed), np.random.default_rng([seed, round(1000 * k)])
    shared = math.sqrt(common) * one.standard_normal(len(N))
    loss = loss * np.exp(noise * (shared + math.sqrt(1 - common) * own.standard_normal(len(N))))
    runs = {"params": N, "tokens": 20.0 * N, "flops": C, "loss": loss}
    return pd.DataFrame({**runs, "seed": np.arange(len(N)) % seeds, **columns})


def grid(
    k: float = 1.0, *, noise: float = 0.002, seed: int = 0, of_tokens: float = 1800.0
) -> pd.DataFrame:
    """Runs of several tokens at each size; both terms of the law fall as if compute were C/k."""
    N, D = (axis.ravel() for axis in np.meshgrid(SIZES, np.geomspace(2e8, 6e9, 4)))
    loss = 1.7 + 400.0 * (N / math.sqrt(k)) ** -0.34 + of_tokens * (D / math.sqrt(k)) ** -0.34
    noisy = loss * np.exp(noise * np.random.default_rng(seed).standard_normal(len(N)))
    return pd.DataFrame({"params": N, "tokens": D, "loss": noisy})


@cache
def known() -> RecipeComparison:
    """adamw, and muon that needs 0.7 of its compute at all scales; pairs share most noise."""
    tables = {"adamw": ladder(common=0.9), "muon": ladder(0.7, common=0.9)}
    return llmscale.compare(tables, at=[1e22, 1e23], fail_below=1.0)


def test_the_multiplier_of_a_simulated_recipe_is_in_its_interval() -> None:
    for one in known().multipliers:
        assert one.low < 0.7 < one.high
        assert 1 / one.saving == pytest.approx(one.value)
    today, far = known().at()[0], known().at(1e23)[0]
    assert today.high / today.low < 1.1
    assert math.log(far.high / far.low) > 2 * math.log(today.high / today.low)
    assert "muon needs 0.7" in known().sentences[0]
    assert known().today == pytest.approx(120 * SIZES[-1] ** 2)


def test_with_the_multiplier_of_its_compute_a_recipe_reaches_the_loss_of_the_baseline() -> None:
    log_C = np.log([known().today, 1e23])
    frontiers = known().frontiers
    log_k = frontiers.log_multiplier(1, 0, log_C)
    for place in range(2):
        baseline = frontiers.loss(log_C)[:, 0, place]
        for draw in (0, 100, 1000):
            needed = frontiers.loss(log_C[[place]] + log_k[draw, place])[draw, 1, 0]
            assert needed == pytest.approx(baseline[draw], rel=1e-9)


def test_the_other_way_round_the_multiplier_is_the_saving() -> None:
    tables = {"muon": ladder(0.7, common=0.9), "adamw": ladder(common=0.9)}
    turned = llmscale.compare(tables).at()[0]
    straight = known().at()[0]
    assert turned.value == pytest.approx(straight.saving, rel=0.01)
    assert turned.low == pytest.approx(straight.saving_interval[0], rel=0.02)


def test_a_multiplier_that_changes_with_scale_is_followed_and_the_crossing_found() -> None:
    tables = {"a": ladder(noise=0.0005), "b": ladder(0.9, exponent=0.12, noise=0.0005, seed=1)}
    found = llmscale.compare(tables, at=1e21)
    for one in found.multipliers:
        truth = math.log(0.9) + math.log(one.flops / found.today) * (0.15 / 0.12 - 1)
        assert one.low < math.exp(truth) < one.high
    crossing = found.crossings[0]
    truth = found.today * 0.9 ** (1 / (1 - 0.15 / 0.12))
    assert crossing.low < truth < crossing.high
    assert crossing.shown.startswith("the laws cross at")
    assert found.shared["alpha"] < 0.2


def test_pairs_of_one_seed_narrow_the_interval() -> None:
    unpaired = ladder(0.7, common=0.9)
    unpaired["seed"] += 10
    unpaired["tokens"] *= 1.02
    unpaired["flops"] *= 1.02
    apart = llmscale.compare({"adamw": ladder(common=0.9), "muon": unpaired})
    assert "runs-unpaired" in {note.code for note in apart.notes}
    assert known().pairing.startswith("12 pairs of one size, tokens and seed share")
    widths = [math.log(one.at()[0].high / one.at()[0].low) for one in (known(), apart)]
    assert widths[0] < 0.7 * widths[1]
    assert known().paired_share > 0.6


def test_rows_that_are_there_twice_change_nothing_and_are_told() -> None:
    pair = {"adamw": ladder(seeds=1), "muon": ladder(0.7, seeds=1)}
    once = llmscale.compare(pair)
    twice = llmscale.compare({name: pd.concat([runs] * 2) for name, runs in pair.items()})
    assert twice.multipliers == once.multipliers
    (note,) = (note for note in twice.notes if note.code == "runs-repeated")
    assert note.message.startswith("12 rows repeat a run of the same recipe")


def test_in_n_and_d_recipes_are_compared_at_the_best_split_of_each_budget() -> None:
    found = llmscale.compare({"a": grid(), "b": grid(0.6, seed=1)}, at=1e22)
    assert found.joined.law == "chinchilla"
    for one in found.multipliers:
        assert one.low < 0.6 < one.high < 1


def test_of_several_recipes_the_best_is_ranked_first_with_its_chance() -> None:
    tables = {"a": ladder(), "b": ladder(0.8, seed=1), "c": ladder(0.6, seed=2)}
    found = llmscale.compare(tables, baseline="b")
    assert found.names == ("b", "a", "c")
    ranked = found.at()
    assert [one.recipe for one in ranked] == ["c", "a"]
    assert ranked[0].low < 0.75 < ranked[0].high
    assert ranked[0].best > 0.99
    assert sum(found.best_chance(name) for name in found.names) == pytest.approx(1.0)


def test_what_no_law_of_compute_explains_is_noise_that_recipes_share() -> None:
    """Of a grid of sizes and tokens a law of compute misses by per cents, alike in all recipes: a
    law of nothing, whose misses are all one, is no explanation of that."""
    tables = {name: grid(k, seed=place) for place, (name, k) in enumerate(GRIDS.items())}
    found = llmscale.compare(tables, law="power-floor")
    assert 0.9 < found.paired_share < 0.9999
    for one in found.multipliers:
        assert one.low < GRIDS[one.recipe] < one.high
        assert one.high / one.low < 1.2
    assert not found.notes


GRIDS = {"a": 1.0, "b": 0.8, "c": 0.6}


def test_a_run_with_a_spike_is_named_and_moves_the_multiplier_little() -> None:
    runs = ladder(0.7, common=0.9).assign(run_id=[f"run{place}" for place in range(12)])
    runs.loc[7, "loss"] *= 1.03
    found = llmscale.compare({"adamw": ladder(common=0.9), "muon": runs})
    (note,) = (note for note in found.notes if note.code == "run-off-law")
    (off,) = re.findall(r"1 run is off the law .* counted less: muon run7 \(\+(.*?)%", note.message)
    assert float(off) == pytest.approx(3.0, abs=0.4)
    assert found.at()[0].value == pytest.approx(known().at()[0].value, rel=0.02)
    assert "run-off-law" not in {note.code for note in known().notes}


def test_the_baseline_of_one_table_is_the_default_or_the_recipe_of_the_first_run() -> None:
    runs = _one_table("recipe")
    assert "baseline: a, the recipe of the first run" in str(llmscale.compare(runs, by="recipe"))
    runs["recipe"] = runs["recipe"].replace({"b": "default"})
    assert "baseline: default, by its name" in str(llmscale.compare(runs, by="recipe"))
    named = llmscale.compare(runs, by="recipe", baseline="a")
    assert named.baseline == "a"
    assert "baseline:" not in str(named)


def test_runs_that_tell_nothing_far_out_include_one_there() -> None:
    few = SIZES[[2, 3, 4, 5]]
    tables = {"a": ladder(sizes=few, noise=0.01), "b": ladder(0.8, sizes=few, noise=0.01, seed=3)}
    found = llmscale.compare(tables, at=1e24)
    assert found.at(1e24)[0].includes_one
    assert "the interval includes 1" in found.sentences[0]
    assert "multiplier-far" in {note.code for note in found.notes}


def test_a_floor_that_is_known_makes_the_far_interval_narrower() -> None:
    tables = {"a": ladder(), "b": ladder(0.7, seed=1)}
    told = llmscale.compare(tables, at=1e22, floor=1.6).at(1e22)[0]
    untold = llmscale.compare(tables, at=1e22).at(1e22)[0]
    assert told.low < 0.7 < told.high
    assert told.high / told.low < untold.high / untold.low


@pytest.mark.parametrize(("least", "outcome"), [(1.0, "pass"), (1.43, "undecided"), (2.0, "fail")])
def test_a_gate_is_open_only_to_a_saving_that_is_shown(least: float, outcome: str) -> None:
    strict, lenient = (Gate(known().at()[0], least, allowed) for allowed in (False, True))
    assert strict.outcome == lenient.outcome == outcome
    assert strict.passed == (outcome == "pass")
    assert lenient.passed == (outcome != "fail")
    assert strict.sentence.startswith(f"{outcome}: muon saves 1.4")
    assert known().gates[0].multiplier.flops == 1e23  # the largest that was asked for


def _two(**columns: Any) -> dict[str, pd.DataFrame]:
    """Two recipes with these columns, each a pair of values."""
    first, second = ladder(), ladder(0.8, seed=1)
    for name, (one, other) in columns.items():
        first[name], second[name] = one, other
    return {"a": first, "b": second}


def _one_table(column: str, **columns: Any) -> pd.DataFrame:
    """Both recipes in one table, told apart by a column."""
    tables = _two(**columns)
    return pd.concat([table.assign(**{column: name}) for name, table in tables.items()])


def _counted(*factors: Any) -> dict[str, pd.DataFrame]:
    """One recipe twice, its FLOPs counted as these times 6ND; None gives no FLOPs."""
    tables = {}
    for place, factor in enumerate(factors):
        table = ladder(seed=place)
        if factor is None:
            table = table.drop(columns="flops")
        else:
            table["flops"] *= factor
        tables["ab"[place]] = table
    return tables


_DRIFT = np.geomspace(2.5, 0.4, len(SIZES)).repeat(2)
_SCATTER = 10.0 ** np.random.default_rng(1).uniform(-0.5, 0.5, 2 * len(SIZES))


@pytest.mark.parametrize("reading", [{}, {"columns": "flops=none"}])
def test_flops_counted_in_two_ways_are_no_difference_of_recipes(reading: dict[str, Any]) -> None:
    tables = _counted(1.33, 1 if reading else None)
    found = llmscale.compare(tables, **reading)
    assert found.multipliers[0].low < 1 < found.multipliers[0].high
    codes = {note.code for note in found.notes}
    assert codes == (set() if reading else {"compared-by-6nd"})


NOTES: dict[str, Callable[[], RecipeComparison]] = {
    "in-bits-per-byte": lambda: llmscale.compare(
        _two(vocab_size=(1000, 2000), bits_per_byte=(ladder()["loss"] / 3, ladder()["loss"] / 3.1))
    ),
    "compared-by-6nd": lambda: llmscale.compare(_counted(1.33, None)),
    "flops-counts-differ": lambda: llmscale.compare(_counted(1.33, 1)),
    "texts-differ": lambda: llmscale.compare(_one_table("data"), by="data"),
    "ladders-differ": lambda: llmscale.compare({"a": ladder(), "b": _with_more_tokens()}),
    "recipes-differ-too": lambda: llmscale.compare(
        _one_table("optimizer", schedule=("wsd", "cosine")), by="optimizer"
    ),
    "rates-not-tuned": lambda: llmscale.compare(
        _one_table("optimizer", lr=(0.003, 0.003)), by="optimizer"
    ),
    "split-outside-runs": lambda: llmscale.compare(
        {"a": grid(), "b": grid(of_tokens=5000.0, seed=1)}
    ),
    "rates-as-repeats": lambda: llmscale.compare(_two(lr=(np.tile([1e-3, 3e-3], 6), 1e-3))),
}


def _with_more_tokens() -> pd.DataFrame:
    table = ladder(0.8, seed=1)
    return table.assign(params=table["params"] / 2, tokens=table["tokens"] * 2)


def _steps() -> pd.DataFrame:
    """The checkpoints of three runs."""
    rows = ladder(seeds=3).assign(step=np.repeat(np.arange(6), 3))
    rows["run_id"], rows["params"] = np.tile(["a", "b", "c"], 6), np.tile([1e7, 3e7, 1e8], 6)
    return rows.drop(columns=["seed", "flops"])


@pytest.mark.parametrize("code", NOTES)
def test_what_makes_recipes_differ_besides_is_said(code: str) -> None:
    assert code in {note.code for note in NOTES[code]().notes}
    plain = _two(lr=(1e-3, 2e-3), optimizer=("adamw", "muon"))
    if code == "rates-not-tuned":
        assert not llmscale.compare(plain).notes


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "one table": (lambda: [ladder()], "takes two recipes"),
    "one value": (lambda: ([ladder(data="c4")], {"by": "data"}), "one recipe only"),
    "no such column": (lambda: ([ladder()], {"by": "recipe"}), "no column 'recipe'"),
    "by of two tables": (lambda: ([_two()], {"by": "seed"}), "2 are given"),
    "no such baseline": (lambda: ([_two()], {"baseline": "c"}), "no recipe 'c'"),
    "one run": (lambda: [{"a": ladder(), "b": ladder().head(1)}], "b has 1 run of one budget"),
    "few budgets": (
        lambda: [{"a": ladder(sizes=SIZES[:2]), "b": ladder(sizes=SIZES[:2])}],
        "a curve takes 3",
    ),
    "no compute": (
        lambda: [{"a": ladder(), "b": ladder()[["params", "loss"]]}],
        "b has runs without compute",
    ),
    "no overlap": (
        lambda: [{"a": ladder(sizes=SIZES[:3]), "b": ladder(sizes=SIZES[3:])}],
        "nothing was measured at equal compute",
    ),
    "other texts": (lambda: [_two(data_fingerprint=("aa", "bb"))], "other texts"),
    "other validation": (lambda: [_two(val_set=("c4", "pile"))], "measured on other texts"),
    "other tokenizers": (lambda: [_two(vocab_size=(1000, 2000))], "do not compare"),
    "bits per byte of one": (
        lambda: ([_two()], {"metric": "bits_per_byte"}),
        "a and b has no bits_per_byte",
    ),
    "floor above": (lambda: ([_two()], {"floor": 3.0}), "the floor is 3"),
    "no surface": (lambda: ([_two()], {"law": "chinchilla"}), "a tells no law in N and D"),
    "far below": (lambda: ([_two()], {"at": 1e9}), "far below the smallest run"),
    "no budget": (lambda: ([_two()], {"at": "much"}), "at"),
    "steps": (
        lambda: [{"a": ladder(), "b": _steps()}],
        "rows are steps of runs",
    ),
    "flops that drift": (
        lambda: [_counted(1, _DRIFT)],
        "a from 1 to 1, b from 2.5 to 0.4",
    ),
    "flops that scatter": (
        lambda: [_counted(1, _SCATTER)],
        "other times in runs of like sizes",
    ),
    "flops of active experts": (lambda: [_counted(0.2, None)], "two counts, which do not compare"),
    "other counts": (
        lambda: [{"a": ladder(), "b": ladder().rename(columns={"params": "params_total"})}],
        "which are not one size",
    ),
    "no figure": (lambda: ([_two()], {"output": "figure.doc"}), "cannot draw"),
}


@pytest.mark.parametrize("case", BAD)
def test_recipes_that_do_not_compare_are_refused_with_the_reason(case: str) -> None:
    make, said = BAD[case]
    given = make()
    sources, keywords = given if isinstance(given, tuple) else (given, {})
    with pytest.raises(InputError, match=said) as caught:
        llmscale.compare(*sources, **keywords)
    assert caught.value.fix


def test_recipes_are_named_by_their_folders_or_files_or_as_they_are_told(tmp_path: Path) -> None:
    paths = []
    for folder, k in (("one", 1.0), ("two", 0.7)):
        paths.append(tmp_path / folder / "runs.csv")
        paths[-1].parent.mkdir()
        ladder(k).to_csv(paths[-1], index=False)
    assert llmscale.compare(*paths).names == ("one", "two")
    found = llmscale.compare(f"first={paths[0]}", ("second", paths[1]))
    assert found.names == ("first", "second")
    with pytest.raises(InputError, match="two recipes are named one"):
        llmscale.compare(paths[0], str(paths[0]))


def test_more_recipes_than_a_table_holds_are_refused() -> None:
    many = pd.concat([ladder(recipe=f"r{number}") for number in range(13)])
    with pytest.raises(InputError, match="12 recipes are compared at most"):
        llmscale.compare(many, by="recipe")


def test_the_figure_shows_laws_and_multipliers(tmp_path: Path) -> None:
    tables = {"adamw": ladder(common=0.9), "mu_on $5": ladder(0.7, common=0.9)}
    found = llmscale.compare(tables, output=tmp_path / "compare.png", title="Two recipes")
    assert found.path is not None
    assert found.path.read_bytes().startswith(b"\x89PNG")


def test_a_notebook_and_print_show_the_same_multipliers() -> None:
    found = known()
    shown = found.at()[0].shown
    assert shown in str(found)
    assert shown in found._repr_html_()
    assert found.to_json()["multipliers"][0]["multiplier"] == found.at()[0].value


def test_draws_that_have_not_settled_are_said_to_move(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_BURN_IN", "_BURN_IN_PER_COORDINATE", "_STEPS_PER_COORDINATE"):
        monkeypatch.setattr(posterior, name, 0)
    monkeypatch.setattr(posterior, "_STEPS", 12)
    monkeypatch.setattr(posterior, "_THIN", 1)
    assert "comparison-not-settled" in {note.code for note in llmscale.compare(_two()).notes}


def test_the_page_on_comparing_and_the_readme_show_what_compare_says(repository: Path) -> None:
    of_text: dict[str, Any] = {"by": "text", "baseline": "dirty", "at": 3e13}
    found = llmscale.compare(
        repository / "results" / "cleaning", columns={"loss": "loss_held_out"}, **of_text
    )
    # Draws follow the last bit of sums, which machines differ in: ends move by a few per cent.
    page = (repository / "docs" / "comparing.md").read_text("utf-8")
    (shown,) = re.findall(r"compare: (cleaned needs .*)", page)
    assert numbers(shown) == pytest.approx(numbers(found.sentences[0]), rel=0.05)
    readme = (repository / "README.md").read_text("utf-8")
    (shown,) = re.findall(r"saves (.*)x the compute, 90% interval (.*) to (.*?) \|", readme)
    cleaned = found.at()[0]
    measured = (cleaned.saving, *cleaned.saving_interval)
    assert [float(one) for one in shown] == pytest.approx(measured, rel=0.05)


def numbers(text: str) -> list[float]:
    return [float(one) for one in re.findall(r"[\d.]+(?:e[+-]\d+)?", text)]


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_promise() -> None:
    """A slice of experiments/multipliers.py: 40 pairs with a constant multiplier or a changing
    one. Of 90% intervals 80% to 100% of so few may hold it (binomial, 99%)."""
    held = []
    for number in range(40):
        exponent = 0.15 if number % 2 else 0.13
        noise = (0.001, 0.003, 0.008)[number % 3]
        first = ladder(noise=noise, common=0.5, seed=number)
        second = ladder(0.8, exponent=exponent, noise=noise, common=0.5, seed=number)
        found = llmscale.compare({"a": first, "b": second}, at=1e21)
        for one in found.multipliers:
            log_k = math.log(0.8) + math.log(one.flops / found.today) * (0.15 / exponent - 1)
            held.append(one.low < math.exp(log_k) < one.high)
    assert np.mean(held[0::2]) >= 0.8
    assert np.mean(held[1::2]) >= 0.8
