"""What the steps have found, as tables: on the terminal, and as README.md of the results."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gpu import Row
from llmscale.quantity import format_bytes, format_count, format_seconds

CORRECTNESS = "correctness"
_TEXT_COLUMNS = 1
_KERNELS_SHOWN = 10


@dataclass(frozen=True)
class Part:
    """A table with a title, and sentences below it."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()


def parts(steps: Mapping[str, Row]) -> list[Part]:
    """The tables of a journal, given as the last line of each step."""
    found = [
        _hardware(steps),
        _correctness(steps),
        _peaks(steps),
        _speeds(steps),
        _profiles(steps),
        _sweep(steps),
    ]
    return [part for part in [*found, _ladder(steps), _steps(steps)] if part.rows]


def is_correct(steps: Mapping[str, Row]) -> bool:
    """Whether no row of correctness has failed, nor a whole step of them."""
    mine = [line for name, line in steps.items() if _kind(name) == CORRECTNESS]
    ended = all(line["status"] in ("done", "skipped", "interrupted") for line in mine)
    return ended and all(row.get("passed", True) for line in mine for row in line.get("rows", []))


def show(console: Console, found: Sequence[Part]) -> None:
    for part in found:
        table = Table(
            title=part.title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        for place, heading in enumerate(part.headings):
            table.add_column(heading, justify="left" if place < _TEXT_COLUMNS else "right")
        for row in part.rows:
            table.add_row(*map(escape, row))
        console.print(table)
        for note in part.notes:
            console.print(escape(note), soft_wrap=True)
        console.print()


def markdown(steps: Mapping[str, Row], found: Sequence[Part], command: str) -> str:
    """README.md of the results."""
    hardware = next(iter(_rows(steps, "hardware")), {})
    lines = [
        f"# {hardware.get('device', 'A device')}, measured by experiments/gpu_check.py",
        "",
        f"    {command}",
        "",
    ]
    for part in found:
        lines += [f"## {part.title}", ""]
        lines.append(f"| {' | '.join(map(_cell, part.headings))} |")
        lines.append(
            f"|{' --- |' * _TEXT_COLUMNS}{' ---: |' * (len(part.headings) - _TEXT_COLUMNS)}"
        )
        lines += [f"| {' | '.join(map(_cell, row))} |" for row in part.rows]
        lines += ["", *(note + "\n" for note in part.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _hardware(steps: Mapping[str, Row]) -> Part:
    found: Row = {}
    for row in _rows(steps, "hardware"):
        found |= row
    queried = [name.strip() for name in str(found.get("queried", "")).split(",") if name]
    answer = [value.strip() for value in str(found.get("answer", "")).split(",") if value]
    shown = {
        name: found.get(name)
        for name in ("device", "memory_bytes", "host", "cores", "host_memory_bytes")
    }
    shown |= {name: found.get(name) for name in ("system", "python", "torch", "cuda", "cudnn")}
    shown |= found.get("packages", {})
    shown |= {"llmscale": found.get("llmscale"), "commit": found.get("commit")}
    shown |= dict(zip(queried, answer, strict=False))
    rows = [(name.replace("_", " "), _value(name, value)) for name, value in shown.items() if value]
    return Part("Machine", ("", ""), tuple(rows) if found else ())


def _correctness(steps: Mapping[str, Row]) -> Part:
    rows = []
    for row in _rows(steps, CORRECTNESS):
        if "not_here" in row:
            rows.append((row["check"], "", "", row["not_here"]))
            continue
        result = "ok" if row["passed"] else "FAILED"
        difference = (
            row.get("found", "") if row.get("difference") is None else f"{row['difference']:.1e}"
        )
        allowed = f"{row['allowed']:.0e}" if row.get("allowed") is not None else ""
        rows.append((row["check"], difference, allowed, f"{result} {row.get('error', '')}".strip()))
    note = (
        "Gradients and weights: norm of the difference as a share of the norm. Losses: a share; "
        "of stacks, nats."
    )
    return Part("Correctness", ("", "difference", "allowed", ""), tuple(rows), (note,))


def _peaks(steps: Mapping[str, Row]) -> Part:
    rows = []
    later = {row["peak"]: row for name, row in _named_rows(steps, "peaks") if name != "peaks"}
    for row in _rows(steps, "peaks", exact=True):
        again = later.get(row["peak"], {})
        rows.append((row["peak"], _peak(row), _spread(row), _peak(again)))
    return Part("Peaks", ("", "best", "least - most", "best at the end"), tuple(rows))


def _peak(row: Row) -> str:
    if "not_here" in row:
        return str(row["not_here"])
    if "flops" in row:
        return f"{max(row['flops']) / 1e12:,.4g} TFLOP/s"
    return f"{row['bytes_per_second'] / 1e9:,.4g} GB/s" if "bytes_per_second" in row else ""


def _spread(row: Row) -> str:
    values = row.get("flops", [])
    return f"{min(values) / 1e12:,.4g} - {max(values) / 1e12:,.4g}" if values else ""


def _speeds(steps: Mapping[str, Row]) -> Part:
    peaks = _best_peaks(steps)
    theirs = {_place(row): row for row in _rows(steps, "speed") if row["who"] != "llmscale"}
    cold = {_case(name): row for name, row in _named_rows(steps, "warm")}
    rows = []
    for name, row in _named_rows(steps, "speed"):
        speed, peak = row["tokens_per_second"], peaks.get(row["dtype"])
        other = theirs.get(_place(row)) if row["who"] == "llmscale" else None
        before = cold.get(_case(name))
        tokens = (
            f"{row['size']} {row['batch_sequences']}x{row['context']}, vocabulary "
            f"{row['vocab_size']}"
        )
        rows.append(
            (
                f"{tokens}: {_way(row)}",
                f"{speed:,.0f}",
                f"{speed * row['flops_per_token'] / peak:.1%}" if peak else "",
                f"{speed / other['tokens_per_second']:.2f}" if other else "",
                str(row["micro_batch"]),
                format_bytes(row["peak_memory_bytes"]),
                format_seconds(before["first_step_seconds"]) if before else "",
                format_seconds(row["first_step_seconds"]),
            )
        )
    headings = (
        "",
        "tokens/s",
        "MFU",
        "/ nanoGPT",
        "a pass",
        "memory",
        "first step, cold",
        "first step",
    )
    notes = (
        "MFU: the model's own FLOPs, by one formula, as a share of the measured peak of matrix "
        "products of its dtype. First step: from having loaded torch, ours with the modules of "
        "its compiler; cold: compiled beside others.",
    )
    return Part("Speed", headings, tuple(rows), notes)


def _way(row: Row) -> str:
    """Whose loop a timed row is of, and how it was run."""
    words = [str(row["who"]), "compiled" if row["compiled"] else "eager"]
    if row["seeds"] > 1:
        words.append(f"{row['seeds']} seeds stacked")
    if row["optimizer"] != "adamw":
        words.append(str(row["optimizer"]))
    return ", ".join(words)


def _place(row: Row) -> tuple[Any, ...]:
    """What rows of two loops have in common."""
    names = ("size", "context", "vocab_size", "batch_sequences", "seeds", "optimizer", "compiled")
    return tuple(row[name] for name in names)


def _best_peaks(steps: Mapping[str, Row]) -> dict[str, float]:
    """FLOP/s by dtype, the best of all that were measured."""
    best: dict[str, float] = {}
    for row in _rows(steps, "peaks"):
        if "flops" in row:
            best[row["peak"]] = max(*row["flops"], best.get(row["peak"], 0.0))
    return best


def _profiles(steps: Mapping[str, Row]) -> Part:
    rows, notes = [], []
    for found in _rows(steps, "profile"):
        for kernel in found["kernels"][:_KERNELS_SHOWN]:
            name = f"{found['size']}: {kernel['name'][:70]}"
            rows.append(
                (
                    name,
                    f"{kernel['milliseconds']:.2f}",
                    f"{kernel['share']:.1%}",
                    str(kernel["calls"]),
                )
            )
        if found["idle_share"] is not None:
            notes.append(
                f"{found['size']}: no kernel ran in {found['idle_share']:.1%} of the time."
            )
        notes.append(
            f"{found['size']}: all of {found['steps']} steps in profile-{found['size']}.txt."
        )
    return Part("Kernels", ("", "ms", "share", "calls"), tuple(rows), tuple(notes))


def _sweep(steps: Mapping[str, Row]) -> Part:
    rows, notes = [], []
    for name in ("sweep", "law", "long"):
        for row in _rows(steps, name):
            if "command" in row:
                notes.append(f"`{row['command']}`: {format_seconds(row['wall_seconds'])}")
                continue
            loss = f"{row['loss']:.4f}" if row["loss"] is not None else row["status"]
            speed = f"{row['tokens_per_second']:,.0f}" if row["tokens_per_second"] else ""
            share = f"{row['mfu']:.1%}" if row["mfu"] else ""
            spent = format_seconds(row["seconds"]) if row["seconds"] else ""
            counts = (
                format_count(row["params"]),
                format_count(row["tokens"]),
                format_count(row["batch_tokens"]),
            )
            rows.append((row["size"], *counts, loss, speed, share, spent))
    headings = ("size", "N", "tokens", "batch", "loss", "tokens/s", "MFU", "time")
    return Part("Sweep", headings, tuple(rows), tuple(notes))


def _ladder(steps: Mapping[str, Row]) -> Part:
    found = _rows(steps, "ladder")
    rows = [
        (
            row["size"],
            str(row["steps"]),
            f"{row['tokens_per_second']:,.0f}",
            format_seconds(row["first_step_seconds"] + row["loading_seconds"]),
            format_seconds(row["derived_seconds"]),
            format_seconds(row["our_training_seconds"]),
        )
        for row in found
    ]
    theirs = sum(row["derived_seconds"] for row in found)
    ours = next(
        (row["wall_seconds"] for row in _rows(steps, "sweep", exact=True) if "command" in row), None
    )
    note = (
        "Derived, not run: nanoGPT's first step from its start, and its other steps at their "
        "measured speed."
    )
    if ours and theirs:
        ratio = f"{theirs / ours:.2f}"
        note += (
            f" Together {format_seconds(theirs)}, {ratio} times as long as the sweep's "
            f"{format_seconds(ours)}."
        )
    headings = ("size", "steps", "tokens/s", "first step", "nanoGPT, derived", "our run")
    return Part("Ladder of nanoGPT (derived)", headings, tuple(rows), (note,))


def _steps(steps: Mapping[str, Row]) -> Part:
    rows = [
        (
            name,
            line["status"],
            format_seconds(line["seconds"]) if line["seconds"] else "",
            line.get("reason", ""),
        )
        for name, line in steps.items()
    ]
    return Part("Steps", ("", "status", "time", "why"), tuple(rows))


def _rows(steps: Mapping[str, Row], kind: str, exact: bool = False) -> list[Row]:
    """What all steps of a kind have found, or one step of that name."""
    return [row for name, row in _named_rows(steps, kind) if not exact or name == kind]


def _named_rows(steps: Mapping[str, Row], kind: str) -> list[tuple[str, Row]]:
    """Each finding of the steps of a kind, with the name of its step."""
    return [
        (name, row)
        for name, line in steps.items()
        if _kind(name) == kind
        for row in line.get("rows", [])
    ]


def _kind(name: str) -> str:
    return name.partition(":")[0]


def _case(name: str) -> str:
    """The name of a step but for its kind."""
    return name.partition(":")[2]


def _value(name: str, value: Any) -> str:
    return format_bytes(value) if name.endswith("_bytes") else str(value)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
