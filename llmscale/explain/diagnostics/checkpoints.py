"""Rows that stand higher than their size and tokens say, as checkpoints do before the learning rate
comes down."""

import numpy as np
import pandas as pd

from llmscale.explain.diagnostics.evidence import Evidence, groups, known
from llmscale.explain.estimation.levels import distinct, levels
from llmscale.explain.estimation.repeats import differing, values_of
from llmscale.explain.laws import Array

_LEAST_ROWS, _LEAST_SIZES, _MOST_SHARE = 3, 3, 0.8
"""Rows of a size, sizes, and the share of the rows that are of such sizes."""
_ERRORS, _HOT = 3.5, 0.01
"""Standard errors, and the share of the loss, that a row at the peak of the learning rate is
higher."""
_EQUAL_ERRORS, _EQUAL_HOT = 1.0, 0.005
"""The same if every size has rows at equal steps, as checkpoints have and grids hardly do."""
_SAME_STEP = 0.02
_MOST_OF_A_SEARCH = 0.5


def hot_rows(evidence: Evidence) -> list[str]:
    """Rows of one size that lie above the law before the last one as those of a cosine do, from 1
    at its start to 0 at its end."""
    frame, surface = evidence.frame, evidence.stiff
    known_both = known(frame, "params") and known(frame, "tokens")
    if surface is None or not known_both or frame["run_id"].duplicated().any():
        return []
    if evidence.fit.law.estimator is not None:
        return []  # it does not aim at runs far from the optimum
    if "schedule" in frame and frame["schedule"].notna().all():
        return []  # a table that says the schedule of every run holds ends of runs
    if _is_search(frame):
        return []
    tokens = frame["tokens"].to_numpy(dtype=float)
    of_size = pd.Series(tokens).groupby(levels(frame["params"].to_numpy(dtype=float)))
    number = of_size.transform("nunique").to_numpy()
    several = number >= _LEAST_ROWS
    if several.mean() < _MOST_SHARE or of_size.ngroups < _LEAST_SIZES:
        return []
    done = tokens / of_size.transform("max").to_numpy()
    heat = np.where(number > 1, 0.5 * (1 + np.cos(np.pi * done)), 0.0)
    effect, errors = (float(value[0]) for value in surface.effects(heat[None])[:2])
    equal = bool((of_size.agg(_equal_steps)[of_size.nunique() > _LEAST_ROWS]).mean() > _MOST_SHARE)
    limit, least = (_EQUAL_ERRORS, _EQUAL_HOT) if equal else (_ERRORS, _HOT)
    if errors < limit or effect < least:
        return []
    spaced = " at equal steps of tokens" if equal else ""
    much = evidence.size(effect)
    return [
        f"rows of one size{spaced} lie above the law by up to {much} before the last of them, as "
        "checkpoints of one cosine do"
    ]


def _is_search(frame: pd.DataFrame) -> bool:
    """Whether most rows share their size and tokens with others of other settings: runs of a
    search, which checkpoints of one run never are."""
    point_R = groups(frame)
    names = differing(frame, point_R)
    if not names:
        return False
    alike_R = distinct([point_R, *(values_of(frame[name]) for name in names)])
    ways = pd.Series(alike_R).groupby(point_R).transform("nunique")
    return bool((ways > 1).mean() > _MOST_OF_A_SEARCH)


def _equal_steps(tokens: pd.Series) -> bool:
    """Whether tokens are 1, 2, 3, ... times the first, up to 2%."""
    values: Array = np.unique(tokens.to_numpy(dtype=float))
    steps = np.diff(values, prepend=0.0)
    return len(values) > _LEAST_ROWS and bool(steps.max() <= steps.min() * (1 + _SAME_STEP))
