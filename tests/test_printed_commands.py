"""Commands that llmscale prints, as a fix, a warning or the next step: each of them runs, and
helps.
"""

import ast
import json
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from sweeps import write_counting
from typer.testing import CliRunner

from llmscale.commands import app
from llmscale.explain.estimation import advice
from llmscale.measure.train import calibrate
from llmscale.quantity import parse_count

SOURCE = Path(__file__).resolve().parents[1] / "llmscale"
PROGRAM: Any = typer.main.get_command(app)
FOREIGN = {"--head", "--me", "--standalone"}
"""Options of other programs that messages name."""
HOLE = "{}"
"""What stands in a message for a value that is filled in."""
OWN_LAW = """
from dataclasses import dataclass
from llmscale.explain.laws import Law

@dataclass(frozen=True)
class MyLaw(Law):
    E: float
    A: float
    alpha: float
    inputs = ("params",)
    floor = "E"

    def loss(self, N):
        return self.E + self.A / N**self.alpha
"""


def _text(node: ast.AST) -> str | None:
    """The text of a literal, with holes for what is filled in; None if it is none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) or HOLE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left), _text(node.right)
        return None if left is None and right is None else (left or HOLE) + (right or HOLE)
    return None


@cache
def _sources() -> list[tuple[Path, list[ast.AST]]]:
    paths = sorted(SOURCE.rglob("*.py"))
    return [(path, list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))) for path in paths]


def _literals() -> Iterator[tuple[str, str]]:
    """Where each text of a message stands, and the text; a call of `command_line` as the command it
    makes.
    """
    for path, nodes in _sources():
        docs = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            text = None if id(node) in docs else _text(node)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "command_line":
                text = " ".join(_text(word) or HOLE for word in node.args)
            if text:
                yield f"{path.name}:{getattr(node, 'lineno', 0)}", text


def _commands(text: str) -> list[list[str]]:
    """The words of every command in a text.

    One ends with its clause: at ; , : ) or a backtick, or before a bracket.
    """
    found = []
    for start in re.finditer(r"llmscale (?=[a-z]+\b)", text):
        rest = re.match(
            r"""(?:'[^']*'|"[^"]*"|[^\s'"`;,:()]|[,:;](?=\S)| (?!\())*""", text[start.end() :]
        )
        assert rest is not None
        words = shlex.split(rest.group().rstrip(" .,:;"))
        if words and words[0] in PROGRAM.commands:
            found.append(words)
    return found


def _options(verb: str) -> set[str]:
    command = PROGRAM.commands[verb]
    every = [command, *getattr(command, "commands", {}).values()]
    return {
        flag
        for one in every
        for parameter in one.params
        for flag in (*parameter.opts, *parameter.secondary_opts)
    }


def test_every_command_in_a_message_has_the_options_that_it_is_given() -> None:
    seen = 0
    for place, text in _literals():
        for verb, *words in _commands(text):
            used = {word for word in words if re.match(r"--?[a-zA-Z]", word)}
            assert used <= _options(verb), (
                f"{place}: llmscale {verb} has no {used - _options(verb)}"
            )
            if verb in ("sweep", "tune") and used and HOLE not in words[0]:
                assert used & {"--sizes", "--flops"}, f"{place}: {verb} needs sizes: {words}"
            seen += 1
    assert seen > 25


def test_every_option_in_a_message_is_one_of_some_command() -> None:
    known = set().union(*map(_options, PROGRAM.commands)) | FOREIGN
    for path, nodes in _sources():
        for node in nodes:
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in (
                "InputError",
                "WorkError",
                "Note",
            ):
                for text in filter(None, map(_text, node.args)):
                    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
                    assert named <= known, f"{path.name}:{node.lineno} names {named - known}"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with a text to train on; nothing measures this machine."""
    write_counting(tmp_path)
    (tmp_path / "mine.py").write_text(OWN_LAW, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    speeds = calibrate.Speeds(1e10, ((1e5, 1e9), (1e6, 2e9)))
    monkeypatch.setattr(calibrate, "measure_speeds", lambda *_: speeds)
    monkeypatch.setattr(advice, "_FLOPS_A_CORE", 1e18)  # which trains any size in a day
    return tmp_path


def _write(
    name: str,
    sizes: list[float],
    tokens: list[float] | None = None,
    ratio: float = 0,
    own: bool = False,
    **more: Any,
) -> str:
    """A table of a law in N and D with a little noise, on a grid, or with `ratio` tokens a
    parameter.
    """
    rng = np.random.default_rng(0)
    pairs = [(N, D) for N in sizes for D in tokens or [ratio * N]]
    N, D = (np.array(values) for values in zip(*pairs, strict=True))
    loss = (1.8 + 420 / N**0.36 + 2100 / D**0.31) * (1 + 2e-3 * rng.standard_normal(len(N)))
    columns = more.pop("columns", ("params", "tokens", "loss"))
    frame = pd.DataFrame(dict(zip(columns, (N, D, loss), strict=True)))
    if own:
        frame = frame.assign(**OWN, run_id=[f"r{row}" for row in range(len(N))])
        frame["params_non_embedding"] = frame["params_total"] = N
    for key, values in more.items():
        frame[key] = [values[row % len(values)] for row in range(len(frame))]
    frame.to_csv(name, index=False)
    return name


OWN = {"batch_tokens": 2048, "schedule": "wsd", "dtype": "float32"}
"""What a sweep's own table has beside N, D and the loss."""
MILLION = [1e6, 2e6, 5e6, 1e7, 3e7]
BUDGETS = [1e8, 5e8, 2e9]
SIZES = [1e7, 2e7, 5e7, 1e8, 3e8]
"""Whose losses with 20 tokens a parameter are below ln of a vocabulary."""
SCENARIOS: dict[str, Any] = {
    "an own law": lambda: [
        "fit",
        _write("t.csv", MILLION, [1e9], own=True),
        "--law",
        "./mine.py:MyLaw",
    ],
    "an own law without its name": lambda: [
        "fit",
        _write("t.csv", MILLION, [1e9], own=True),
        "--law",
        "mine.py",
    ],
    "columns of other names": lambda: [
        "fit",
        _write("odd 'name'.csv", MILLION, BUDGETS, columns=("size it has", "seen", "final loss")),
        "--columns",
        "params=size it has,tokens=seen,loss=final loss",
    ],
    "a filter": lambda: [
        "fit",
        _write("t.csv", MILLION, BUDGETS, data=["web", "code"], own=True),
        "--where",
        "data == web",
    ],
    "one budget": lambda: ["fit", _write("t.csv", MILLION, [1e9], own=True)],
    "chinchilla on one budget": lambda: [
        "fit",
        _write("t.csv", MILLION, [1e9], own=True),
        "--law",
        "chinchilla",
    ],
    "chinchilla on one ratio": lambda: [
        "fit",
        _write("t.csv", SIZES, ratio=20, own=True),
        "--law",
        "chinchilla",
    ],
    "chinchilla on five runs": lambda: [
        "fit",
        _write("t.csv", [1e6, 3e6, 1e7], [1e9], own=True),
        "--law",
        "chinchilla",
    ],
    "tokens that follow size": lambda: ["fit", _write("t.csv", SIZES, ratio=20, own=True)],
    "several budgets in a law of size": lambda: [
        "fit",
        _write("t.csv", MILLION, BUDGETS, own=True),
        "--law",
        "power",
    ],
    "two sizes": lambda: [
        "fit",
        _write("t.csv", [1e6, 2e6], [1e9], own=True),
        "--law",
        "power-floor",
    ],
    "three sizes": lambda: ["fit", _write("t.csv", [1e6, 2e6, 4e6], [1e9], own=True)],
    "a narrow range of sizes": lambda: [
        "fit",
        _write("t.csv", [1e8, 2e8, 3e8, 4e8], [1e9, 1e10, 1e11], own=True),
    ],
    "a narrow range of tokens": lambda: [
        "fit",
        _write("t.csv", MILLION, [1e9, 2e9, 4e9], own=True),
    ],
    "mixed data": lambda: [
        "fit",
        _write("t.csv", MILLION, BUDGETS, data=["web", "its code"], own=True),
    ],
    "one learning rate": lambda: [
        "fit",
        _write("t.csv", MILLION, BUDGETS, lr=[0.01], steps=[100], own=True),
    ],
    "a figure of profiles that are not there": lambda: [
        "plot",
        _write("t.csv", MILLION, BUDGETS, own=True),
        "--kind",
        "isoflop",
    ],
    "a contour without a law in both": lambda: [
        "plot",
        _write("t.csv", MILLION, [1e9], own=True),
        "--kind",
        "contour",
    ],
    "an unknown figure": lambda: [
        "plot",
        _write("t.csv", MILLION, [1e9], own=True),
        "--kind",
        "scalings",
    ],
    "a budget and a law in size": lambda: [
        "predict",
        _write("t.csv", MILLION, [1e9], own=True),
        "-C",
        "1e21",
    ],
    "half of what a law takes": lambda: [
        "predict",
        _write("t.csv", MILLION, BUDGETS, own=True),
        "--tokens",
        "1e9",
    ],
    "no question": lambda: ["predict", _write("t.csv", MILLION, BUDGETS, own=True)],
    "no sizes": lambda: ["sweep"],
    "no sizes to tune": lambda: ["tune"],
    "half a shape": lambda: ["sweep", "--sizes", "1x16"],
    "no results": lambda: ["fit"],
    "the laws": lambda: ["laws"],
}
TRAINING = [
    "--data",
    "counting.jsonl",
    "--tokenizer",
    "bpe:300",
    "--context",
    "32",
    "--device",
    "cpu",
]
TRAINING += ["--dtype", "float32", "--dry-run"]


QUICK: tuple[str, ...] = (
    "an own law",
    "columns of other names",
    "chinchilla on one budget",
    "no question",
    "no sizes",
    "no results",
)
QUICK += (
    "a figure of profiles that are not there",
    "half a shape",
    "half of what a law takes",
    "two sizes",
)
EACH = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in SCENARIOS]


@pytest.mark.parametrize("scenario", EACH)
def test_every_command_that_is_printed_runs(scenario: str, place: Path) -> None:
    first = SCENARIOS[scenario]()
    printed = _printed(_cheaply(first))
    assert printed or scenario in (
        "half a shape",
        "an unknown figure",
        "half of what a law takes",
    ), first
    _write("FILE", MILLION, BUDGETS)
    for words in printed:
        usable = [_filled(word, first) for word in words]
        if "all" in words:  # every law takes long, and suits any table
            _parse(usable)
            continue
        result = _cheaply(usable)
        assert result.exit_code == 0, (
            f"{shlex.join(first)}\nprinted {shlex.join(words)}\n{result.output}"
        )


def _cheaply(words: list[str]) -> Any:
    """Run a command, with few refits and without training."""
    more = {"sweep": TRAINING, "tune": TRAINING}.get(words[0], [])
    if words[0] in ("fit", "plot", "predict") and "--bootstrap" not in words:
        more = ["--bootstrap", "0"]
    return CliRunner().invoke(app, [*words, *more])


def _parse(words: list[str]) -> None:
    context = PROGRAM.commands[words[0]].make_context("llmscale", words[1:])
    assert context.args == []


def _printed(result: Any) -> list[list[str]]:
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return [words for line in result.output.splitlines() for words in _commands(line)]


def _filled(word: str, first: list[str]) -> str:
    """What a reader puts in for TABLE: the table that was asked about, or any."""
    table = next((one for one in first if one.endswith(".csv")), "FILE")
    return table if word == "TABLE" else word


OWN_NAMES = ("size it has", "seen", "final loss")
LADDERS: dict[str, Any] = {
    "one ratio": lambda: _write("t.csv", SIZES, ratio=20, columns=OWN_NAMES),
    "one number of tokens": lambda: _write("t.csv", SIZES, [1e9], columns=OWN_NAMES),
    "one size": lambda: _write("t.csv", [1e7], [3e8, 1e9, 3e9, 1e10], columns=OWN_NAMES),
}
READING = ["--columns", "params=size it has,tokens=seen,loss=final loss"]
ASKED_OF_LADDERS = (
    ["plan", "--flops", "1e20"],
    ["plan", "--flops", "1e20", "--law", "all"],
    ["plan", "--loss", "3", "--law", "power-floor"],
    ["advise", "--flops", "1e20"],
    ["advise", "--flops", "1e20", "--law", "power-floor"],
    ["next", "--budget", "1e19", "--target", "1e20", "--law", "power-floor"],
    ["explore", "--out", "page.html"],
    ["explore", "--out", "page.html", "--law", "power-floor"],
    ["predict", "--flops", "1e20"],
    ["predict", "--flops", "1e20", "--law", "power-floor"],
)


@pytest.mark.parametrize("ladder", LADDERS)
def test_a_plan_along_a_ladder_names_the_forecast_that_the_ladder_tells(
    ladder: str, place: Path
) -> None:
    table, followed = LADDERS[ladder](), set()
    for verb, *options in ASKED_OF_LADDERS:
        if ladder == "one size" and "power-floor" in options:
            continue  # a law of size is refused before: it takes more sizes
        refused = CliRunner().invoke(app, [verb, table, *READING, *options])
        assert refused.exit_code == 2, refused.output
        (words,) = _printed(refused)
        followed.add(tuple(words))
    for forecast in followed:
        told = _cheaply([*forecast, "--json"])
        assert told.exit_code == 0, told.output
        assert "flops" in json.loads(told.stdout)["predictions"][0]


def test_a_law_in_one_variable_is_sent_to_one_that_the_table_tells(place: Path) -> None:
    table = _write("t.csv", [3e6, 1e7, 3e7, 1e8], [1e8, 1e9, 1e10])
    for verb, *options in ASKED_OF_LADDERS:
        if "power-floor" not in options:
            continue
        refused = CliRunner().invoke(app, [verb, table, *options])
        assert refused.exit_code == 2, refused.output
        assert "--law chinchilla" in refused.stderr.partition("fix:")[2]
    assert _cheaply(["predict", table, "--flops", "1e20", "--law", "chinchilla"]).exit_code == 0


def test_recipes_of_a_ladder_are_compared_along_it_as_is_said(place: Path) -> None:
    tables = [_write(f"{name}.csv", SIZES, ratio=20) for name in ("a", "b")]
    refused = CliRunner().invoke(app, ["compare", *tables, "--law", "chinchilla"])
    assert "leave --law out" in refused.stderr
    assert CliRunner().invoke(app, ["compare", *tables]).exit_code == 0


def test_sizes_and_budgets_to_measure_follow_from_the_runs_that_are_there(place: Path) -> None:
    narrow = _cheaply(["fit", _write("t.csv", [1e8, 2e8, 3e8, 4e8], [1e9, 1e10, 1e11], own=True)])
    (words,) = _commands(
        next(line for line in narrow.stderr.splitlines() if "factor of 4 in params" in line)
    )
    sizes = [parse_count(size) for size in words[words.index("--sizes") + 1].split(",")]
    assert max(sizes) <= 3 * 4e8
    assert max(sizes) >= 10 * min(sizes)

    tokens = _cheaply(["fit", _write("t.csv", MILLION, [1e9, 2e9, 4e9], own=True)])
    (words,) = _commands(
        next(line for line in tokens.stderr.splitlines() if "factor of 4 in tokens" in line)
    )
    budgets = [parse_count(budget) for budget in words[words.index("--tokens") + 1].split(",")]
    assert max(budgets) == 4e9
    assert max(budgets) >= 10 * min(budgets)


def test_runs_to_measure_are_a_command_only_for_who_can_train_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(own: bool) -> str:
        table = _write("t.csv", MILLION, [1e9], own=own)
        return str(_cheaply(["fit", table, "--law", "chinchilla"]).stderr)

    assert "llmscale sweep --sizes 1M,3.1M,9.7M,30M --tokens 33M,100M,320M,1B" in said(True)
    in_words = "N = 1M, 3.1M, 9.7M, 30M, each on D = 33M, 100M, 320M, 1B tokens"
    assert f"runs at {in_words}" in said(False), "who has only a table adds to it by no sweep"
    monkeypatch.setattr(advice, "_FLOPS_A_CORE", 1e10)
    elsewhere = f"runs at non-embedding {in_words}"  # as --sizes counts
    assert elsewhere in said(True), "what takes days here is trained elsewhere"


def test_a_fix_names_only_options_that_the_command_has(place: Path) -> None:
    for words in (
        SCENARIOS["a figure of profiles that are not there"](),
        SCENARIOS["half of what a law takes"](),
    ):
        fix = _cheaply(words).stderr.partition("fix:")[2]
        alone = re.sub(r"llmscale [^;]*", "", fix)
        assert set(re.findall(r"--[a-z-]+", alone)) <= _options(words[0])
    assert "--params and --tokens" in _cheaply(SCENARIOS["half of what a law takes"]()).stderr
    assert "6x384x6" in _cheaply(["sweep", "--sizes", "1x16"]).stderr
