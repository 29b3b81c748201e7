"""Units, swapped columns and metrics that are no losses are found before anything is fitted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.errors import InputError
from llmscale.explain.table import RunTable, read_table
from llmscale.notes import Weight, weight_of

PARAMS = np.repeat([2e7, 5e7, 1.2e8, 3e8, 7e8], 4)
TOKENS = PARAMS * np.tile([5.0, 20.0, 80.0, 200.0], 5)
FLOPS = 6 * PARAMS * TOKENS
LOSS = 1.8 + 420 / PARAMS**0.34 + 1800 / TOKENS**0.36
RUNS = pd.DataFrame({"params": PARAMS, "tokens": TOKENS, "loss": LOSS})
FULL = RUNS.assign(flops=FLOPS)


def codes(table: RunTable) -> list[str]:
    return [note.code for note in table.notes]


def refused(frame: pd.DataFrame, **options: object) -> InputError:
    with pytest.raises(InputError) as error:
        read_table(frame, **options)  # type: ignore[arg-type]
    assert "\n" not in error.value.problem
    return error.value


def option(error: InputError, name: str) -> str:
    """The value of the first `--name value` that a fix names."""
    return str(error.fix).split(f"--{name} ", 1)[1].split()[0].rstrip(";,")


# Units


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(["params", "tokens", "flops"]), st.integers(-7, 3), st.floats(0.5, 2.0))
def test_any_power_of_1000_between_c_and_6nd_is_found(
    quantity: str, power: int, near: float
) -> None:
    assume(power != 0)
    frame = FULL.assign(flops=FLOPS * near)
    error = refused(frame.assign(**{quantity: frame[quantity] * 1000.0**power}))
    assert "times 6ND in every row" in error.problem
    assert "--units flops=1 takes" in str(error.fix)


@pytest.mark.parametrize(
    ("quantity", "factor", "unit"),
    [
        ("params", 1e6, "params=M"), ("params", 1e9, "params=B"), ("tokens", 1e9, "tokens=B"),
        ("tokens", 1e6, "tokens=M"),
        ("flops", 1e9, "flops=GF"), ("flops", 1e15, "flops=PF"), ("flops", 1e18, "flops=EF"),
        ("flops", 1e21, "flops=ZF"),
        ("flops", 8.64e19, "flops=PFdays"), ("flops", 1e-3, "flops=1e-3"),
    ],
)  # fmt: skip
def test_the_units_that_are_named_give_the_right_numbers(
    quantity: str, factor: float, unit: str
) -> None:
    frame = FULL.assign(**{quantity: FULL[quantity] / factor})
    error = refused(frame)
    assert option(error, "units") == unit
    table = read_table(frame, units=option(error, "units"))
    assert table.frame[["params", "tokens", "flops"]].to_numpy() == pytest.approx(
        FULL[["params", "tokens", "flops"]].to_numpy(), rel=1e-9
    )
    assert codes(table) == []


@pytest.mark.parametrize(
    ("scales", "units"),
    [
        ({"params": 1e6, "tokens": 1e9}, "params=M,tokens=B"),
        ({"params": 1e9, "tokens": 1e9}, "params=B,tokens=B"),
        ({"params": 1e6}, "params=M"),
        ({"tokens": 1e9}, "tokens=B"),
        ({"tokens": 1e6}, "tokens=M"),
    ],
)
def test_units_are_found_without_flops_by_what_runs_are_like(
    scales: dict[str, float], units: str
) -> None:
    for frame in (RUNS, FULL):
        scaled = frame.assign(**{name: frame[name] / factor for name, factor in scales.items()})
        assert option(refused(scaled), "units") == units
        assert codes(read_table(scaled, units=units)) == []
        assert "units-doubtful" not in codes(
            read_table(
                scaled, units="params=1,tokens=1,flops=1" if frame is FULL else "params=1,tokens=1"
            )
        )


@pytest.mark.parametrize("missing", ["params", "tokens"])
@pytest.mark.parametrize(
    ("factor", "unit"), [(8.64e19, "flops=PFdays"), (1e18, "flops=EF"), (1e9, "flops=GF")]
)
def test_what_is_computed_from_flops_must_be_possible(
    missing: str, factor: float, unit: str
) -> None:
    error = refused(FULL.assign(flops=FLOPS / factor).drop(columns=missing))
    assert option(error, "units") == unit


def test_a_unit_by_hand_for_one_quantity_does_not_silence_another() -> None:
    scaled = FULL.assign(params=PARAMS / 1e6, tokens=TOKENS / 1e9)
    table = read_table(scaled, units="params=M")
    assert set(codes(table)) == {"units-doubtful"}
    assert "--units tokens=B" in str(table.notes[0])


def test_a_name_that_says_millions_over_plain_numbers_is_refused() -> None:
    error = refused(RUNS.rename(columns={"params": "params_M"}))
    assert "params_M in M from 2e+13" in error.problem


@pytest.mark.parametrize(
    ("ratio", "code"),
    [
        (1 / 3, ["flops-forward"]),
        (4 / 3, []),
        (1.0, []),
        (0.9, []),
        (2.5, ["flops-off"]),  # no count of operations is 2.5 times 6ND at every size
        (0.5, ["flops-off"]),
        (0.1, ["flops-off"]),
        (12, ["flops-off"]),
    ],
)
def test_c_may_be_counted_in_other_ways(ratio: float, code: list[str]) -> None:
    assert codes(read_table(FULL.assign(flops=FLOPS * ratio))) == code
    assert codes(read_table(FULL.assign(flops=FLOPS * ratio), units="flops=1")) == []


def test_a_scattered_c_is_another_column_and_a_percentage_no_flops() -> None:
    scattered = FULL.assign(
        flops=np.random.default_rng(0).permutation(10.0 ** np.linspace(16, 21, 20))
    )
    assert codes(read_table(scattered)) == ["flops-scattered"]
    assert "is 'flops' a percentage" in str(
        refused(FULL.assign(flops=100 * FLOPS / FLOPS.max())).fix
    )


def test_flops_that_drift_with_size_or_scatter_are_told() -> None:
    drift = np.geomspace(2.5, 0.4, 5).repeat(4)
    (note,) = read_table(FULL.assign(flops=FLOPS * drift)).notes
    assert note.code == "flops-drift"
    assert "falls with size, from 2.5 at N 20M to 0.4 at 700M" in note.message
    modest = (PARAMS / PARAMS.max()) ** -0.1  # attention's share at small sizes
    assert codes(read_table(FULL.assign(flops=FLOPS * modest))) == []
    tenfold = 10.0 ** np.random.default_rng(0).uniform(-0.5, 0.5, 20)
    (note,) = read_table(FULL.assign(flops=FLOPS * tenfold)).notes
    assert (note.code, weight_of(note)) == ("flops-scattered", Weight.DOUBT)
    for frame in (FULL.assign(flops=FLOPS * drift), FULL.assign(flops=FLOPS * tenfold)):
        without = read_table(frame, columns={"flops": "none"})
        assert codes(without) == []
        assert without.frame["flops"].tolist() == FLOPS.tolist()


_LOGS = {"log10": np.log10, "ln": np.log}


@pytest.mark.parametrize("base", _LOGS)
@pytest.mark.parametrize(
    "columns",
    [["params"], ["tokens"], ["flops"], ["params", "tokens"], ["params", "tokens", "flops"]],
)
@pytest.mark.parametrize("lacking", [[], ["flops"], ["tokens"], ["params", "tokens"]])
def test_logarithms_are_asked_for_as_what_they_are_and_never_as_a_unit(
    columns: list[str], base: str, lacking: list[str]
) -> None:
    left = [name for name in columns if name not in lacking]
    frame = FULL.drop(columns=lacking)
    if not left:
        assert codes(read_table(frame)) in ([], ["params-unknown"], ["tokens-from-flops"])
        return
    logs = frame.assign(**{name: _LOGS[base](frame[name]) for name in left})
    units = option(refused(logs), "units")
    assert units == ",".join(f"{name}={base}" for name in left)
    read = read_table(logs, units=units).frame
    for name in frame.columns:
        assert read[name].to_numpy() == pytest.approx(frame[name].to_numpy(), rel=1e-9)


def test_counts_in_a_unit_that_no_logarithm_could_be_are_asked_for_as_a_unit() -> None:
    sizes = np.repeat([7.0, 8.0, 13.0], 3)
    frame = pd.DataFrame({"params": sizes, "tokens": np.tile([1e11, 4e11, 1.6e12], 3)})
    frame["loss"] = 1.8 + 420 / (1e9 * sizes) ** 0.34 + 1800 / frame["tokens"] ** 0.36
    assert option(refused(frame), "units") == "params=B"


@pytest.mark.parametrize("flops", [True, False])
@pytest.mark.parametrize(
    ("column", "rows", "factor"),
    [
        ("params", slice(0, 20, 2), 1e-6),
        ("tokens", slice(7, 8), 1e-9),
        ("tokens", slice(3, 5), 1e9),
    ],
)
def test_rows_in_another_unit_are_named(
    column: str, rows: slice, factor: float, flops: bool
) -> None:
    frame = (FULL if flops else RUNS).copy()
    off = frame.index[rows]
    frame.loc[off, column] *= factor
    error = refused(frame)
    assert f"far from that in {len(off)}: row {off[0] + 1} (" in error.problem
    assert f"'{column}' is in another unit there" in error.problem
    assert codes(read_table(frame.drop(index=off).reset_index(drop=True))) == []


def test_rows_in_thousands_are_named_though_they_make_possible_models() -> None:
    rng = np.random.default_rng(0)
    params = np.repeat(np.geomspace(1e8, 1e10, 6), 5)
    frame = pd.DataFrame({"params": params, "tokens": params * np.tile([10, 20, 40, 80, 160], 6)})
    loss = 1.8 + 420 / frame["params"] ** 0.34 + 1800 / frame["tokens"] ** 0.36
    frame["loss"] = loss * np.exp(0.003 * rng.standard_normal(30))
    assert codes(read_table(frame)) == []
    off = np.sort(rng.permutation(30)[:10])
    frame.loc[off, "params"] /= 1e3
    (note,) = read_table(frame).notes
    assert note.code == "rows-in-other-units"
    assert "'params' of 10 rows seems to be in thousands" in note.message
    assert f"row {off[0] + 1} (" in note.message
    assert codes(read_table(frame, units="params=1")) == []


def test_flops_of_two_counts_and_embeddings_in_n_are_told_by_size() -> None:
    params = np.repeat(np.geomspace(1e7, 1e9, 8), 3)
    frame = pd.DataFrame({"params": params, "tokens": params * np.tile([10, 40, 160], 8)})
    frame["loss"] = 1.8 + 420 / frame["params"] ** 0.34 + 1800 / frame["tokens"] ** 0.36
    frame["flops"] = 6 * frame["params"] * frame["tokens"]
    assert codes(read_table(frame)) == []
    twice = frame["flops"].where(frame["params"] < 1e8, 2 * frame["flops"])
    (note,) = read_table(frame.assign(flops=twice)).notes
    assert note.code == "flops-rows-off"
    assert "C is 2 times 6ND in 12 rows, and not in 12" in note.message
    embeddings = 50_000 * 4 * (frame["params"] / 96) ** (1 / 3)
    (note,) = read_table(frame.assign(params=frame["params"] + embeddings)).notes
    assert note.code == "embeddings-counted"
    assert "C/(6ND) rises with size, from 0.6" in note.message


def test_losses_of_no_text_are_doubted_at_sizes_that_are_known() -> None:
    in_log10 = RUNS.assign(loss=RUNS["loss"] / np.log(10))
    assert codes(read_table(in_log10)) == ["loss-too-low"]
    assert codes(read_table(in_log10, units="loss=nats")) == []
    perplexities = RUNS.assign(loss=np.minimum(np.exp(RUNS["loss"]), 12.9))
    (note,) = read_table(perplexities).notes
    assert (note.code, weight_of(note)) == ("loss-too-high", Weight.DOUBT)


def test_rows_whose_tokens_were_computed_with_another_batch_are_named() -> None:
    frame = FULL.copy()
    frame.loc[[4, 9], "tokens"] *= 4
    (note,) = read_table(frame).notes
    assert note.code == "flops-rows-off"
    assert "row 5 (0.25), row 10 (0.25)" in note.message


def test_swapped_parameters_and_tokens_are_refused_with_the_columns_that_fix_it() -> None:
    for frame in (RUNS, FULL):
        swapped = frame.rename(columns={"params": "tokens", "tokens": "params"})
        error = refused(swapped)
        assert option(error, "columns") == "params=tokens,tokens=params"
        right = read_table(swapped, columns={"params": "tokens", "tokens": "params"})
        assert right.frame["params"].tolist() == PARAMS.tolist()
        mapped = swapped.rename(columns={"params": "a", "tokens": "b"})
        assert codes(read_table(mapped, columns={"params": "a", "tokens": "b"})) == [
            "tokens-below-params"
        ]


def test_swapped_columns_are_found_though_some_runs_have_more_tokens_than_parameters() -> None:
    params = np.repeat(np.geomspace(1e7, 1e9, 6), 5)
    tokens = np.tile(np.geomspace(1e8, 1e10, 5), 6)
    frame = pd.DataFrame(
        {"params": params, "tokens": tokens, "loss": 1.8 + 420 / params**0.34 + 1800 / tokens**0.36}
    )
    assert codes(read_table(frame)) == []
    error = refused(frame.rename(columns={"params": "tokens", "tokens": "params"}))
    assert "80% of the runs" in error.problem
    assert option(error, "columns") == "params=tokens,tokens=params"


def test_a_context_length_called_c_is_no_budget() -> None:
    for other in (1024, np.tile([10, 100, 1000, 30], 5)):
        table = read_table(RUNS.assign(C=other))
        assert table.frame["flops"].tolist() == FLOPS.tolist()
        assert "no FLOPs, and C = 6ND is taken" in table.reading
    assert read_table(RUNS.assign(C=1.1 * FLOPS)).columns["flops"] == "C"


@pytest.mark.parametrize(
    "others",
    [
        {"steps": TOKENS / 2**19, "batch_size": 256, "seq_len": 2048}, {"step": TOKENS / 2**19,
        "batch_size": 2**19},
        {"train_steps": TOKENS / 1e5, "tokens_per_step": 1e5},
        {"tokens_per_param": TOKENS / PARAMS},
    ],
)  # fmt: skip
def test_tokens_that_other_columns_spell_out_are_computed(others: dict[str, object]) -> None:
    table = read_table(RUNS.drop(columns="tokens").assign(**others))
    assert codes(table) == ["tokens-from-steps"]
    np.testing.assert_allclose(table.frame["tokens"], TOKENS, rtol=1e-12)
    np.testing.assert_allclose(table.frame["flops"], FLOPS, rtol=1e-12)


@pytest.mark.parametrize("name", ["steps", "bytes", "samples_seen", "train_hours"])
def test_runs_of_several_lengths_do_not_share_one_budget(name: str) -> None:
    frame = RUNS.drop(columns="tokens").assign(**{name: TOKENS / 2**19})
    assert f"so do {name!r}" in refused(frame).problem
    right = read_table(frame, columns={"tokens": name}, units={"tokens": "524288"})
    np.testing.assert_allclose(right.frame["tokens"], TOKENS, rtol=1e-12)
    level = frame.assign(loss=[3.0 + 1e6 / n for n in PARAMS])
    assert codes(read_table(level)) == ["tokens-unknown"]


def test_all_experts_taken_for_those_in_use_are_noted() -> None:
    experts = RUNS.assign(params_total=PARAMS, params_active=PARAMS / 8)
    assert codes(read_table(experts)) == ["experts-counted"]
    assert codes(read_table(experts, columns={"params": "params_active"})) == []


# Losses


def test_losses_whose_commas_were_read_as_thousands_may_be_decimals(tmp_path: Path) -> None:
    lines = [f'"{n:,.0f}","{d:,.0f}","{1000 * loss:,.0f}"' for n, d, loss in RUNS.to_numpy()]
    path = tmp_path / "runs.csv"
    path.write_text("\n".join(["params,tokens,loss", *lines]))
    with pytest.raises(InputError, match="goes from") as error:
        read_table(path)
    assert "was read as " in str(error.value.fix)
    assert "if its comma stands for decimals, write points; or a perplexity?" in str(
        error.value.fix
    )


def test_a_perplexity_is_refused_and_the_unit_that_is_named_reads_it() -> None:
    error = refused(RUNS.assign(loss=np.exp(LOSS)))
    assert "goes from" in error.problem
    table = read_table(RUNS.assign(loss=np.exp(LOSS)), units=option(error, "units"))
    assert table.frame["loss"].tolist() == pytest.approx(LOSS.tolist())
    assert "comma" not in str(error.fix)
    one = RUNS.assign(loss=np.where(np.arange(20) == 3, 40.0, LOSS))
    assert codes(read_table(one)) == ["loss-too-high"]


@pytest.mark.parametrize(
    ("name", "whole"), [("accuracy", 1), ("loss", 1), ("hellaswag/acc", 100), ("loss", 100)]
)
def test_a_metric_that_rises_is_refused_and_read_as_one_minus_accuracy(
    tmp_path: Path, name: str, whole: int
) -> None:
    frame = RUNS.drop(columns="loss").assign(**{name: whole * (1 - LOSS / 8)})
    path = tmp_path / "runs.csv"
    frame.to_csv(path, index=False)
    arguments = [
        "fit",
        str(path),
        "--columns",
        f"loss={name}",
        "--law",
        "power",
        "--bootstrap",
        "0",
    ]
    result = CliRunner().invoke(app, arguments)
    said = " ".join(result.stderr.split())
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"column '{name}'" in said
    assert "rises with C: a law of loss falls" in said
    assert "--units loss=accuracy" in said
    result = CliRunner().invoke(app, [*arguments, "--units", "loss=accuracy"])
    assert result.exit_code == 0, result.output
    table = read_table(path, columns={"loss": name}, units="loss=accuracy")
    assert table.frame["loss"].tolist() == pytest.approx((LOSS / 8).tolist())
    assert f"loss = 1 - {name}{'/100' if whole == 100 else ''}, " in table.reading


def test_accuracies_of_1_are_not_taken_as_percent() -> None:
    frame = RUNS.assign(acc=1 - LOSS / 8)
    with pytest.raises(InputError, match="no metric in percent") as error:
        read_table(frame, columns={"loss": "acc"}, units="loss=percent")
    assert "--units loss=accuracy" in str(error.value.fix)


def test_accuracies_below_zero_are_doubted_and_refused_if_most_are() -> None:
    def read(shift: float) -> list[str]:
        frame = RUNS.assign(acc=shift - LOSS)
        table = read_table(frame, columns={"loss": "acc"}, units="loss=accuracy")
        return [note.code for note in table.notes]

    assert "accuracy-below-zero" not in read(float(LOSS.max()))
    assert "accuracy-below-zero" in read(float(LOSS.max()) - 1e-9)
    with pytest.raises(InputError, match=r"is below zero in .* runs, and is taken for an accuracy"):
        read(float(np.median(LOSS)) - 0.1)


def test_negative_losses_are_refused_or_read_as_log_likelihoods() -> None:
    error = refused(RUNS.assign(loss=-LOSS))
    assert "--units loss=log-likelihood" in str(error.fix)
    assert (
        read_table(RUNS.assign(loss=-LOSS), units="loss=log-likelihood").frame["loss"].tolist()
        == LOSS.tolist()
    )


@pytest.mark.parametrize("value", ["inf", "1e400", "-1", "0", "n/a", "-inf"])
@pytest.mark.parametrize("column", ["params", "tokens", "flops", "loss"])
def test_numbers_that_cannot_be_are_named_by_row(column: str, value: str) -> None:
    frame = FULL.astype(str)
    frame.loc[4, column] = value
    error = refused(frame)
    assert f"column '{column}'" in error.problem
    assert "row 5" in error.problem


def test_bits_per_byte_are_fitted_with_a_word() -> None:
    frame = RUNS.rename(columns={"loss": "bits_per_byte"})
    assert codes(read_table(frame, columns={"loss": "bits_per_byte"})) == ["loss-per-byte"]


# Sound tables


def test_sound_tables_raise_nothing(shared: Path, repository: Path) -> None:
    assert codes(read_table(RUNS)) == codes(read_table(FULL)) == []
    kept = {"tokens-unknown", "run-id-repeated"}  # what moe.csv and checkpoints deserve
    for path in sorted((shared / "published").glob("*.csv")):
        where = ["params > 0"] if path.stem == "gadre_grid_search" else []
        of_file = {"loss-too-low"} if path.stem == "farseer" else {"filtered"}  # bits per character
        if path.stem == "marin_comma":
            of_file = {"embeddings-counted"}  # its C is 0.74 to 1.07 times 6ND, by size
        assert set(codes(read_table(path, where=where))) <= kept | of_file, path
    for path in sorted((repository / "results").glob("*/runs.parquet")):
        # Text that is read often, or for the first time, gives training losses that do jump.
        # Of the loops in adaptive three runs did spike.
        jumps = path.parent.name in ("repetition", "transfer", "adaptive")
        spiked = {"loss-spikes"} if jumps else set()
        assert set(codes(read_table(path))) <= kept | spiked, path
