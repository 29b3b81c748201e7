"""Odd options, files and tables by the hundred: each ends in a result or in one sentence with a
fix, never a traceback.

Options come from the commands' own declarations, and keys of a sweep's file from its schema: what
is added to either is tried from then on. A few examples of each are tried by default, the same ones
every time; `-m slow` tries many."""

import json
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import typer
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from sweeps import write_counting
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.measure.sweep.schema import sweep_schema
from llmscale.measure.train import calibrate

NUMBERS = [
    "-1",
    "0",
    "1",
    "2",
    "3",
    "0.5",
    "nan",
    "inf",
    "-inf",
    "1e3",
    "1e308",
    "1e-320",
    "1e400",
    "9" * 30,
    "٣",
    "",
]
QUANTITIES = [
    "10k",
    "1M",
    "1e15",
    "1e400",
    "20x",
    "1e308x",
    "-5x",
    "1x16x1",
    "1x16",
    "2x6x2",
    "9" * 5000,
    "10k,1e400",
]
NAMES = [
    "",
    " ",
    ",",
    "=",
    "a=b",
    "a=b=c",
    "params=",
    "params=N",
    "loss=N,loss=D",
    "tokens=B",
    "all",
    "none",
    "auto",
]
NAMES += [
    "chinchilla",
    "loss < 3",
    "loss < nan",
    "N > 1e400",
    "nowhere.csv",
    "./nowhere.py:Law",
    "é",
    "雪",
    "'",
    '"',
    "\\",
]
NAMES += [
    "$(touch x)",
    "x[a]",
    "[/red]",
    "[link=x]y[/link]",
    "\x1b[31m",
    "a\nb",
    "-",
    "--",
    "flops>1e400",
    "é" * 100,
]
VALUES = st.sampled_from([*NUMBERS, *QUANTITIES, *NAMES]) | st.text(max_size=6).filter(
    lambda text: "\0" not in text
)
LEFT_OUT = {"--watch", "--full", "--help", "--version", "--out"}
"""Options that wait, measure for long, or end the command; `--out` is tried with paths of its own.
"""
MEASURING = (("doctor",), ("bench",), ("schema",), ("laws",))
"""Commands that measure this machine for seconds, and such as have no options but `--json`."""
SEVERAL = [
    pytest.param(examples, marks=marks) for examples, marks in ((6, ()), (600, pytest.mark.slow))
]

Check = Callable[[list[str]], None]


def _leaves(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, (*path, name))
        else:
            yield (*path, name), command


COMMANDS = dict(_leaves(typer.main.get_command(app)))


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Runs a command in a folder of its own and says whether it ended as the README promises."""
    write_counting(tmp_path)
    _table().to_csv(tmp_path / "runs.csv", index=False)
    monkeypatch.chdir(tmp_path)
    # Whether options are read well does not depend on how fast this machine is, which takes seconds
    # to measure.
    speeds = calibrate.Speeds(1e10, ((1e5, 1e9), (1e6, 2e9)))
    monkeypatch.setattr(calibrate, "measure_speeds", lambda *_: speeds)

    def run(arguments: list[str]) -> None:
        before = set(tmp_path.rglob("*"))

        with warnings.catch_warnings(record=True) as leaked:
            warnings.simplefilter("always", RuntimeWarning)
            result = CliRunner().invoke(app, arguments)
        said = f"llmscale {arguments}\n{result.output[-2000:]}"
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise AssertionError(said) from result.exception
        assert result.exit_code in (0, 1, 2), said
        assert not [one for one in leaked if "site-packages/torch" not in one.filename], said
        if result.exit_code == 0:
            if "--json" in arguments:
                json.loads(result.stdout, parse_constant=_no_number)
            return
        by_click = re.search(r"^Error: ", result.stderr, re.MULTILINE)
        ours = re.findall(r"^error: .", result.stderr, re.MULTILINE)
        assert by_click or len(ours) == 1, said
        if result.exit_code == 2:
            assert by_click or re.search(r"^  fix: .", result.stderr, re.MULTILINE), said
            assert set(tmp_path.rglob("*")) == before, (
                f"{said}\nwrote {set(tmp_path.rglob('*')) - before}"
            )

    return run


@pytest.mark.parametrize("examples", SEVERAL)
@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in MEASURING])
def test_no_option_of_any_command_ends_in_a_traceback(
    command: tuple[str, ...], examples: int, check: Check
) -> None:
    _try(lambda options: check([*_usual(command), *options]), _options(COMMANDS[command]), examples)


@pytest.mark.slow
def test_no_option_of_bench_ends_in_a_traceback(check: Check) -> None:
    usual = [
        "bench",
        "--sizes",
        "1x16x1",
        "--context",
        "32",
        "--vocab-size",
        "300",
        "--seconds",
        "0.01",
        "--batch",
        "1",
    ]
    _try(lambda options: check([*usual, *options]), _options(COMMANDS["bench",]), 100)


@pytest.mark.parametrize("examples", SEVERAL)
def test_no_file_of_a_sweep_ends_in_a_traceback(examples: int, check: Check) -> None:
    def sweep(text: str) -> None:
        Path("sweep.toml").write_bytes(text.encode("utf-8", "surrogatepass"))
        check(
            [
                "sweep",
                "sweep.toml",
                "--dry-run",
                "--data",
                "counting.jsonl",
                "--tokenizer",
                "bpe:300",
            ]
        )

    _try(sweep, _toml(sweep_schema()), 3 * examples)


@pytest.mark.parametrize("examples", SEVERAL)
def test_no_table_of_runs_ends_in_a_traceback(examples: int, check: Check) -> None:
    def fit(drawn: tuple[str, list[str]]) -> None:
        text, command = drawn
        Path("odd.csv").write_text(text, encoding="utf-8")
        check([command[0], "odd.csv", *command[1:]])

    commands = st.sampled_from(
        [
            ["fit", "--bootstrap", "0"],
            ["fit", "--bootstrap", "20", "--law", "power-floor"],
            ["fit", "--bootstrap", "0", "--law", "chinchilla", "--json"],
            ["predict", "--bootstrap", "0", "-C", "1e20"],
        ]
    )
    _try(fit, st.tuples(_csv(), commands), 2 * examples)


@pytest.mark.parametrize("examples", SEVERAL)
def test_no_damaged_table_or_sweep_json_ends_in_a_traceback(
    examples: int, check: Check, repository: Path
) -> None:
    whole = repository / "results" / "cpu"
    names = ["sweep.json", "runs.parquet", "curves.parquet"]

    def look(drawn: tuple[str, tuple[str, float, bytes], list[str]]) -> None:
        name, damage, command = drawn
        shutil.rmtree("damaged", ignore_errors=True)
        shutil.copytree(whole, "damaged")
        path = Path("damaged") / name
        path.write_bytes(_damaged(path.read_bytes(), damage))
        check([command[0], "damaged", *command[1:]])

    commands = st.sampled_from(
        [
            ["status"],
            ["status", "--json", "--curves"],
            ["fit", "--bootstrap", "0"],
            ["fit", "--bootstrap", "0", "--checklist"],
            ["plot", "--kind", "curves", "-o", "x.svg"],
        ]
    )
    _try(look, st.tuples(st.sampled_from(names), _damage(), commands), 2 * examples)


def _try(check: Callable[[Any], None], drawn: st.SearchStrategy[Any], examples: int) -> None:
    """Try `examples` of what is `drawn`, the same ones every time."""
    phases = (Phase.generate,)  # what fails says itself what was tried
    chosen = settings(max_examples=examples, derandomize=True, database=None, phases=phases)
    chosen(given(drawn)(lambda example: check(example)))()


def _usual(command: tuple[str, ...]) -> list[str]:
    """The quickest sound call of a command, to which odd options are added."""
    text = ["counting.jsonl"]
    trained = [
        "--sizes",
        "10k",
        "--tokens",
        "100k",
        "--data",
        *text,
        "--tokenizer",
        "bpe:300",
        "--context",
        "32",
    ]
    trained += ["--device", "cpu", "--dtype", "float32", "--dry-run"]
    usual = {
        "sweep": trained,
        "tune": trained,
        "fit": ["runs.csv", "--bootstrap", "20"],
        "plot": ["runs.csv", "--bootstrap", "20", "-o", "x.svg"],
        "predict": ["runs.csv", "--bootstrap", "20", "--params", "1B", "--tokens", "20B"],
        "status": [os.fspath(Path(__file__).resolve().parents[1] / "results" / "cpu")],
        "shapes": ["10k", "--peak", "1T"],
        "inspect": text,
        "prepare": [*text, "--tokenizer", "bpe:300"],
    }
    return [*command, *usual.get(command[-1], [])]


@st.composite
def _options(draw: Any, command: Any) -> list[str]:
    """One to three options of a command, with values of any kind or such as its own help names."""
    known = [
        one
        for one in command.params
        if one.param_type_name == "option" and not LEFT_OUT & set(one.opts)
    ]
    words: list[str] = []
    for option in draw(
        st.lists(st.sampled_from(known), min_size=1, max_size=3, unique_by=lambda one: one.name)
    ):
        flag = draw(st.sampled_from([*option.opts, *option.secondary_opts]))
        words.append(flag)
        if not option.is_flag:
            named = [
                word for word in re.findall(r"[\w:.-]*\w", option.help or "") if word != "stdlib"
            ] or [""]
            words.append(draw(st.sampled_from(NUMBERS) | st.sampled_from(named) | VALUES))
    if command.name in ("fit", "predict", "plot"):
        words += ["--bootstrap", "0"]  # thousands of refits are no oddity
    return words


def _toml(schema: dict[str, Any]) -> st.SearchStrategy[str]:
    """A sweep's file with odd values, or a sound one with a few characters changed."""
    return st.one_of(
        _tables(schema),
        st.builds(_edited, st.just(_SOUND), st.lists(_EDIT, min_size=1, max_size=3)),
    )


_SOUND = """
sizes = ["10k", "30k"]
tokens = ["20x", "100k"]
[recipe]
context = 32
[recipes.muon]
optimizer = "muon"
[hardware]
device = "cpu"
dtype = "float32"
[hardware.slurm]
memory_gb = 1.5
"""
_EDIT = st.tuples(
    st.integers(0, len(_SOUND)),
    st.integers(0, 3),
    st.text(max_size=2) | st.sampled_from('[]"=\n.,'),
)


def _edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    for place, dropped, added in edits:
        text = text[:place] + added + text[place + dropped :]
    return text


_ODD = [
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "1" + "0" * 30,
    "9" * 5000,
    "true",
    '""',
    '"auto"',
    '"1e400"',
    '"20x"',
    '"é"',
]
_ODD += [
    "[]",
    "[[]]",
    '["10k", 5]',
    "{}",
    "{a = 1}",
    "2024-01-01",
    "0x10",
    "1.5",
    '"../x"',
    "'\\u0007'",
    '["1x16x1"]',
]


@st.composite
def _tables(draw: Any, schema: dict[str, Any]) -> str:
    lines = ['sizes = ["10k"]', 'tokens = "100k"']

    def table(heading: str, properties: dict[str, Any], most: int) -> None:
        if heading:
            lines.append(f"[{heading}]")
        inner = {key: value for key, value in properties.items() if value.get("type") == "object"}
        plain = [
            key
            for key in properties
            if key not in inner and (heading or key not in ("sizes", "tokens"))
        ]
        for key in (
            draw(st.lists(st.sampled_from(plain), max_size=most, unique=True)) if plain else ()
        ):
            allowed = [json.dumps(one) for one in properties[key].get("enum", [])]
            value = draw(st.sampled_from([*_ODD, *allowed, *allowed]))
            lines.append(f"{key} = {value}")
        for key, value in inner.items():
            if draw(st.booleans()):
                name = f"{heading}.{key}" if heading else key
                table(
                    f"{name}.odd" if key == "recipes" else name,
                    value.get("properties", {}) or _recipe(value),
                    2,
                )

    def _recipe(value: dict[str, Any]) -> dict[str, Any]:
        return (
            value.get("additionalProperties", {}).get("properties", {})
            if "additionalProperties" in value
            else {}
        )

    table("", schema["properties"], 2)
    return "\n".join(lines) + "\n"


_HEADINGS = [
    "N",
    "D",
    "loss",
    "C",
    "params",
    "run_id",
    "name",
    "status",
    "weight",
    "seed",
    "",
    "loss.1",
    "train_loss",
]
_CELLS = [
    "",
    "nan",
    "inf",
    "-1",
    "0",
    "1e400",
    "1e308",
    "1e-320",
    "abc",
    "1,5",
    "12M",
    "true",
    "2024-01-01",
    '"',
    "é",
    "٣",
]


@st.composite
def _csv(draw: Any) -> str:
    """A sound table with some headings and cells replaced, of few rows or many."""
    frame = _table().astype(str)
    rows = [list(frame.columns), *frame.to_numpy().tolist()]
    rows = rows[: 1 + draw(st.sampled_from([0, 1, 2, 5, len(rows)]))]
    for _ in range(draw(st.integers(0, 4))):
        row, column = draw(st.integers(0, len(rows) - 1)), draw(st.integers(0, len(rows[0]) - 1))
        rows[row][column] = draw(st.sampled_from(_CELLS if row else _HEADINGS))
    if draw(st.booleans()):
        column, cell = draw(st.integers(0, len(rows[0]) - 1)), draw(st.sampled_from(_CELLS))
        for line in rows[1:]:
            line[column] = cell
    return "\n".join(",".join(map(str, line)) for line in rows) + "\n"


def _damage() -> st.SearchStrategy[tuple[str, float, bytes]]:
    """How to damage a file: cut it, put other bytes into it, or another value into its JSON."""
    ways = st.sampled_from(["cut", "bytes", "value", "value", "key"])
    return st.tuples(ways, st.floats(0, 1), st.sampled_from(_BYTES))


_BYTES = [
    b"",
    b"\0" * 64,
    b"\xff",
    b"{",
    b"[]",
    b'"x"',
    b"null",
    b"5",
    b"-1",
    b"1e400",
    b"NaN",
    b'{"a": [1]}',
    b"[[]]",
]


def _damaged(content: bytes, damage: tuple[str, float, bytes]) -> bytes:
    way, place, other = damage
    if way == "cut":
        return content[: int(place * len(content))]
    try:
        tree, value = json.loads(content), json.loads(other)
    except ValueError:
        way = "bytes"
    if way == "bytes":
        at = int(place * len(content))
        return content[:at] + other + content[at + len(other) :] if other else b""
    spots = list(_spots(tree))
    holder, key = spots[int(place * (len(spots) - 1))]
    if way == "key" and isinstance(holder, dict):
        del holder[key]
    elif holder is None:
        tree = value
    else:
        holder[key] = value
    return json.dumps(tree).encode()


def _spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    """Every value of a JSON document, as what holds it and under which key; first the document
    itself.
    """
    waiting: list[Any] = [tree]
    yield None, None
    while waiting:
        holder = waiting.pop()
        pairs = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder))
        for key, value in pairs:
            yield holder, key
            if isinstance(value, dict | list):
                waiting.append(value)


def _table() -> pd.DataFrame:
    """Twelve runs of a law in N and D."""
    rows = [
        {
            "run_id": f"r{N:.0e}-{D:.0e}",
            "N": N,
            "D": D,
            "loss": round(1.8 + 420 / N**0.36 + 2100 / D**0.31, 4),
        }
        for N in (1e6, 4e6, 2e7, 1e8)
        for D in (1e8, 1e9, 1e10)
    ]
    return pd.DataFrame(rows)


def _no_number(name: str) -> None:
    raise AssertionError(f"{name} in what is said to be JSON")
