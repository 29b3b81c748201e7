"""A law that others published, as a fit without runs: for whoever has none of their own yet."""

import math
from functools import cache
from pathlib import Path

import numpy as np

from llmscale.explain.estimation.options import Options
from llmscale.explain.estimation.reach import Reach
from llmscale.explain.estimation.result import Fit, Origin
from llmscale.explain.laws.chinchilla import Chinchilla
from llmscale.notes.predicting import PUBLISHED_LAW

_LAW = Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658)
"""Besiroglu et al. 2024, arXiv 2404.10102, table 1: refitted to runs of Hoffmann et al. 2022."""
_RUNS = 240
_PARAMS, _TOKENS, _MOST_FLOPS = (57e6, 16.2e9), (0.82e9, 318e9), 1.3e22
"""Ranges of these runs, and the largest 6ND, as they were read off figure 4 of Hoffmann et al."""


@cache
def published_fit() -> Fit:
    """Chinchilla's law as Besiroglu et al. (2024) refitted it to 240 runs of Hoffmann et al.

    It has no intervals: the paper gives standard errors of the coefficients one by one, and not how
    they go together, without which they would put N* of 1e22 FLOPs from 1.4B to over 100B."""
    said = (
        "the law is of runs that others made (Hoffmann et al. 2022, refitted by Besiroglu et al. "
        "2024), on other text, with another tokenizer and recipe: its losses are not those of your "
        "runs, and it has no interval; measure a small ladder of your own: llmscale sweep"
    )
    ranges = {
        name: (math.log(ends[0]), math.log(ends[1]))
        for name, ends in (("params", _PARAMS), ("tokens", _TOKENS))
    }
    return Fit(
        law=_LAW,
        options=Options(bootstrap=0, holdout="none"),
        origin=Origin(
            path=Path("<Besiroglu et al. 2024>"),
            count="params",
            columns={"params": "N", "tokens": "D", "loss": "loss"},
            reading="",
            size=f"{_RUNS} runs of Hoffmann et al. 2022",
            runs=_RUNS,
            rows=_RUNS,
            excluded=(),
        ),
        reach=Reach(ranges, math.log(_MOST_FLOPS / 6.0)),
        objective=math.nan,
        replicates=np.empty((0, len(_LAW.coefficient_names()))),
        noise=np.empty(0),
        bootstrap_method="",
        notes=(PUBLISHED_LAW.note(said),),
    )
