"""What commands show: text of files as data, commands that can be pasted, messages and tables that
fit a terminal.
"""

import io
import json
import os
import pty
import re
import shlex
import subprocess
import sys
import time
import xml.dom.minidom
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from rich.text import Text
from typer.testing import CliRunner

import llmscale
from llmscale.commands import _patience, app, output
from llmscale.commands._console import SafeConsole, in_encoding
from llmscale.commands._wrapping import wrapped_lines
from llmscale.commands.live import SweepProgress
from llmscale.commands.sweep import _on_laws
from llmscale.errors.command_lines import command_line, stated_command
from llmscale.errors.printable import clean, masked, one_line
from llmscale.runs.results_folder import ResultsFolder

HOSTILE = "[/red]\x1b]52;c;aGk=\x07\x1b[2J[link=http://x]y\u202e\n$ rm \x9b31m"
STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments))


def runs(**columns: Any) -> pd.DataFrame:
    """Fifteen runs of a law, with further columns."""
    rng = np.random.default_rng(0)
    rows = [
        (n, d, 1.7 + 40 / n**0.34 + 410 / d**0.28)
        for n in np.geomspace(1e5, 1e7, 5)
        for d in (1e7, 3e7, 1e8)
    ]
    frame = pd.DataFrame(rows, columns=["params", "tokens", "loss"])
    frame["loss"] *= np.exp(rng.normal(0, 1e-3, len(frame)))
    return frame.assign(run_id=[f"r{number}" for number in range(len(frame))], **columns)


@pytest.mark.parametrize("kind", ["groups", "plot", "refused"])
def test_names_in_a_table_are_shown_as_data(kind: str, tmp_path: Path) -> None:
    table = tmp_path / "a b$(touch pwned)[bold]\x1b[2J.csv"
    groups = [HOSTILE] * 7 + ["b[/x]"] * 8
    runs(group=groups).assign(run_id=[f"{HOSTILE}{number}" for number in range(15)]).to_csv(
        table, index=False
    )
    arguments = {
        "groups": ["fit", str(table), "--bootstrap", "0", "--by", "group"],
        "plot": [
            "plot",
            str(table),
            "--bootstrap",
            "0",
            "-o",
            str(tmp_path / "[/x].svg"),
            "--kind",
            "residuals",
        ],
        "refused": ["fit", str(table), "--columns", "loss=[/red]\x1b[2J"],
    }[kind]
    result = run(*arguments)
    assert result.exit_code == (2 if kind == "refused" else 0), result.output
    assert not STEERING.search(result.output)
    if kind == "groups":
        assert "[/red]]52;c;aGk=[link=http://x]y $ rm" in result.stdout
    if kind == "plot":
        assert xml.dom.minidom.parse(str(tmp_path / "[/x].svg"))


def test_after_a_sweep_of_several_recipes_one_of_them_is_drawn(tmp_path: Path) -> None:
    table = tmp_path / "runs.csv"
    recipes = ["half code", *["prose"] * 6, *["half code"] * 8]
    frame = runs(recipe=recipes)
    frame.to_csv(table, index=False)
    trained = [SimpleNamespace(recipe=row.recipe, loss=row.loss) for row in frame.itertuples()]
    result: Any = SimpleNamespace(where=str(table), runs=trained)
    fit, plot = _on_laws(result)
    assert fit == ["fit", "--by", "recipe"]
    verb, *options = plot
    drawn = run(verb, str(table), *options, "--bootstrap", "0", "--json", "-o", f"{tmp_path}/a.svg")
    assert json.loads(drawn.stdout)["n_runs"] == recipes.count("half code")
    assert "mixed" not in drawn.stderr


def test_the_command_after_a_fit_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "-x$(touch pwned) b.csv"
    runs().to_csv(tmp_path / name, index=False)
    result = run("fit", "--bootstrap", "0", "--law", "chinchilla", "--", name)
    step = result.stdout.splitlines()[-1].removeprefix("next: ")
    words = subprocess.run(
        ["bash", "-c", f"printf '%s\\n' {step}"], capture_output=True, text=True, check=True
    )
    arguments = words.stdout.splitlines()
    assert arguments[:2] == ["llmscale", "plot"]
    assert run(*arguments[1:], "--bootstrap", "0").exit_code == 0
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        (
            "llmscale sweep --sizes '10k,20k' --out 'a b'",
            "llmscale sweep --sizes 10k,20k --out 'a b'",
        ),
        ("llmscale tune --sizes 10k", "llmscale tune --sizes 10k"),
        (
            "llmscale sweep --sizes 10k --out s3://key:secret@b/x",
            "llmscale sweep --sizes 10k --out 's3://***@b/x'",
        ),
        ("rm -rf ~", None),
        ("llmscale sweep --sizes 1M; rm -rf ~", None),
        ("llmscale sweep $(curl x)", None),
        ("llmscale sweep --sizes 1M | sh", None),
        ("llmscale sweep --sizes 1M\nrm -rf ~", None),
        ("llmscale sweep --sizes \x1b]52;c;aGk=\x07", None),
        ("llmscale sweep 'a", None),
        ("llmscale doctor", None),
        (["llmscale", "sweep"], None),
        (None, None),
    ],
)
def test_a_stated_command_is_quoted_anew_or_not_shown(stated: object, shown: str | None) -> None:
    assert stated_command(stated, "sweep", "tune") == shown


def test_parts_of_a_command_are_quoted_for_the_shell() -> None:
    parts = ["llmscale", "fit", Path("-x y.csv"), "--by", "[a]$(b)", Path("c\x1b'\udcff")]
    line = command_line(*parts)
    assert not STEERING.search(line)
    read = subprocess.run(
        ["bash", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True
    ).stdout
    assert read.split(b"\0")[:-1] == [os.fsencode(str(part)) for part in parts[:2]] + [
        b"./-x y.csv", b"--by", b"[a]$(b)", b"c\x1b'\xff",
    ]  # fmt: skip


def test_what_would_steer_a_terminal_is_left_out() -> None:
    assert clean("a\x1b[31mb\x1b]0;t\x07c\u202ed\x9b2Je\x00\x85") == "ab]0;tcde"
    assert clean("lines\nand\ttabs, é, 漢字, ∝") == "lines\nand\ttabs, é, 漢字, ∝"
    assert one_line("a\r\nb\tc\u2028d") == "a b c d"
    assert clean("\udcff") == "\ufffd"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://key:secret@bucket/x", "s3://***@bucket/x"),
        ("s3://key:se/cr+et@bucket/x", "s3://***@bucket/x"),
        ("https://token@host/x", "https://***@host/x"),
        ("sftp://u:p@host:22/a@b", "sftp://***@host:22/a@b"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("abfs://container@account.dfs/x", "abfs://container@account.dfs/x"),
        ("https://a.blob/x?sv=1&sig=abc", "https://a.blob/x?***"),
        ("https://b/x?X-Amz-Signature=1", "https://b/x?***"),
        ("https://b/x?token=t", "https://b/x?***"),
        ("https://b/x?versionId=2", "https://b/x?versionId=2"),
        ("hf://datasets/u/x@main", "hf://datasets/u/x@main"),
    ],
)
def test_keys_of_urls_are_masked(url: str, shown: str) -> None:
    assert masked(f"cannot reach '{url}' now") == f"cannot reach '{shown}' now"


def test_keys_in_a_url_are_neither_shown_nor_written(tmp_path: Path) -> None:
    pytest.importorskip("fsspec")
    from llmscale.runs.remote import Remote, url_of

    remote = Remote("memory://user:secret@host/x", tmp_path / "mirror")
    remote.folder.mkdir()
    (remote.folder / "sweep.json").write_text("{}")
    remote.push()
    assert "secret" not in remote.url
    assert "secret" not in (remote.folder / ".remote.json").read_text()
    assert "secret" not in str(url_of(remote.folder))
    result = run("fit", "memory://user:secret@host/y", "--json")
    assert result.exit_code == 2
    assert "secret" not in result.output
    assert "memory://***@host/y" in result.stderr
    assert result.stderr.count("keys in URLs are shown and written as ***") == 1


def test_messages_end_at_words_and_commands_stay_whole() -> None:
    text = (
        "there are only 3 budgets. Add budgets: llmscale sweep --sizes 1M,3M,10M,30M --tokens "
        "5x,20x,80x; or more"
    )
    lines = wrapped_lines(text, 60, 9)
    assert max(map(len, lines)) <= 60
    assert "         llmscale sweep --sizes 1M,3M,10M,30M \\" in lines
    joined = " ".join(line.strip() for line in lines).replace(" \\ ", " ")
    assert joined == text
    assert wrapped_lines("fit again: llmscale fit x.csv --law all", 30) == [
        "fit again:",
        "llmscale fit x.csv --law all",
    ]
    cited = Text("chinchilla: as fitted to 40 runs of Hoffmann et al.")
    console = SafeConsole(stderr=False)
    console.width = 30
    assert console.hanging(cited).plain == "chinchilla: as fitted to 40\n  runs of Hoffmann et al."
    signed = "it would be 0.00623 [-0.00171, 0.0142] lower"
    assert wrapped_lines(signed, 32) == ["it would be 0.00623", "[-0.00171, 0.0142] lower"]


def _in_terminal(width: int, *arguments: str) -> str:
    """What a terminal of so many columns is sent."""
    own, its = pty.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | {
        "TERM": "xterm"
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "llmscale", *arguments],
        stdin=its,
        stdout=its,
        stderr=its,
        env=environment,
    )
    os.close(its)
    content = b""
    while True:
        try:
            part = os.read(own, 65536)
        except OSError:  # how Linux says that nobody writes any more
            break
        if not part:
            break
        content += part
    os.close(own)
    process.wait()
    return content.decode(errors="replace").replace("\r\n", "\n")


def test_an_error_in_a_terminal_of_80_columns_hangs_under_its_label(tmp_path: Path) -> None:
    shown = _in_terminal(
        80, "fit", str(tmp_path / "none.csv"), "--law", "chinchilla", "--bootstrap", "0"
    )
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown.rpartition("\r\x1b[K")[2])
    error, fix = plain.split("  fix: ")
    assert error.startswith("error: there is no file")
    first, second = fix.strip("\n").split("\n")
    assert len(first) < 80
    assert second.startswith("       ")


def test_a_table_in_80_columns_is_not_cut() -> None:
    headings = (
        "size",
        "N",
        "tokens",
        "lr",
        "x rule",
        "rule's loss",
        "batch",
        "loss",
        "trials",
        "stopped",
        "bracketed",
    )
    table = output.make_table("a" * 90, *headings)
    for row in range(3):
        table.add_row(
            f"300k recipe-{row}", *(f"{row}.{place:04d}" for place in range(9)), "not in lr, batch"
        )
    for width in (40, 80, 200):
        console = Console(file=io.StringIO(), width=width)
        console.print(table)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        lines = shown.splitlines()
        assert max(map(len, lines)) <= width
        rows = [line for line in lines if "recipe" in line]
        assert len(rows) == 3, "a row is one line"
        left_out = " ".join(shown.partition("no room for: ")[2].split()).partition(" (see")[0]
        for row, line in enumerate(rows):
            for place, heading in enumerate(headings[1:-1]):
                told = f"{row}.{place:04d}" in line
                assert told != (heading in left_out.split(", ")), (heading, line)
    assert not left_out, "a wide terminal has room for all"


@pytest.mark.parametrize("in_terminal", [True, False])
def test_a_silence_is_broken_by_what_goes_on(
    in_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stream(io.StringIO):
        def isatty(self) -> bool:
            return in_terminal

    monkeypatch.setattr(_patience, "SILENCE", 0.0)
    stream = Stream()
    patience = _patience.Patience(stream)
    patience.doing = "fitting power"
    patience.start()
    for _ in range(50):
        if "fitting" in stream.getvalue():
            break
        time.sleep(0.05)
    patience.stop()
    said = stream.getvalue()
    if in_terminal:
        assert said == "\r\x1b[Kfitting power ... 0 s\r\x1b[K", "the line goes away"
    else:
        assert said == "fitting power ...\n"
    time.sleep(0.3)
    assert stream.getvalue() == said


def test_refits_that_take_long_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    N, D = (axis.ravel() for axis in np.meshgrid([1e7, 3e7, 1e8], [1e9, 3e9, 1e10]))
    runs = {"params": N, "tokens": D, "loss": 1.8 + 420 / N**0.35 + 2000 / D**0.36}
    with caplog.at_level("DEBUG", logger="llmscale.explain"):
        llmscale.fit(runs, law="chinchilla", bootstrap=100, holdout="none", diagnostics=False)
    assert re.search(r"refitting, \d+ of 100 done", caplog.text)


def test_headings_are_folded_into_lines_as_long_as_their_longest_word() -> None:
    table = output.make_table("", "size", "1 - accuracy")
    table.add_row("10M", "0.4")
    console = Console(file=io.StringIO(), width=14)
    console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert [line.split() for line in shown.splitlines()[:2]] == [["1", "-"], ["size", "accuracy"]]


def test_a_pipe_is_not_written_over(tmp_path: Path) -> None:
    pipe = tmp_path / "plan.png"
    os.mkfifo(pipe)
    asked = ["plan", "--published", "-C", "1e22", "--out", str(pipe)]
    shown = CliRunner().invoke(app, asked)
    assert (shown.exit_code, shown.stdout) == (2, "")
    assert "is a pipe or a device" in " ".join(shown.stderr.split())
    assert pipe.is_fifo()


def test_the_least_important_columns_are_left_out_first() -> None:
    table = output.make_table("", "size", "80% interval", "MFU", "loss", least=("MFU",))
    table.add_row("a-name-of-thirty-letters-at-the-end", "-", "0.123456", "3.14159")
    console = Console(file=io.StringIO(), width=30)
    console.print(table)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "3.14159" in shown
    assert "no room for: MFU (see" in " ".join(shown.split())
    assert "interval" not in shown, "a column that holds nothing goes without a word"
    assert re.search(r"a-name-of-\S*…\S*end", shown), "a name is cut in its middle"


@pytest.mark.parametrize(("redirect", "code", "said"), [
    (">/dev/full", 1, "standard output cannot be written: No space left on device"),
    (">&-", 1, "standard output is closed"),
    ("| true", 141, ""),
    ("2>/dev/full", 0, ""),
    ("2>&-", 0, ""),
])  # fmt: skip
def test_output_that_cannot_be_written_is_one_sentence(redirect: str, code: int, said: str) -> None:
    if redirect == ">/dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = (
        f"{shlex.quote(sys.executable)} -m llmscale --help {redirect}; exit ${{PIPESTATUS[0]}}"
    )
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    assert said in result.stderr
    assert bool(result.stderr) == bool(said)


def test_an_encoding_without_the_signs_gets_others() -> None:
    assert in_encoding("│⣀⣀ a∝b é", "ascii") == "|** a~b ?"
    assert in_encoding("│⣀⣀ é", "utf-8") == "│⣀⣀ é"


def test_a_long_option_is_cut_in_a_message(tmp_path: Path) -> None:
    runs().to_csv(tmp_path / "a.csv", index=False)
    result = run("fit", str(tmp_path / "a.csv"), "--method", "x" * 100_000)
    assert result.exit_code == 2
    assert 1000 < len(result.stderr) < 3000
    assert "letters left out" in result.stderr


def test_any_title_is_drawn(tmp_path: Path) -> None:
    runs().to_csv(tmp_path / "a.csv", index=False)
    file = tmp_path / "a.svg"
    title = "\n".join(
        [r"$\frac{$", "a\x1b]0;x\x07 & <b> -- c", "5$ and $6", "$漢$", "$L(N)$", "漢"]
    )
    result = run(
        "plot", str(tmp_path / "a.csv"), "--bootstrap", "0", "--title", title, "-o", str(file)
    )
    assert result.exit_code == 0, result.output
    words = xml.dom.minidom.parse(str(file)).getElementsByTagName("text")
    text = "".join(
        word.firstChild.data for word in words if isinstance(word.firstChild, xml.dom.minidom.Text)
    )
    assert r"$\frac{$" in text
    assert "a]0;x & <b> -- c" in text
    assert not STEERING.search(file.read_text(encoding="utf-8"))
    assert "Warning" not in result.stderr


def test_a_line_of_progress_is_printed_while_nothing_else_draws_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan: Any = SimpleNamespace(runs=(), places=(), peak_flops=0.0)
    shown = SweepProgress(plan, ResultsFolder(tmp_path))
    shown._terminal = True
    drawn = []

    def printing(line: str) -> None:
        other = ThreadPoolExecutor(1).submit(shown._live._lock.acquire, blocking=False)
        drawn.append((line, other.result()))

    monkeypatch.setattr(shown._live.console, "print", printing)
    shown._say("done")
    assert drawn == [("done", False)]
