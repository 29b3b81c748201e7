"""How `llmscale data report` shows what it found."""

from typing import TYPE_CHECKING, Final

from llmscale.commands import output
from llmscale.errors import counted, listed
from llmscale.errors.printable import one_line
from llmscale.measure.text.clean import STEPS
from llmscale.measure.text.cleaner import EXACT_DUPLICATES, SAMPLE_CHARACTERS, TOO_SHORT
from llmscale.measure.text.skew import LengthSpread, Shares
from llmscale.quantity import format_bytes, format_count

if TYPE_CHECKING:
    from llmscale.measure.text.cleaner import Effect, Sample
    from llmscale.measure.text.report import TextReport

_BAR: Final = 30
"""Characters of the longest bar."""
_MOST_NAMES: Final = 8
"""Origins and languages that are shown."""
_ALWAYS: Final = {
    TOO_SHORT: "drop documents with hardly any text (min_characters)",
    EXACT_DUPLICATES: "drop documents that are equal to one before (drop_duplicates)",
}
"""What is done without a step, in words."""


def show_report(report: "TextReport", samples: int) -> None:
    """Print a report, with up to `samples` documents of each step."""
    _show_amount(report)
    if report.effects:
        _show_steps(report)
    for name, effect in report.effects.items():
        if effect.dropped or effect.changed:
            _show_effect(name, effect, samples)
    _say("What is left", "")
    _say("  overlap  ", _overlap(report))
    _show_lengths(report.lengths)
    _show_shares("origin", report.origins)
    _show_shares("language", report.languages)


def _say(label: str, text: str) -> None:
    output.results.print(output.styled((label, "bold"), text))


def _show_amount(report: "TextReport") -> None:
    whole = "" if report.complete else ", of which the beginning was read"
    tokens = "" if report.tokens is None else f", {format_count(report.tokens)} tokens"
    kept = f"{counted(report.documents, 'document')}, {format_bytes(report.bytes)}{tokens}"
    _say("text  ", f"{report.name}{whole}: {counted(report.documents_read, 'document')}")
    _say("kept  ", f"{kept}, after cleaning")


def _show_steps(report: "TextReport") -> None:
    headings = "dropped", "of all", "their text", "changed", "shorter by"
    table = output.make_table("What each step of cleaning did, in this order", "step", *headings)
    for name, effect in report.effects.items():
        share = effect.dropped / max(1, report.documents_read)
        cells = (f"{effect.dropped:,}", f"{share:.2%}", format_bytes(effect.dropped_bytes))
        table.add_row(name, *cells, f"{effect.changed:,}", format_bytes(effect.removed_bytes))
    output.results.print(table)
    output.results.print("dropped, changed: documents; a step sees what those before it have left")


def _show_effect(name: str, effect: "Effect", samples: int) -> None:
    """What a step is for, why it dropped what it did, and examples."""
    _say(f"{name}: ", _purpose(name))
    if effect.rules:
        by_number = sorted(effect.rules.items(), key=lambda item: -item[1])
        reasons = listed((f"{rule} ({count:,})" for rule, count in by_number), _MOST_NAMES)
        output.results.print(f"  documents dropped for: {reasons}")
    for sample in effect.samples[:samples]:
        _show_sample(sample, is_change=bool(effect.changed))


def _purpose(name: str) -> str:
    """What the file of a step says that it does, up to how."""
    if name in _ALWAYS:
        return _ALWAYS[name]
    said = STEPS.summaries().get(name.partition(":")[0], "a step of your own")
    return said[:1].lower() + said[1:].partition(":")[0].partition(", as ")[0]


def _show_sample(sample: "Sample", is_change: bool) -> None:
    more = " ..." if len(sample.text) >= SAMPLE_CHARACTERS else ""
    text = sample.text.strip() + more
    if is_change:
        output.results.print("  an example, before and after:")
        output.results.print_lines(one_line(sample.why))
    else:
        why = f" ({one_line(sample.why)})" if sample.why else ""
        output.results.print(f"  an example of what was dropped{why}:")
    output.results.print_lines(text or "(nothing but white space)")


def _overlap(report: "TextReport") -> str:
    """How much of the validation text is in the training text."""
    overlap = report.overlap
    read = " that was read" if report.sample else ""
    if overlap is None:
        return "not measured: too little text to hold some out"
    return (
        f"{overlap.share:.2%} of the {overlap.ngrams:,} runs of 13 words of the validation text "
        f"stand in the training text{read}, too; {overlap.documents_mostly_seen:,} of its "
        f"{counted(overlap.documents, 'document')} have half of theirs there or more"
    )


def _show_lengths(lengths: LengthSpread) -> None:
    at = {float(share): value for share, value in lengths.quantiles.items()}
    _say(
        "  lengths  ",
        f"{lengths.shortest:,} to {lengths.longest:,} {lengths.unit} a document, "
        f"{lengths.mean:,.0f} on average; half of them have {at[0.25]:,} to {at[0.75]:,}, and 98% "
        f"{at[0.01]:,} to {at[0.99]:,}. {_gini(lengths.gini)}",
    )
    most = max((one.documents for one in lengths.histogram), default=1)
    for one in lengths.histogram:
        bar = "█" * max(round(_BAR * one.documents / most), int(one.documents > 0))
        ends = f"{format_count(one.least)} to {format_count(one.most)}"
        output.results.print(f"    {ends:>16}  {bar} {one.documents:,}")


def _show_shares(what: str, shares: Shares | None) -> None:
    if shares is None:
        return
    total = max(1, sum(shares.bytes.values()))
    said = f"{len(shares.bytes):,}, with these shares of the bytes"
    if len(shares.bytes) > 1:
        said += (
            f"; as varied as {shares.effective_number:.1f} of equal shares. {_gini(shares.gini)}"
        )
    _say(f"  {what + 's':<10} ", said)
    names = list(shares.bytes)
    for name in names[:_MOST_NAMES]:
        share = shares.bytes[name] / total
        documents = counted(shares.documents[name], "document")
        output.results.print(f"    {share:7.2%}  {one_line(name)} ({documents})")
    if len(names) > _MOST_NAMES:
        rest = sum(shares.bytes[name] for name in names[_MOST_NAMES:]) / total
        output.results.print(f"    {rest:7.2%}  {len(names) - _MOST_NAMES:,} others")


def _gini(value: float) -> str:
    return f"Gini's coefficient, 0 if all are equal, is {value:.2f}"
