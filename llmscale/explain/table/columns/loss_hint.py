"""How to take a column for the loss of a table in which none is called so."""

import numpy as np
import pandas as pd

from llmscale.explain.table.columns.names import is_loss, of_hundred, per_byte, rises, words_of
from llmscale.explain.table.columns.pairs import quoted
from llmscale.explain.table.columns.units import counts_of


def loss_hint(raw: pd.DataFrame, *, scores: bool = False) -> str:
    """The options that take another column for the loss, or for the score of a law of `scores`, if
    one looks like it; else nothing."""
    names = [str(column) for column in raw.columns]
    rising = [name for name in names if rises(name) and np.isfinite(counts_of(raw[name])).any()]
    if scores and rising:
        return f", perhaps --columns loss={quoted(rising[0])}"
    for name in names:
        if {"perplexity", "ppl"} & set(words_of(name)):
            return f", or --columns loss={quoted(name)} --units loss=perplexity"
    for name in names:
        if is_loss(name) or per_byte(name):
            return f", perhaps --columns loss={quoted(name)}"
    for name in names:
        if "bits" in words_of(name):
            return f", or --columns loss={quoted(name)} --units loss=bits"
    if rising:
        unit = "percent" if of_hundred(rising[0]) else "accuracy"
        return f", or --columns loss={quoted(rising[0])} --units loss={unit}"
    return ""
