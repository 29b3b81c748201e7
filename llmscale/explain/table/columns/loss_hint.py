"""How to take a column for the loss of a table in which none is called so."""

import numpy as np
import pandas as pd

from llmscale.explain.table.columns.names import is_loss, of_hundred, per_byte, rises, words_of
from llmscale.explain.table.columns.pairs import quoted
from llmscale.explain.table.columns.units import counts_of


def loss_hint(raw: pd.DataFrame) -> str:
    """The options that take another column for the loss, if one looks like it; else nothing."""
    names = [str(column) for column in raw.columns]
    for name in names:
        if {"perplexity", "ppl"} & set(words_of(name)):
            return f", or --columns loss={quoted(name)} --units loss=perplexity"
    for name in names:
        if is_loss(name) or per_byte(name):
            return f", perhaps --columns loss={quoted(name)}"
    for name in names:
        if "bits" in words_of(name):
            return f", or --columns loss={quoted(name)} --units loss=bits"
    for name in names:
        if rises(name) and np.isfinite(counts_of(raw[name])).any():
            unit = "percent" if of_hundred(name) else "accuracy"
            return f", or --columns loss={quoted(name)} --units loss={unit}"
    return ""
