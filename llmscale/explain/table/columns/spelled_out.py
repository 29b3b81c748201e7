"""Tokens that other columns spell out: steps x batch x context, or tokens a parameter x N."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, listed
from llmscale.explain.table.columns.find import Found
from llmscale.explain.table.columns.names import columns_named, last_part, plain, spellings
from llmscale.explain.table.columns.pairs import quoted
from llmscale.explain.table.columns.units import counts_of, numbers_of, to_base
from llmscale.notes.reading import FLOPS_FROM_TOKENS, TOKENS_FROM_STEPS

_STEPS = spellings(
    """
    steps n_steps num_steps train_steps training_steps steps_done final_step last_step step
    global_step total_steps iterations iters n_iters num_iterations updates num_updates train_iters
    max_steps num_train_steps
    """
)
_STEP_TOKENS = spellings(
    """
    tokens_per_step tokens_per_batch batch_tokens batch_size_tokens tokens_per_update
    global_batch_tokens global_batch_size_tokens batch_size_in_tokens tokens_per_iteration
    """
)
_BATCH = spellings(
    """
    global_batch_size total_batch_size batch_size train_batch_size batch gbs batch_sequences
    effective_batch_size
    """
)
_CONTEXT = spellings(
    """
    seq_len context context_length sequence_length seq_length seqlen block_size max_seq_len
    max_seq_length ctx n_ctx ctx_len context_len context_size max_length n_positions
    """
)
_SEQUENCES = spellings(
    """
    sequences n_sequences num_sequences sequences_seen samples n_samples num_samples samples_seen
    train_samples consumed_samples consumed_train_samples examples_seen
    """
)
_RATIO = spellings(
    """
    tokens_per_param tokens_per_parameter tpp token_param_ratio tokens_param_ratio d_over_n d_n
    tokens_to_params token_to_param_ratio tokens_to_params_ratio tokens_params token_per_param
    """
)
_FLOPS_PER_TOKEN = ("flops_per_token", "flop_per_token", "train_flops_per_token", "fpt")
_MANY = spellings(
    """
    world_size n_gpus num_gpus gpus devices n_devices gradient_accumulation_steps grad_accum
    accumulation_steps grad_accum_steps dp data_parallel nodes
    """
)
"""Columns that say that a batch size may be that of one device."""
_WHOLE_BATCH = ("global_batch_size", "total_batch_size", "gbs", "effective_batch_size")
_LENGTHS = re.compile(
    r"(^|_)(steps?|iters?|iterations|updates|batch|batches|bytes|samples|sequences|examples|documents|docs|chars|"
    r"characters|words|epochs?|hours|seconds|minutes|days|tokens)(_|$)"
)
"""Names of columns that a length of training may stand in."""
_NOT_LENGTHS = re.compile(r"warm|eval|log|save|per_sec|per_second|embed|vocab|throughput|decay")
_BATCH_OF_TOKENS, _BATCH_OF_SEQUENCES = 1e5, 16384
"""A batch of at least this many is one of tokens; up to this many, one of sequences."""
_SEEDS = 1.03
"""Losses of one size that differ by more than this factor hardly do so by seed."""


def with_spelled_out(
    raw: pd.DataFrame, found: Found, needs: Sequence[str], path: Path, units: Mapping[str, str]
) -> tuple[pd.DataFrame, Found, list[Note]]:
    """The table with tokens (or FLOPs) that other columns spell out, and a note that says so.
    Raises InputError if there are none, and losses of one size differ as by length of training."""
    columns = found.columns
    known = replace(found, units={**found.units, **units})
    if "tokens" not in columns and "flops" not in columns and "params" in columns:
        of = _tokens(raw, known)
        if of is not None:
            return _with(raw, found, "tokens", *of)
        if not needs:
            _refuse_lengths(raw, found, path)
    if "params" not in columns and "tokens" in columns and "flops" not in columns:
        name = _one(raw, _FLOPS_PER_TOKEN)
        if name is not None:
            flops = counts_of(raw[name]) * _base(raw, known, "tokens")
            return _with(raw, found, "flops", f"{name} x {columns['tokens']}", flops)
    return raw, found, []


def _with(
    raw: pd.DataFrame, found: Found, quantity: str, how: str, values: NDArray[np.float64]
) -> tuple[pd.DataFrame, Found, list[Note]]:
    note = TOKENS_FROM_STEPS.note(f"the table has no tokens: computed as D = {how}")
    if quantity == "flops":
        note = FLOPS_FROM_TOKENS.note(f"the table has no FLOPs: computed as C = {how}")
    units = {name: unit for name, unit in found.units.items() if name != quantity}
    read = replace(found, columns=found.columns | {quantity: how}, units=units)
    return raw.assign(**{how: values}), read, [note]


def _tokens(raw: pd.DataFrame, found: Found) -> tuple[str, NDArray[np.float64]] | None:
    """How tokens follow from other columns, if it is certain, and the tokens."""
    ratio = _one(raw, _RATIO)
    if ratio is not None:
        tokens = counts_of(raw[ratio]) * _base(raw, found, "params")
        return f"{ratio} x {found.columns['params']}", tokens
    steps, context, sequences = _one(raw, _STEPS), _one(raw, _CONTEXT), _one(raw, _SEQUENCES)
    if steps is not None:
        of_step = _one(raw, _STEP_TOKENS)
        if of_step is not None:
            return f"{steps} x {of_step}", counts_of(raw[steps]) * counts_of(raw[of_step])
        batch = _one(raw, _BATCH)
        many = [_one(raw, (one,)) for one in _MANY]
        several = any(counts_of(raw[name]).max() > 1 for name in many if name)
        certain = batch is not None and (plain(last_part(batch)) in _WHOLE_BATCH or not several)
        if batch is not None and certain:
            size = counts_of(raw[batch])
            if np.nanmin(size) >= _BATCH_OF_TOKENS:
                return f"{steps} x {batch}", counts_of(raw[steps]) * size
            if context is not None and np.nanmax(size) <= _BATCH_OF_SEQUENCES:
                how = f"{steps} x {batch} x {context}"
                return how, counts_of(raw[steps]) * size * counts_of(raw[context])
    if sequences is not None and context is not None:
        return f"{sequences} x {context}", counts_of(raw[sequences]) * counts_of(raw[context])
    return None


def _refuse_lengths(raw: pd.DataFrame, found: Found, path: Path) -> None:
    """Raise InputError if losses of a size differ by more than by seed, next to lengths."""
    if "loss" not in found.columns:
        return
    loss = numbers_of(raw[found.columns["loss"]], counts=False)[0]
    params = _base(raw, found, "params")
    table = pd.DataFrame({"params": params, "loss": loss, "row": np.arange(len(raw))})
    table = table[np.isfinite(params) & np.isfinite(loss) & (loss > 0)]
    by = table.groupby("params")["loss"]
    several = by.size() > 1
    apart = by.max() > by.min() * _SEEDS
    if not several.any() or apart[several].mean() <= 0.5:
        return
    taken = set(found.columns.values())
    lengths = [name for name in map(str, raw.columns) if name not in taken and _is_length(name)]
    lengths = [name for name in lengths if _differs(raw, name, table)]
    if not lengths:
        return
    first, worst = lengths[0], float((by.max() / by.min()).max() - 1)
    words = plain(first)
    many = "NUMBER"
    what = "how many tokens one of it is"
    if re.search("step|iter|update", words):
        many, what = "524288", "how many tokens a step has"
    elif "byte" in words:
        many, what = "0.25", "how many tokens a byte is"
    raise InputError(
        f"{path} has no tokens, losses of one size differ by up to {worst:.0%}, and so do "
        f"{listed(map(repr, lengths))}: its runs do not share one token budget",
        f"add a column of tokens, or say {what}, such as --columns tokens={quoted(first)} --units "
        f"tokens={many}",
    )


def _is_length(name: str) -> bool:
    words = plain(last_part(name))
    return bool(_LENGTHS.search(words)) and not _NOT_LENGTHS.search(words)


def _differs(raw: pd.DataFrame, name: str, table: pd.DataFrame) -> bool:
    """Whether a column of numbers differs between the runs of one size."""
    values = counts_of(raw[name])[table["row"]]
    if not np.isfinite(values).all():
        return False
    return bool((pd.Series(values, index=table.index).groupby(table["params"]).nunique() > 1).any())


def _one(raw: pd.DataFrame, wanted: Sequence[str]) -> str | None:
    """The first column of one of these names that holds positive numbers in every row."""
    for name in columns_named(raw.columns, wanted):
        values = counts_of(raw[name])
        if len(values) and (np.isfinite(values) & (values > 0)).all():
            return name
    return None


def _base(raw: pd.DataFrame, found: Found, quantity: str) -> NDArray[np.float64]:
    """A quantity in base units, as far as its column's name says them."""
    values, suffixed = numbers_of(raw[found.columns[quantity]], counts=True)
    unit = None if suffixed else found.units.get(quantity)
    return to_base(values, quantity, unit) if unit and unit != "log" else values
