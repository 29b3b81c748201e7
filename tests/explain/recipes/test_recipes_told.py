"""What recipes must have alike, what is told of how they differ, and what is refused."""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from recipes import SIZES, grid, ladder, one_table, two

import llmscale
from llmscale import InputError, RecipeComparison

NOTES: dict[str, Callable[[], RecipeComparison]] = {
    "in-bits-per-byte": lambda: llmscale.compare(
        two(vocab_size=(1000, 2000), bits_per_byte=(ladder()["loss"] / 3, ladder()["loss"] / 3.1))
    ),
    "texts-differ": lambda: llmscale.compare(one_table("data"), by="data"),
    "ladders-differ": lambda: llmscale.compare({"a": ladder(), "b": _with_more_tokens()}),
    "recipes-differ-too": lambda: llmscale.compare(
        one_table("optimizer", schedule=("wsd", "cosine")), by="optimizer"
    ),
    "rates-not-tuned": lambda: llmscale.compare(
        one_table("optimizer", lr=(0.003, 0.003)), by="optimizer"
    ),
    "split-outside-runs": lambda: llmscale.compare(
        {"a": grid(), "b": grid(of_tokens=5000.0, seed=1)}
    ),
    "settings-as-repeats": lambda: llmscale.compare(two(schedule=(["wsd", "cosine"] * 6, "wsd"))),
    "flops-differ": lambda: llmscale.compare(
        {"a": ladder(), "b": ladder(0.8, seed=1).assign(flops=lambda runs: 2 * runs["flops"])}
    ),
    "runs-the-same": lambda: llmscale.compare({"a": ladder(), "b": ladder()}),
    "floor-misses": lambda: llmscale.compare({"a": ladder(), "b": ladder(0.5, seed=1)}, floor=0),
    "largest-runs-missed": lambda: llmscale.compare({"a": ladder(), "b": _with_lower_largest()}),
    "losses-far-apart": lambda: llmscale.compare(_with_loss(1.2 * ladder()["loss"])),
    "rates-as-repeats": lambda: llmscale.compare(two(lr=(np.tile([1e-3, 3e-3], 6), 1e-3))),
}


def _with_more_tokens() -> pd.DataFrame:
    table = ladder(0.8, seed=1)
    return table.assign(params=table["params"] / 2, tokens=table["tokens"] * 2)


def _with_lower_largest() -> pd.DataFrame:
    """Both runs of the largest size 6% below what the others say."""
    table = ladder(0.8, seed=1)
    table.loc[table["params"] == SIZES[-1], "loss"] *= 0.94
    return table


def _steps() -> pd.DataFrame:
    """The checkpoints of three runs."""
    rows = ladder(seeds=3).assign(step=np.repeat(np.arange(6), 3))
    rows["run_id"], rows["params"] = np.tile(["a", "b", "c"], 6), np.tile([1e7, 3e7, 1e8], 6)
    return rows.drop(columns=["seed", "flops"])


@pytest.mark.parametrize("code", NOTES)
def test_what_makes_recipes_differ_besides_is_said(code: str) -> None:
    said = {note.code: note.message for note in NOTES[code]().notes}
    assert code in said
    if code == "texts-differ":
        assert said[code].startswith("recipes differ in data (a, b): ")  # each named once
    plain = two(lr=(1e-3, 2e-3), optimizer=("adamw", "muon"))
    if code == "rates-not-tuned":
        assert not llmscale.compare(plain).notes


@pytest.mark.parametrize(
    "name", ["batch_size", "seq_len", "warmup_steps", "weight_decay", "steps", "dropout", "dtype"]
)
def test_a_setting_besides_the_recipe_is_told_and_doubted(name: str) -> None:
    found = llmscale.compare(one_table("optimizer", **{name: (16, 64)}), by="optimizer")
    (one,) = found.settings
    assert (one.name, one.values) == (name, {"a": ("16",), "b": ("64",)})
    assert f"settings: recipes differ besides optimizer in {name} (a 16, b 64)" in str(found)
    assert "recipes-differ-too" in {note.code for note in found.notes}


def test_a_setting_that_only_some_recipes_give_is_told() -> None:
    first = ladder(batch_size=16, seq_len=512, lr=0.01)
    tables = {"a": first, "b": ladder(0.8, seed=1, batch_tokens=2**15, context=512)}
    some = "not all recipes give batch_size (a 16), lr (a 0.01) and batch_tokens (b 32768)"
    found = llmscale.compare(tables)
    assert found.setting == f"recipes differ in none that all give; {some}"
    # In the other's words a setting is the same one.
    tables["b"] = tables["b"].assign(batch_tokens=16 * 512, learning_rate=0.02)
    found = llmscale.compare(tables)
    assert found.setting == "recipes differ in lr (a 0.01, b 0.02)"


def test_tables_without_settings_are_said_to_be_taken_for_alike() -> None:
    equal = "text, tokenizer, batch size and learning rates are taken to be equal"
    assert llmscale.compare(two()).setting == f"the tables give none: {equal}"
    found = llmscale.compare(one_table("recipe"), by="recipe")
    assert found.setting == f"the tables give none but recipe: {equal}"
    assert llmscale.compare(two(lr=(0.01, 0.01))).setting == "recipes differ in none"


def test_settings_that_go_with_the_size_are_no_difference_of_recipes() -> None:
    width = np.repeat(np.arange(1, 7) * 64, 2)
    tables = two(width=(width, width), grad_norm=tuple(np.random.default_rng(0).random((2, 12))))
    found = llmscale.compare({name: runs.iloc[:-2] for name, runs in tables.items()})
    assert not found.settings
    assert "settings: recipes differ in none" in str(found)


def test_recipes_that_each_change_one_setting_are_not_doubted() -> None:
    first = ladder(recipe="usual", schedule="wsd", optimizer="adamw")
    runs = [
        first,
        ladder(0.8, seed=1, recipe="cosine", schedule="cosine", optimizer="adamw"),
        ladder(0.7, seed=2, recipe="muon", schedule="wsd", optimizer="muon"),
    ]
    found = llmscale.compare(pd.concat(runs), by="recipe")
    assert not found.notes
    assert [one.name for one in found.settings] == ["schedule", "optimizer"]
    assert found.settings[1].values == {"usual": ("adamw",), "muon": ("muon",)}


def test_runs_that_are_the_same_need_the_same_compute_and_pass_the_gate() -> None:
    found = llmscale.compare({"a": ladder(), "b": ladder()}, at=1e22, fail_below=1.0)
    assert [(one.low, one.value, one.high) for one in found.multipliers] == [(1.0, 1.0, 1.0)] * 2
    assert found.passed
    assert found.sentences == ("b has the runs of a, loss for loss: it needs the same compute",)
    assert {name for name, _ in found.said()} == {"settings", "gate"}


def test_a_budget_is_said_to_be_inside_below_or_beyond_the_runs() -> None:
    short = ladder(0.8, seed=1).query("flops < 1e19")
    found = llmscale.compare({"a": ladder(), "b": short})
    low, high = found.joined.overlap
    assert found.place(high) == "the largest compute that all have"
    assert found.place(math.sqrt(low * high)) == "inside the runs"
    assert found.place(low / 4) == "4x below the runs"
    assert found.place(1.5 * high) == "1.5x beyond the compute that all have"
    assert found.place(20 * high) == "20x beyond the compute that all have"


def test_a_comparison_is_asked_at_the_budgets_that_it_was_made_at() -> None:
    found = llmscale.compare(two(), at=["1e18", "5e18", 1.001 * TODAY])
    assert found.scales == (found.today, 1e18, 5e18)  # one that hardly differs is today's
    assert found.at("1e18") == found.at(1e18)
    assert found.at(1e18)[0].flops == 1e18
    assert found.at(1.004 * found.today) == found.at()
    assert found.sentences[0].count("; at ") == 2
    (headline,) = found.headlines
    assert re.findall("; at (.*?) ", headline) == ["5e+18"]
    for asked in (5e20, "much", [1e18, 5e18]):
        with pytest.raises(InputError) as caught:
            found.at(asked)
        assert caught.value.fix
    with pytest.raises(InputError, match=r"no multipliers at 5e\+20 FLOPs, only at 1.08e\+19, 1e"):
        found.rows(5e20)


TODAY = 120 * SIZES[-1] ** 2


def test_what_a_recipe_needs_beyond_its_own_runs_is_said_to_be_extrapolated() -> None:
    found = llmscale.compare({"muon": ladder(0.5), "adamw": ladder(seed=1)}, at=[1e18, 1e22])
    (one,) = found.extrapolated
    assert (one.recipe, one.flops) == ("adamw", found.today)
    assert one.times == pytest.approx(2.0, rel=0.05)
    said = "to reach muon's loss at 1.08e+19 FLOPs adamw needs 2"
    assert f"extrapolated: {said}" in str(found)
    budgets = [7e18, 8e18]
    found = llmscale.compare({"muon": ladder(0.5), "adamw": ladder(seed=1)}, at=budgets)
    assert len(found.extrapolated) == 3
    assert str(found).count("extrapolated: ") == 1
    assert "that multiplier is extrapolated, as at 8e+18 and 7e+18 FLOPs" in str(found)
    turned = llmscale.compare({"adamw": ladder(seed=1), "muon": ladder(0.5)})
    assert not turned.extrapolated
    assert "extrapolated" not in str(turned)


def test_the_figure_shows_the_multipliers_that_were_asked_for() -> None:
    from llmscale.explain.recipes.figure import draw

    found = llmscale.compare({"a": ladder(), "b": ladder(0.9, exponent=0.19, seed=1)}, at=1e28)
    low, high = draw(found).figure.axes[1].get_ylim()
    for one in found.multipliers:
        assert low < one.value < high
    assert found.at(1e28)[0].value < 0.125


def test_no_runs_are_promised_to_decide_what_is_far_beyond_them() -> None:
    tables = {"a": ladder(noise=0.01), "b": ladder(0.8, noise=0.01, seed=3)}
    more = llmscale.compare(tables, at=1e27).power[0].more
    assert more == "to tell b from a at 1e+27 takes runs of 1e+26 FLOPs or more"


def test_recipes_that_are_told_apart_by_a_number_are_named_by_it() -> None:
    runs = one_table("recipe", bits=(16, 4))
    found = llmscale.compare(runs, by="bits", baseline="4")
    assert found.names == ("bits=4", "bits=16")


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "one table": (lambda: [ladder()], "takes two recipes"),
    "one value": (lambda: ([ladder(data="c4")], {"by": "data"}), "one recipe only"),
    "a column of N": (lambda: ([one_table("recipe")], {"by": "params"}), "is the column of N"),
    "no such column": (lambda: ([ladder()], {"by": "recipe"}), "no column 'recipe'"),
    "by of two tables": (lambda: ([two()], {"by": "seed"}), "2 are given"),
    "no such baseline": (lambda: ([two()], {"baseline": "c"}), "no recipe 'c'"),
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
    "other texts": (lambda: [two(data_fingerprint=("aa", "bb"))], "other texts"),
    "other validation": (lambda: [two(val_set=("c4", "pile"))], "measured on other texts"),
    "other tokenizers": (lambda: [two(vocab_size=(1000, 2000))], "do not compare"),
    "bits and nats": (
        lambda: [_with_loss(ladder(0.7, seed=1)["loss"] / math.log(2))],
        "b seems to be in bits and a in nats",
    ),
    "nats and bits, unpaired": (
        lambda: [_with_loss(ladder(seed=1, sizes=1.1 * SIZES)["loss"] * math.log(2), 1.1 * SIZES)],
        "a seems to be in bits and b in nats",
    ),
    "per token and per byte": (
        lambda: [_with_loss(ladder(0.7, seed=1)["loss"] / 2.9)],
        "another unit, tokenizer or text",
    ),
    "other units": (lambda: [two(loss_unit=("nats", "bits"))], "loss_unit: a nats, b bits"),
    "training and validation": (
        lambda: [{"a": ladder(), "b": ladder().rename(columns={"loss": "train_loss"})}],
        "the loss of b is of training data",
    ),
    "bits per byte of one": (
        lambda: ([two()], {"metric": "bits_per_byte"}),
        "a and b has no bits_per_byte",
    ),
    "floor above": (lambda: ([two()], {"floor": 3.0}), "the floor is 3"),
    "no surface": (lambda: ([two()], {"law": "chinchilla"}), "a tells no law in N and D"),
    "far below": (lambda: ([two()], {"at": 1e9}), "far below the smallest run"),
    "no budget": (lambda: ([two()], {"at": "much"}), "at"),
    "steps": (
        lambda: [{"a": ladder(), "b": _steps()}],
        "rows are steps of runs",
    ),
    "other counts": (
        lambda: [{"a": ladder(), "b": ladder().rename(columns={"params": "params_total"})}],
        "which are not one size",
    ),
    "no figure": (lambda: ([two()], {"output": "figure.doc"}), "cannot draw"),
}


def _with_loss(loss: Any, sizes: Any = SIZES) -> dict[str, pd.DataFrame]:
    """A recipe, and another with these losses."""
    return {"a": ladder(), "b": ladder(sizes=sizes).assign(loss=loss)}


@pytest.mark.parametrize("share", [0.9, 0.8])
def test_a_loss_that_is_far_lower_is_not_taken_for_one_in_another_unit(share: float) -> None:
    found = llmscale.compare(_with_loss(share * ladder()["loss"])).at()[0]
    assert found.high < 0.2


def test_losses_are_in_the_unit_that_they_are_said_to_be_in() -> None:
    tables = _with_loss(ladder()["loss"] / math.log(2))
    assert llmscale.compare(tables, units={"loss": "nats"}).at()[0].low > 10
    tables["b"] = tables["b"].rename(columns={"loss": "loss_bits"})
    assert llmscale.compare(tables).at()[0].value == pytest.approx(1, rel=1e-4)


def test_losses_that_are_as_bits_to_nats_are_doubted_even_if_the_law_is_steep() -> None:
    N = np.geomspace(1e6, 1.6e7, 5)
    loss = 0.3 + 4.0 * (N / 1e6) ** -0.42
    noise = np.exp(0.002 * np.random.default_rng(0).standard_normal((2, 5)))
    nats = pd.DataFrame({"params": N, "tokens": 20 * N, "loss": loss * noise[0]})
    tables = {"a": nats, "b": nats.assign(loss=loss * noise[1] / math.log(2))}
    (note,) = (note for note in llmscale.compare(tables).notes if "bits" in note.message)
    assert (note.code, "as bits are of nats" in note.message) == ("losses-far-apart", True)
    assert not llmscale.compare(tables, units={"loss": "nats"}).notes


@pytest.mark.parametrize("in_bits", [(3, 4, 5), (0,), (2,), (0, 1)])
def test_losses_of_one_recipe_in_two_units_are_told(in_bits: tuple[int, ...]) -> None:
    size = np.repeat(np.arange(len(SIZES)), 2)
    mixed = ladder(0.8, seed=1)["loss"] * np.where(np.isin(size, in_bits), 1 / math.log(2), 1.0)
    notes = {note.code: note.message for note in llmscale.compare(_with_loss(mixed)).notes}
    assert notes["losses-step"].startswith("losses of b step (")
    assert "as bits and nats are" in notes["losses-step"]


def test_a_recipe_that_saves_more_than_any_published_one_is_doubted() -> None:
    for k, doubted in [(0.07, True), (0.3, False), (3.5, False)]:
        found = llmscale.compare({"a": ladder(), "b": ladder(k, seed=1)})
        assert ("losses-far-apart" in {note.code for note in found.notes}) == doubted


def test_pairs_are_said_to_gain_what_they_gain_over_all_runs() -> None:
    tables = {"a": ladder(common=0.9), "b": ladder(0.8, common=0.9)}
    every = llmscale.compare(tables)
    assert every.pairing.startswith("12 pairs of runs with the same size, tokens and seed; ")
    others = tables["b"]["seed"] + 5
    tables["b"]["seed"] = others.where(tables["b"].index >= 6, others - 5)
    half = llmscale.compare(tables)
    assert "6 pairs of runs with the same size, tokens and seed, 50% of all runs; " in half.pairing
    left = 1.0 - half.paired_share
    # Six pairs, and six unpaired runs of each: a pair tells 1/left of what those tell.
    gain = 1.0 - (0.5 / left + 0.5) ** -0.5
    assert half.pairing.endswith(f"{gain:.0%} narrower")
    assert every.pairing.endswith(f"{1.0 - (1.0 - every.paired_share) ** 0.5:.0%} narrower")
    tables["b"]["seed"] = others.where(tables["b"].index >= 1, others - 5)
    alike = "the same size, tokens and seed"
    one = f"1 pair of runs with {alike}; too few to tell what they share"
    assert llmscale.compare(tables).pairing == one


@pytest.mark.parametrize("case", BAD)
def test_recipes_that_do_not_compare_are_refused_with_the_reason(case: str) -> None:
    make, said = BAD[case]
    given = make()
    sources, keywords = given if isinstance(given, tuple) else (given, {})
    with pytest.raises(InputError, match=said) as caught:
        llmscale.compare(*sources, **keywords)
    assert caught.value.fix
