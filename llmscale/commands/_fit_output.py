"""What `llmscale fit` prints: laws, a ranking of laws, groups, and methods."""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from llmscale.commands import output
from llmscale.errors import Note
from llmscale.explain import digits
from llmscale.notes.fitting import (
    COUNT_SENSITIVE,
    EMBEDDING_SHARE,
    FLOOR_NOT_IDENTIFIED,
    NO_INTERVAL,
    ONE_TOKEN_BUDGET,
    PARAMETRIC_BOOTSTRAP,
    TOKENS_PROPORTIONAL,
)

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from llmscale.explain.allocation import Allocation, MethodComparison
    from llmscale.explain.estimation.holdout import Holdout
    from llmscale.explain.estimation.result import Fit, Origin
    from llmscale.explain.fit.compare import Comparison
    from llmscale.explain.fit.groups import Groups
    from llmscale.explain.table import RunTable


def show_fits(fits: "tuple[Fit, ...]") -> None:
    """What was found in a sentence, the coefficients of every law, and the held-out checks."""
    table = fits[0].table
    output.results.say(f"{fits[0].law.name}:", "bold", fits[0].verdict, "bold")
    output.results.print(output.styled(f"{table.size} from {table.path}, N is {table.count}"))
    show_reading(table, [name for one in fits for name in one.law.inputs])
    for one in fits:
        output.results.print(_named_law(one, "  "))
    output.results.print("")
    output.results.print(_coefficients(fits))
    output.results.print("")
    for run in table.left_out[:_MOST_LEFT_OUT]:
        output.results.say("left out:", "", run)
    if len(table.excluded) > _MOST_LEFT_OUT:
        output.results.print(f"and {len(table.excluded) - _MOST_LEFT_OUT} more left out: --json")
    _show_holdouts(fits)


_MOST_LEFT_OUT = 5
_NO_WIDTH = 1e-12
"""An exponent that no refit changes follows from the law's form: N and D with one exponent."""


def _coefficients(fits: "tuple[Fit, ...]") -> "Table":
    """A row a coefficient, and two columns a law: value and interval."""
    headings: list[str] = []
    for one in fits:
        headings += [one.law.name, f"{100 * one.level:g}% interval"]
    shown = output.make_table("", "", *headings, together=2)
    for name in dict.fromkeys(name for one in fits for name in one.law.coefficient_names()):
        cells: list[str] = []
        for one in fits:
            cells += _coefficient(one, name)
        shown.add_row(name, *cells)
    if any(one.compute_optimal for one in fits):
        for name, meaning in (("a", "N* ∝ C^a"), ("b", "D* ∝ C^b")):
            cells = []
            for one in fits:
                best = one.compute_optimal or {"intervals": {}}
                ends = best["intervals"].get(name)
                pair = _value(best.get(name), ends, 4)
                if ends and ends[1] - ends[0] < _NO_WIDTH:
                    pair[1] = "fixed by the law"
                cells += pair
            shown.add_row(f"{name}, {meaning}", *cells)
    objectives = [f"{one.objective:.4g}" for one in fits]
    shown.add_row("objective", *(cell for text in objectives for cell in (text, "")), style="dim")
    return shown


def _coefficient(fit: "Fit", name: str) -> list[str]:
    """Value and interval of a coefficient, both empty if the law has none of this name."""
    if name not in fit.law.coefficient_names():
        return ["", ""]
    if name in fit.untold:
        return [fit.shown(name), "not told"]
    pair = _value(fit.reads(name), fit.interval(name), 5)
    if name in fit.constraints.held:
        pair[1] = fit.ends(name)
    return pair


def _value(value: float | None, ends: tuple[float, float] | None, digits: int) -> list[str]:
    return ["", ""] if value is None else [_digits(value, digits), _interval(ends)]


def _show_holdouts(fits: "tuple[Fit, ...]") -> None:
    """The check of each law; a law without its floor may be the check of the law with it, too."""
    seen: list[list[float]] = []
    for one in fits:
        told = one.holdout.runs["predicted"].tolist() if one.holdout else None
        if told is not None and told not in seen:
            _show_holdout(one)
            seen.append(told)


def reading(table: "RunTable | Origin", inputs: Iterable[str] = ()) -> str | None:
    """Which column became what, with those that a law takes besides N, D, C and loss; None for a
    table not read."""
    if not table.reading:
        return None
    more = [
        name for name in dict.fromkeys(inputs) if name not in ("params", "tokens", "flops", "loss")
    ]
    also = "".join(f"; {name} = {table.columns.get(name, name)}" for name in more)
    return f"read: {table.reading}{also}"


def show_reading(
    table: "RunTable | Origin", inputs: Iterable[str] = (), also: Iterable[str] = ()
) -> None:
    """Print which column became what, and what else was read."""
    text = reading(table, inputs)
    if text:
        text = "; ".join([text, *also])
        output.results.say("read:", "dim", text.removeprefix("read: "), "dim")


def _show_holdout(one: "Fit") -> None:
    check = one.holdout
    assert check is not None
    count = len(check.runs)
    them = "it" if count == 1 else "them"
    bias = f" ({check.bias})" if str(check.bias) else ""
    inside, style = _inside(one)
    output.results.say(
        f"held out ({check.rule}):",
        style,
        f"{check.law.name} fitted without {check.size} predicts {them} with a mean error of "
        f"{check.error_text}{bias}{inside}",
    )
    for row in _worst_first(check)[:_MOST_HELD_OUT]:
        outside = "" if row.inside or not check.has_interval else ", outside"
        measured = digits.number(row.loss, row.low, row.high)
        predicted = digits.with_ends(row.predicted, row.low, row.high)
        output.results.say(
            f"  {row.title}:",
            "yellow" if outside else "",
            f"measured {measured}, predicted {predicted}{outside}",
        )
    if count > _MOST_HELD_OUT:
        output.results.print(f"  and {count - _MOST_HELD_OUT} nearer to their forecast: --json")


_MOST_HELD_OUT = 5


def _worst_first(check: "Holdout") -> list[Any]:
    """The runs held out: those outside of their interval, then the others, each by their miss."""
    off = (check.runs["loss"] / check.runs["predicted"] - 1).abs()
    ordered = check.runs.assign(off=off.to_numpy())
    by = ["inside", "off"] if check.has_interval else ["off"]
    ascending = [name == "inside" for name in by]
    return list(ordered.sort_values(by, ascending=ascending, kind="stable").itertuples())


def _inside(one: "Fit") -> tuple[str, str]:
    """`, 2 of 3 inside the 90% interval`, if there is one, and the colour of that."""
    check = one.holdout
    if check is None or check.inside_interval is None:
        return "", ""
    inside, count = check.inside_interval, len(check.runs)
    which = f"{inside} of {count} inside"
    if count == 1:
        which = "inside" if inside else "outside"
    enough = inside >= one.level * count - 1e-9
    return f", {which} the {100 * one.level:g}% interval", "green" if enough else "yellow"


def _digits(value: float, significant: int) -> str:
    """`value` to that many significant digits, thousands in full."""
    return (
        f"{value:.0f}"
        if 10**significant <= abs(value) < 1e6
        else f"{value:#.{significant}g}".rstrip(".")
    )


def _interval(ends: tuple[float, float] | None) -> str:
    """Both ends to three significant digits, or to as many as tell them apart."""
    if ends is None:
        return "-"
    significant = digits.telling_apart(*ends, 3)
    low, high = (_digits(end, significant) for end in ends)
    return f"[{low}, {high}]"


def _named_law(one: "Fit", indent: str = "") -> "Text":
    return output.styled(
        indent, (one.law.name, "bold"), f": {one.formula}  ", (f"({one.law.source})", "dim")
    )


def distinct_notes(fits: "Mapping[str, Fit]") -> list[Note]:
    """Every note of fits by law or by group once; one that only some of them carry names them.

    Of notes of one code whose numbers are each fit's own, the first one's, and of those that differ
    only in the law of a command; `--json` has them all.
    What counting embeddings does to the exponents says more than how many there are."""
    codes = {note.code for one in fits.values() for note in one.notes}
    carriers: dict[Note, list[str]] = {}
    for name, one in fits.items():
        for note in one.notes:
            if note.code == EMBEDDING_SHARE.code and COUNT_SENSITIVE.code in codes:
                continue
            alike = next((seen for seen in carriers if _alike(seen, note)), note)
            carriers.setdefault(alike, []).append(name)
    return [note if len(whom) == len(fits) else note.of(whom) for note, whom in carriers.items()]


_OF_LAW = re.compile(r" --law \S+")


def _alike(one: Note, other: Note) -> bool:
    if one.code != other.code:
        return False
    return other.code in _ALIKE or _OF_LAW.sub("", one.message) == _OF_LAW.sub("", other.message)


_ALIKE = (PARAMETRIC_BOOTSTRAP.code, COUNT_SENSITIVE.code)


def next_step(fits: "tuple[Fit, ...]") -> str:
    from llmscale.explain.estimation.advice import more_budgets, more_sizes

    codes = {note.code for one in fits for note in one.notes}
    first, frame = fits[0], fits[0].table.frame
    if codes & {FLOOR_NOT_IDENTIFIED.code, NO_INTERVAL.code}:
        inputs = set(first.law.inputs)
        what, sweep = (
            ("sizes", more_sizes(frame)) if inputs == {"params"} else ("runs", more_budgets(frame))
        )
        return f"measure more {what}: {sweep}"
    in_one = [] if first.options.variable == "params" else ["--variable", first.options.variable]
    said = first.options.constraint_words
    plot = first.table.command("plot", "--law", first.law.place or first.law.name, *in_one, *said)
    if not first.table.path.exists():
        return f"put the table into FILE, and draw the law: {plot}"
    if codes & {ONE_TOKEN_BUDGET.code, TOKENS_PROPORTIONAL.code}:
        return f"{plot}; for a law in N and D: {more_budgets(frame)}"
    return plot


def show_ranking(comparison: "Comparison") -> None:
    """Laws in the order in which to use them, and those that do not suit the table."""
    from llmscale.explain.fit.comparison import HEADINGS

    table = output.make_table("laws, best first", *HEADINGS, left=2)
    for one, (rank, law, *cells) in zip(comparison.ranked, comparison.rows(), strict=True):
        name = output.styled((law, "bold" if one.as_good else ""))
        table.add_row(rank, name, *cells)
    output.results.print(table)
    for line in (*comparison.legend, *comparison.left_out):
        output.results.print(output.styled((line, "dim")))


def show_groups(found: "Groups") -> None:
    """A column of coefficients for every group, apart and with shared exponents."""
    from llmscale.explain.estimation.result import reads

    first = next(iter(found.fits.values()))
    output.results.print(_named_law(first))
    names = list(found.fits)
    for start in range(0, len(names), _GROUPS_A_TABLE):
        shown = names[start : start + _GROUPS_A_TABLE]
        table = output.make_table(f"by {found.column}", "", *shown)
        table.add_row("runs", *(str(len(found.fits[name].table.frame)) for name in shown))
        for key in first.law.coefficient_names():
            fits = [found.fits[name] for name in shown]
            table.add_row(
                key,
                *(_with_interval(fit.reads(key), fit.interval(key)) for fit in fits),
            )
        checks = [found.fits[name].holdout for name in shown]
        table.add_row(
            "held-out error",
            *(check.error_text if check else "-" for check in checks),
        )
        if found.joint:
            table.add_section()
            table.add_row(output.styled((f"with {' and '.join(found.shared)} shared", "dim")))
            for key in first.law.coefficient_names():
                ends = found.shared_intervals.get(key)
                table.add_row(
                    key,
                    *(_with_interval(reads(found.joint[name], key), ends) for name in shown),
                )
        output.results.print(table)


def show_allocation(found: "Allocation") -> None:
    """The optimum by one method."""
    for line in str(found).splitlines():
        if not line.startswith("  note: "):
            output.results.print(line)


def show_methods(found: "MethodComparison") -> None:
    """Methods side by side, and where they disagree."""
    header, *rows = zip(*found.rows(), strict=True)
    table = output.make_table(
        "compute-optimal allocation",
        *("" if place == 0 else cell for place, cell in enumerate(header)),
    )
    for row in rows:
        table.add_row(*row)
    output.results.print(table)
    for sentence in found.disagreements:
        output.results.print(sentence)


_GROUPS_A_TABLE = 4


def _with_interval(value: float, ends: tuple[float, float] | None) -> "str | Text":
    return _digits(value, 4) if ends is None else output.stacked(_digits(value, 4), _interval(ends))
