"""What reports on two recipes share: optimizers.py, cleaning.py and distillation.py."""

import pandas as pd

import llmscale
from llmscale.explain.recipes.multiplier import Multiplier


def worth(runs: pd.DataFrame, column: str, baseline: str) -> Multiplier:
    """How much of the compute of the `baseline` the other recipe of `column` needs, at the largest
    compute that both have."""
    return llmscale.compare(runs, by=column, baseline=baseline).at()[0]


def side_by_side(pair: pd.DataFrame, column: str, first: str, second: str) -> str:
    """The beginning of a line of a report on runs of one size and budget: which they are, and the
    mean losses of those whose `column` is `first` and `second`."""
    run, mean = pair.iloc[0], pair.groupby(column)[["flops", "loss"]].mean()
    one, other = mean["loss"][first], mean["loss"][second]
    cells = (
        f"{run['size']} | {run['params']:,} | {run['tokens']:,} | {mean['flops'][first]:.2e}",
        f"{one:.4f} | {other:.4f} | {other - one:+.4f}",
    )
    return " | ".join(cells)
