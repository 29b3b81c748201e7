"""How `llmscale data report` shows what it found."""

from typing import TYPE_CHECKING, Final

from llmscale.commands import output
from llmscale.commands._tables import SafeTable
from llmscale.errors import counted, listed
from llmscale.errors.printable import one_line
from llmscale.measure.text.skew import LengthSpread, Shares
from llmscale.quantity import format_bytes, format_count

if TYPE_CHECKING:
    from llmscale.measure.text.cleaner import Effect
    from llmscale.measure.text.report import TextReport

_BAR: Final = 30
"""Characters of the longest bar."""
_RULE: Final = 76
"""Characters of the line above a sample."""
_MOST_NAMES: Final = 8
"""Origins and languages that are shown."""


def show_report(report: "TextReport", samples: int) -> None:
    """Print a report, with up to `samples` documents of each step."""
    _show_amount(report)
    _show_steps(report)
    for name, effect in report.effects.items():
        _show_samples(name, effect, samples)
    _show_overlap(report)
    _show_lengths(report.lengths)
    _show_shares("origin", report.origins)
    _show_shares("language", report.languages)


def _show_amount(report: "TextReport") -> None:
    whole = "" if report.complete else ", of which the beginning was read"
    tokens = "" if report.tokens is None else f", {format_count(report.tokens)} tokens"
    kept = f"{counted(report.documents, 'document')}, {format_bytes(report.bytes)}{tokens}"
    for name, value in (
        ("text", f"{report.name}{whole}"),
        ("kept", f"{kept}, of {counted(report.documents_read, 'document')}"),
    ):
        output.results.print(output.styled((f"{name:<8} ", "bold"), value))


def _show_steps(report: "TextReport") -> None:
    table = SafeTable(box=None)
    table.add_column("step")
    for name in ("dropped", "share", "text", "changed", "shorter by"):
        table.add_column(name, justify="right")
    for name, effect in report.effects.items():
        share = effect.dropped / max(1, report.documents_read)
        cells = (f"{effect.dropped:,}", f"{share:.2%}", format_bytes(effect.dropped_bytes))
        table.add_row(name, *cells, f"{effect.changed:,}", format_bytes(effect.removed_bytes))
    output.results.print(table)
    for name, effect in report.effects.items():
        rules = sorted(effect.rules.items(), key=lambda item: -item[1])
        if rules:
            counts = listed((f"{rule} {count:,}" for rule, count in rules), _MOST_NAMES)
            output.results.print(output.styled((f"{name} ", "bold"), f"by rule: {counts}"))


def _show_samples(name: str, effect: "Effect", samples: int) -> None:
    for sample in effect.samples[:samples]:
        why = f": {one_line(sample.why)}" if sample.why else ""
        output.results.rule(f"{name}{why}"[:_RULE], align="left")
        output.results.print_lines(sample.text.strip())


def _show_overlap(report: "TextReport") -> None:
    overlap = report.overlap
    said = "not measured: too little text to hold some out"
    read = " that was read" if report.sample else ""
    if overlap is not None:
        said = (
            f"{overlap.share:.2%} of {overlap.ngrams:,} 13-grams of the validation text stand in "
            f"the training text{read}; of {counted(overlap.documents, 'document')}, "
            f"{overlap.documents_mostly_seen:,} for half or more"
        )
    output.results.print(output.styled(("overlap  ", "bold"), said))


def _show_lengths(lengths: LengthSpread) -> None:
    quantiles = ", ".join(
        f"{float(share):.0%} {value:,}" for share, value in lengths.quantiles.items()
    )
    said = (
        f"{lengths.shortest:,} to {lengths.longest:,} {lengths.unit}, mean {lengths.mean:,.0f}, "
        f"Gini {lengths.gini:.2f}; quantiles {quantiles}"
    )
    output.results.print(output.styled(("lengths  ", "bold"), said))
    most = max((one.documents for one in lengths.histogram), default=1)
    for one in lengths.histogram:
        bar = "█" * max(round(_BAR * one.documents / most), int(one.documents > 0))
        output.results.print(f"  {format_count(one.least):>6}  {bar} {one.documents:,}")


def _show_shares(what: str, shares: Shares | None) -> None:
    if shares is None:
        return
    total = max(1, sum(shares.bytes.values()))
    said = (
        f"{counted(len(shares.bytes), what)}, as many as {shares.effective_number:.1f} equal ones, "
        f"Gini {shares.gini:.2f}"
    )
    output.results.print(output.styled((f"{what + 's':<10} ", "bold"), said))
    names = list(shares.bytes)
    for name in names[:_MOST_NAMES]:
        share = shares.bytes[name] / total
        documents = counted(shares.documents[name], "document")
        output.results.print(f"  {share:7.2%}  {one_line(name)} ({documents})")
    if len(names) > _MOST_NAMES:
        rest = sum(shares.bytes[name] for name in names[_MOST_NAMES:]) / total
        output.results.print(f"  {rest:7.2%}  {len(names) - _MOST_NAMES:,} others")
