"""Columns that are a law's own input in place of the usual one, if a table has them."""

from dataclasses import replace

import numpy as np

from llmscale.explain.laws import Law
from llmscale.explain.table import RunTable
from llmscale.notes.reading import STANDS_FOR


def with_stand_ins(table: RunTable, law: type[Law]) -> RunTable:
    """`table` with the columns in place that `law` takes rather than those of the same names, each
    if every run has a number above zero in it; a note says so."""
    frame, notes = table.frame, list(table.notes)
    for name, column in law.stand_ins.items():
        if column not in frame or name not in frame:
            continue
        values = frame[column].to_numpy(dtype=float)
        if not (np.isfinite(values) & (values > 0)).all():
            continue
        frame = frame.assign(**{name: values})
        said = f"{name} of the law {law.name} are the column {column}"
        notes.append(STANDS_FOR.note(f"{said}, and not all that passed through the model"))
    return replace(table, frame=frame, notes=tuple(notes))
