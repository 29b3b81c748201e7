"""Specification files: IsoFLOP grids, named recipes, and the schema that editors check them by."""

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.measure.sweep.isoflop_grid import isoflop_grid, most_tokens
from llmscale.measure.sweep.jobs import jobs_of
from llmscale.measure.sweep.spec import SweepSpec, parse_flops, read_spec
from llmscale.measure.text.prepare import TextSpec, prepare
from llmscale.measure.train.recipe import Recipe
from llmscale.runs.shape import shape_for

HEAD = """
[data]
source = "{text}"
tokenizer = "bpe:300"
[recipe]
context = 32
batch_tokens = 512
[hardware]
device = "cpu"
dtype = "float32"
workers = 1
"""


def llmscale(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in arguments])


@pytest.mark.parametrize("arch", ["llama", "gpt2"])
@pytest.mark.parametrize(
    ("vocab_size", "context", "budgets"), [(300, 32, [1e12, 1e13]), (16384, 512, [1e17, 1e21])]
)
def test_every_run_of_a_grid_costs_its_budget_and_sizes_lie_evenly_round_the_expected_optimum(
    arch: str, vocab_size: int, context: int, budgets: list[float]
) -> None:
    longest = 0
    for budget in budgets:
        grid = isoflop_grid([budget], 5, 20, 4, vocab_size=vocab_size, context=context, arch=arch)
        for point in grid:
            assert point.shape == shape_for(
                point.size, vocab_size=vocab_size, context=context, arch=arch
            )
            assert point.tokens % context == 0
            assert point.tokens * point.shape.flops_per_token == pytest.approx(budget, rel=0.01)
        steps = np.diff(np.log([point.shape.params for point in grid]))
        assert steps == pytest.approx(np.full(4, np.log(2)), rel=0.15)
        assert grid[2].tokens / grid[2].shape.params == pytest.approx(20, rel=0.1)
        longest = max(longest, grid[0].tokens)
    assert most_tokens(budgets, 5, 20, 4, context=context, arch=arch) >= longest


def test_a_budget_without_such_sizes_says_which_there_are() -> None:
    with pytest.raises(
        InputError, match=r"asks for 5 sizes with N from .*; those of this vocabulary \(16384\)"
    ):
        isoflop_grid([1e12], 5, 20, 4, vocab_size=16384, context=32, arch="llama")
    with pytest.raises(InputError, match="more than 1%"):
        isoflop_grid([1e13], 3, 1, 1.5, vocab_size=300, context=16384, arch="llama")


def test_the_isoflop_method_finds_the_optimum_of_a_known_law_on_a_planned_grid(
    text: Path, tmp_path: Path
) -> None:
    spec = SweepSpec(
        flops=parse_flops("1e12,3e12,1e13,3e13"),
        per_budget=7,
        data=TextSpec(source=str(text), tokenizer="bpe:300"),
        recipe=Recipe(context=32),
    )
    jobs = jobs_of(spec, prepare(spec.data))
    assert len(jobs) == 4 * 7
    runs = pd.DataFrame(
        [{"params": job.shape.params, "tokens": job.tokens, "flops": job.flops} for job in jobs]
    )
    # Besiroglu et al. 2024: N* grows as C^(beta / (alpha + beta)).
    E, A, B, alpha, beta = 1.8172, 482.01, 2085.43, 0.3478, 0.3658
    runs["loss"] = E + A / runs["params"] ** alpha + B / runs["tokens"] ** beta
    table = tmp_path / "runs.csv"
    runs.to_csv(table, index=False)
    fit = llmscale(
        "fit", table, "--units", "loss=nats", "--method", "isoflop", "--json", "--bootstrap", "0"
    )
    assert fit.exit_code == 0, fit.output
    payload = json.loads(fit.stdout)
    assert payload["compute_optimal"]["a"] == pytest.approx(beta / (alpha + beta), abs=0.03)
    assert [budget["bracketed"] for budget in payload["budgets"]] == [True] * 4
    for budget in payload["budgets"]:
        six_D = budget["flops"] / 6  # N D at the optimum, attention aside
        best = (alpha * A / (beta * B)) ** (1 / (alpha + beta)) * six_D ** (beta / (alpha + beta))
        assert budget["params"] == pytest.approx(best, rel=0.15)


def test_recipes_are_trained_side_by_side_and_fit_groups_by_them(
    text: Path, tmp_path: Path
) -> None:
    plain, both, out = tmp_path / "plain.toml", tmp_path / "both.toml", tmp_path / "out"
    sizes = 'sizes = ["1x16x1", "1x24x2", "2x32x2"]\ntokens = "20k"\n'
    plain.write_text(sizes + HEAD.format(text=text))
    both.write_text(
        sizes + HEAD.format(text=text) + "[recipes.muon]\noptimizer = 'muon'\nlr_scale = 0.25\n"
    )
    result = llmscale("sweep", both, "--out", out)
    assert result.exit_code == 0, result.output
    assert "2x32x2 muon" in result.stderr
    assert "core hours" in result.stderr
    runs = pd.read_parquet(out / "runs.parquet")
    assert set(runs.groupby("recipe")["run_id"].count().items()) == {
        ("default", 3),
        ("muon", 3),
    }
    assert set(runs[runs["recipe"] == "muon"]["optimizer"]) == {"muon"}
    rates = runs.pivot_table(index="size", columns="recipe", values="lr")
    assert list(rates["muon"]) == pytest.approx(list(rates["default"] / 4))
    fit = llmscale("fit", out, "--by", "recipe", "--law", "power", "--json", "--bootstrap", "20")
    assert fit.exit_code == 0, fit.output
    assert [group["group"] for group in json.loads(fit.stdout)["groups"]] == [
        "default",
        "muon",
    ]
    again = llmscale("sweep", plain, "--out", out, "--json")
    assert "to train" not in again.stderr, (
        "runs of the plain recipe have the ids that they have by themselves"
    )
    assert [run["recipe"] for run in json.loads(again.stdout)["runs"]] == ["default"] * 3
    both.write_text(both.read_text().replace("0.25", "0.5"))
    other = llmscale("sweep", both, "--out", out)
    assert other.exit_code == 2
    assert "recipes.muon.lr_scale is 0.25 there and 0.5 here" in other.stderr.replace("\n", " ")


@pytest.mark.parametrize(
    ("lines", "problem", "fix"),
    [
        ("seed = 2", "unknown key 'seed'", "did you mean 'seeds'?"),
        ("per_budgets = 3", "unknown key 'per_budgets'", "did you mean 'per_budget'?"),
        (
            '[recipes.muon]\noptimiser = "muon"',
            "unknown key 'optimiser' in [recipes.muon]",
            "did you mean 'optimizer'?",
        ),
        ('[recipes.muon]\noptimizer = "moun"', "no optimizer 'moun'", "muon"),
        ("[recipes.muon]\nlr = 'high'", "lr in [recipes.muon]", "lr is a number"),
        (
            "[recipes.same]\noptimizer = 'adamw'",
            "recipe 'same' is the same as 'default'",
            "change something",
        ),
        ("[recipes.default]\nlr = 0.1", "'default'", "is [recipe] itself"),
        ("[recipes.'../x']\nlr = 0.1", "'../x'", "letters, digits"),
        ("recipes = 1", "recipes in", "write a table"),
        ("runs = 1", "runs in", "write it like runs = ["),
        ("runs = [1]", "runs in", "write it like runs = ["),
        ("runs = [{size = '1M'}]", "has no tokens", "write it like runs = ["),
        ("runs = [{size = '1M', tokens = 1.5}]", "tokens of a run", "write it like runs = ["),
        ("runs = [{size = '1M', tokens = '20x', seed = 1}]", "unknown key 'seed'", "'seeds'"),
        ("runs = [{size = '1M', tokens = '20x', seeds = 0}]", "seeds is 0", "at least 1"),
        ("runs = [{size = '1Q', tokens = '20x'}]", "size '1Q'", "30k"),
        (
            "runs = [{size = '1M', tokens = 5}, {size = '1M', tokens = 5}]",
            "has 1M at 5 twice",
            "give it once",
        ),
        ('flops = ["1e15"]', "both flops and sizes", "leave them out"),
        ("retry_diverged = -1", "retry_diverged is -1", "at least 0"),
        ("spread = 1", "spread is 1", "above 1"),
        ("seeds = 1_000_000_000_000", "seeds is 1000000000000", "at most 10,000"),
        (
            "seeds = 9000\n[recipes.a]\nlr = 0.1\n[recipes.b]\nlr = 0.2\n[recipes.c]\nlr = "
            "0.3\n[recipes.d]\nlr = 0.4\n[recipes.e]\nlr = 0.5",
            "this asks for 54,000 runs",
            "fewer sizes",
        ),
        ("tokens = ['1e400']", "token budget '1e400' is too large", "at most"),
        ("tokens = '1e308x'", "token budget '1e308x'", "20x"),
        ("[recipe]\nclip = inf", "clip is inf", "above 0"),
        ("[recipe]\nlr = nan", "lr is nan", "above 0"),
        ("[recipe]\ncontext = 1", "context is 1", "at least 2"),
        ("[hardware]\ncheckpoint_seconds = nan", "checkpoint_seconds is nan", "above 0"),
        ("[hardware.slurm]\nmemory_gb = inf", "memory_gb in [hardware.slurm] is inf", "above 0"),
        ("x = " + "[" * 5000, "is nested too deeply", "compare"),
        ("seeds = " + "9" * 5000, "cannot be read", "TOML"),
    ],
)
def test_a_mistake_in_a_file_is_named_with_what_to_write(
    lines: str, problem: str, fix: str, tmp_path: Path
) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text('sizes = ["1M"]\n' + lines + "\n")
    with pytest.raises(InputError) as caught:
        read_spec(path)
    assert problem in caught.value.problem
    assert fix in str(caught.value.fix)


def test_the_schema_takes_every_experiment_and_no_unknown_key(repository: Path) -> None:
    jsonschema = pytest.importorskip(
        "jsonschema", reason="jsonschema is not installed: pip install 'llmscale[test]'"
    )
    printed = llmscale("schema")
    schema = json.loads(printed.stdout)
    jsonschema.Draft7Validator.check_schema(schema)
    check = jsonschema.Draft7Validator(schema)
    files = sorted((repository / "experiments").glob("*.toml"))
    assert len(files) >= 5
    for path in files:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        check.validate(table)
        read_spec(path)
        assert path.read_text(encoding="utf-8").startswith("#:schema ./sweep.schema.json\n")
        for wrong in (
            {**table, "size": ["1M"]},
            {**table, "recipe": {**table["recipe"], "optimiser": "muon"}},
            {**table, "recipes": {"muon": {"optimizer": "moun"}}},
            {**table, "recipes": {"default": {"optimizer": "muon"}}},
            {**table, "data": {**table["data"], "cleaning": {"min_character": 3}}},
            {**table, "hardware": {"device": "gpu"}},
            {key: value for key, value in table.items() if key not in ("sizes", "flops")},
        ):
            assert not check.is_valid(wrong)
    about = schema["properties"]["recipe"]["properties"]["clip"]
    assert (
        about["description"] == "Largest norm of the gradient; larger ones are scaled down to it."
    )
    assert about["default"] == 1.0


def test_the_committed_schema_is_the_printed_one(repository: Path) -> None:
    printed = llmscale("schema").stdout
    assert (repository / "experiments" / "sweep.schema.json").read_text(
        encoding="utf-8"
    ) == printed, "write it anew: llmscale schema > experiments/sweep.schema.json"


def test_single_runs_stand_next_to_the_grid_and_leave_the_ids_of_its_runs(
    text: Path, tmp_path: Path
) -> None:
    grid = 'sizes = ["1x16x1", "1x24x2"]\ntokens = ["20k", "40k"]\n' + HEAD.format(text=text)
    more = """runs = [
      { size = "1x16x1", tokens = "80k" },
      { size = "2x32x2", tokens = 60_000, seeds = 2 },
      { size = "1x24x2", tokens = "20k", seeds = 2 },
    ]\n"""
    path, both = tmp_path / "grid.toml", tmp_path / "both.toml"
    path.write_text(grid)
    both.write_text(more + grid)
    spec = read_spec(both)
    store = prepare(spec.data)
    before, after = (jobs_of(one, store) for one in (read_spec(path), spec))
    ids = {job.run_id for job in before}
    new = [job for job in after if job.run_id not in ids]
    assert ids < {job.run_id for job in after}
    assert [(job.size, round(job.tokens, -3), job.seed) for job in new] == [
        ("1x16x1", 80_000, 0),
        ("1x24x2", 20_000, 1),
        ("2x32x2", 60_000, 0),
        ("2x32x2", 60_000, 1),
    ]
    trunk = next(job for job in before if job.size == "1x16x1")
    assert new[0].begins_like(trunk), "a longer run of a size of the grid goes on from its trunk"
    again = read_spec(both).to_json()["runs"]
    assert again[1] == {"size": "2x32x2", "tokens": "60k", "seeds": 2}
