"""What is said of a fit because of the choice of its runs."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llmscale.errors import Note, counted
from llmscale.errors.command_lines import condition
from llmscale.explain.estimation.advice import more_budgets, more_sizes, sweep_with
from llmscale.explain.estimation.again import fit_again
from llmscale.explain.estimation.identifiability import SIZES_FOR_A_FLOOR, why_not
from llmscale.explain.estimation.levels import WORDS, count_levels, describe_levels, numbers
from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.suitability import no_chinchilla
from llmscale.explain.laws import Array, Law
from llmscale.explain.table import RunTable
from llmscale.explain.table.columns.units import numbers_of
from llmscale.explain.table.rows.where import met, parse_where
from llmscale.notes.fitting import (
    FLOOR_NOT_IDENTIFIED,
    MIXED_TOKEN_BUDGETS,
    NARROW_RANGE,
    ONE_TOKEN_BUDGET,
    REPEATED_DATA,
    TOKENS_PROPORTIONAL,
)
from llmscale.quantity import format_count


def design_notes(law: Law, table: RunTable, options: Options) -> list[Note]:
    """What the choice of runs keeps this law from knowing."""
    found = (_tokens_of_a_law_in_size(law, table, options), _repeated(law, table, options))
    notes = [note for note in found if note is not None]
    return [*notes, *_narrow(law, table)]


def floor_note(number: int, word: str) -> Note:
    """Too few sizes for a floor."""
    return FLOOR_NOT_IDENTIFIED.note(
        f"a floor cannot be identified from {number} {word}, which takes {SIZES_FOR_A_FLOOR:g}: "
        "the pure power law was fitted, and it is too low far beyond the largest run if there is "
        "a floor"
    )


def _tokens_of_a_law_in_size(law: Law, table: RunTable, options: Options) -> Note | None:
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
    one = fit_again(table, law, options, "--where", _fullest_budget(table))
    return MIXED_TOKEN_BUDGETS.note(
        f"the runs have {describe_levels(frame, 'tokens')}, and a law in N alone takes what "
        f"tokens do for noise ({both}one budget at a time: {one})"
    )


def _fullest_budget(table: RunTable) -> str:
    """The filter of the budget that most runs have, the largest of several."""
    counts = table.frame["tokens"].value_counts()
    tokens = float(counts[counts == counts.max()].index.max())
    return condition("tokens", "==", f"{tokens:.17g}")


def _repeated(law: Law, table: RunTable, options: Options) -> Note | None:
    """Several passes over the same text, which the law does not know of."""
    frame = table.frame
    if "unique_tokens" not in frame or "unique_tokens" in law.inputs:
        return None
    repeated = int(_is_repeated(table).sum())
    if not repeated:
        return None
    epochs = _epochs(table)
    return REPEATED_DATA.note(
        f"{repeated} of {len(frame)} runs went over their data more than once, up to "
        f"{epochs.max():.3g} times, and the law counts every pass as new tokens: "
        f"{fit_again(table, law, options, '--law', 'data-constrained')}; "
        f"{_runs_of_one_pass(law, table, options)}"
    )


def _epochs(table: RunTable) -> Array:
    """Passes of every run over its data; a run that does not say took one, or less."""
    unique = numbers_of(table.frame["unique_tokens"], counts=True)[0]
    return np.asarray(numbers(table.frame, "tokens") / np.where(np.isnan(unique), np.inf, unique))


def _is_repeated(table: RunTable) -> NDArray[np.bool_]:
    return np.asarray(_epochs(table) > REPEATED_DATA.limit)


def _runs_of_one_pass(law: Law, table: RunTable, options: Options) -> str:
    """How to fit all runs of one pass and no others, or why that cannot be done."""
    once = ~_is_repeated(table)
    number = int(once.sum())
    if not number:
        return "no run has one pass only"
    runs = counted(number, "run")
    rest = table.frame[once].reset_index(drop=True)
    if why_not(type(law), rest, law.inputs, options.constraints):
        return f"the {runs} of one pass are too few for {law.name}"
    only = "tokens <= unique_tokens"
    if not np.array_equal(met(table.frame, *parse_where(only)), once):
        return f"or only the {runs} of one pass"
    return f"or only the {runs} of one pass: {fit_again(table, law, options, '--where', only)}"


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
