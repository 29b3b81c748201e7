"""What is said of a fit because of the choice of its runs."""

from collections.abc import Iterator

import numpy as np

from llmscale.errors import Note
from llmscale.errors.command_lines import condition
from llmscale.explain.estimation.advice import more_budgets, more_sizes, sweep_with
from llmscale.explain.estimation.identifiability import SIZES_FOR_A_FLOOR
from llmscale.explain.estimation.levels import WORDS, count_levels, describe_levels, numbers
from llmscale.explain.estimation.suitability import no_chinchilla
from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable
from llmscale.notes.fitting import (
    FLOOR_NOT_IDENTIFIED,
    MIXED_TOKEN_BUDGETS,
    NARROW_RANGE,
    ONE_TOKEN_BUDGET,
    REPEATED_DATA,
    TOKENS_PROPORTIONAL,
)
from llmscale.quantity import format_count


def design_notes(law: Law, table: RunTable) -> list[Note]:
    """What the choice of runs keeps this law from knowing."""
    found = (_tokens_of_a_law_in_size(law, table), _repeated(law, table))
    notes = [note for note in found if note is not None]
    return [*notes, *_narrow(law, table)]


def floor_note(number: int, word: str) -> Note:
    """Too few sizes for a floor."""
    return FLOOR_NOT_IDENTIFIED.note(
        f"a floor cannot be identified from {number} {word}, which takes {SIZES_FOR_A_FLOOR:g}: "
        "the pure power law was fitted, and it is too low far beyond the largest run if there is "
        "a floor"
    )


def _tokens_of_a_law_in_size(law: Law, table: RunTable) -> Note | None:
    """What a law in N only takes the tokens of the runs for."""
    frame = table.frame
    tokens, params = numbers(frame, "tokens"), numbers(frame, "params")
    if law.inputs != ("params",) or not np.isfinite(tokens).all():
        return None
    more = sweep_with(frame, "several --tokens")
    if count_levels(tokens) == 1:
        budget = format_count(float(np.median(tokens)))
        return ONE_TOKEN_BUDGET.note(
            f"every run was trained on {budget} tokens: this is L(N) at that D alone, and neither "
            f"its exponent nor its floor carries over to other budgets{more}"
        )
    if count_levels(tokens / params) == 1:
        ratio = float(np.median(tokens / params))
        return TOKENS_PROPORTIONAL.note(
            f"every run has {ratio:.3g} tokens a parameter: the exponent mixes the effects of "
            f"size and of tokens{more}"
        )
    both = "" if no_chinchilla(frame) else "fit --law chinchilla, or "
    return MIXED_TOKEN_BUDGETS.note(
        f"the runs have {describe_levels(frame, 'tokens')}, and a law in N alone takes what "
        f"tokens do for noise ({both}one budget at a time: {_fullest_budget(table)})"
    )


def _fullest_budget(table: RunTable) -> str:
    """The fit of the budget that most runs have, the largest of several."""
    counts = table.frame["tokens"].value_counts()
    tokens = float(counts[counts == counts.max()].index.max())
    return table.command("fit", "--where", condition("tokens", "==", f"{tokens:.17g}"))


def _repeated(law: Law, table: RunTable) -> Note | None:
    """Several passes over the same text, which the law does not know of."""
    frame = table.frame
    if "unique_tokens" not in frame or "unique_tokens" in law.inputs:
        return None
    unique = frame["unique_tokens"].fillna(np.inf).to_numpy(dtype=float)
    epochs = numbers(frame, "tokens") / unique
    repeated = int((epochs > REPEATED_DATA.limit).sum())
    if not repeated:
        return None
    return REPEATED_DATA.note(
        f"{repeated} of {len(frame)} runs went over their data more than once, up to "
        f"{epochs.max():.3g} times, and the law counts every pass as new tokens: "
        f"{table.command('fit', '--law', 'data-constrained')}{_runs_of_one_pass(table, epochs)}"
    )


def _runs_of_one_pass(table: RunTable, epochs: Array) -> str:
    """`; or only those of one pass: COMMAND`, if their tokens tell them from others."""
    tokens = numbers(table.frame, "tokens")
    repeated = epochs > REPEATED_DATA.limit
    least = tokens[repeated].min()
    short = tokens < least
    if count_levels(numbers(table.frame, "params")[short]) < SIZES_FOR_A_FLOOR:
        return ""
    only = condition("tokens", "<", f"{least:.17g}")
    return f"; or only runs of one pass: {table.command('fit', '--where', only)}"


def _narrow(law: Law, table: RunTable) -> Iterator[Note]:
    """A note for each of N, D and C that hardly varies."""
    frame = table.frame
    for name in law.inputs:
        values = numbers(frame, name)
        if name not in WORDS or not len(values):
            continue
        factor = values.max() / values.min()
        if factor >= NARROW_RANGE.limit:
            continue
        more = more_sizes(frame) if name == "params" else more_budgets(frame)
        yield NARROW_RANGE.note(
            f"the runs span only a factor of {factor:.3g} in {name}; exponents want 10 or, "
            f"better, 30 (measure wider: {more})"
        )
