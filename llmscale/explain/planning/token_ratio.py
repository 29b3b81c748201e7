"""How many tokens a parameter were ever trained on: by the runs of a table, and by any model."""

import math

from llmscale.explain.planning.judge import Judge
from llmscale.notes.predicting import OVER_TRAINED_BEYOND_RUNS

EVER_TRAINED = 1e5
"""More than of any model that was published: Qwen3 0.6B had 36T tokens, 60,000 a parameter (Qwen
team 2025, arXiv 2505.09388)."""


def most_tokens_per_param(judge: Judge) -> float:
    """That of any run; of a fit without its runs at most what their ranges allow."""
    runs, ranges = judge.fit.runs, judge.fit.reach.ranges
    if runs is not None:
        return float((runs.frame["tokens"] / runs.frame["params"]).max())
    if not {"params", "tokens"} <= set(ranges):
        return math.inf
    return math.exp(ranges["tokens"][1] - ranges["params"][0])


def is_beyond_runs(judge: Judge, ratio: float) -> bool:
    """Whether so many tokens a parameter are far more than those of any run."""
    return ratio > OVER_TRAINED_BEYOND_RUNS.limit * most_tokens_per_param(judge)


def is_beyond_all(judge: Judge, ratio: float) -> bool:
    """Whether they are more than those of any model, too."""
    return ratio > EVER_TRAINED and is_beyond_runs(judge, ratio)
