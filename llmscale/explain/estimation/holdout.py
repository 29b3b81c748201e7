"""Which runs to hold out, the largest by default, and how well a fit without them meets them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import InputError, Note, counted, first_lines
from llmscale.explain.estimation.bias import Bias, bias_of
from llmscale.explain.estimation.levels import levels
from llmscale.explain.laws import Law
from llmscale.explain.table.rows.where import meets, parse_where
from llmscale.notes.fitting import HOLDOUT_ONE_SIDED

_COLUMNS = {"params": "params", "tokens": "tokens", "flops": "flops"}
_COLUMNS |= {"n": "params", "d": "tokens", "c": "flops"}
LARGEST_BUDGETS = 0.5
"""For laws in N and D the largest budgets are those above this share of the largest FLOPs, ..."""
_RULES = "use none, largest, or a rule like flops>1e19 or params>=10M"
_LEAST_SHARE = 0.05
"""... or above this share's powers, until they are this share of the runs: one run says little."""


@dataclass(frozen=True)
class Holdout:
    """The check: a fit without the runs of `rule`, asked for their losses.

    `runs` has one row a held-out run: run_id, title (how people name it), params, tokens, flops,
    loss, predicted, low, high, inside, and plain_low, plain_high. `low` and `high` bound a new run
    there, seed noise and a misfit that grows beyond the runs included, the plain ones without that;
    they are NaN if no interval can be given."""

    rule: str
    law: Law
    runs: pd.DataFrame
    ranked: bool = False
    """Whether other laws are asked for the same runs."""

    @property
    def mean_abs_rel_error(self) -> float:
        """Mean of |predicted/measured - 1| over the held-out runs."""
        return float((self.runs["predicted"] / self.runs["loss"] - 1).abs().mean())

    @property
    def mean_abs_error(self) -> float:
        """Mean of |predicted - measured| over the held-out runs."""
        return float((self.runs["predicted"] - self.runs["loss"]).abs().mean())

    @property
    def mean_error(self) -> float:
        """The held-out error, wherever one is shown: the mean over the runs of
        |predicted/measured - 1|, or of a plain law of |predicted - measured|."""
        return self.mean_abs_error if self.law.plain else self.mean_abs_rel_error

    @property
    def error_text(self) -> str:
        """The mean error as people read it: a share, or beyond 100% a factor; of a plain law the
        difference."""
        error = self.mean_error
        if self.law.plain:
            return f"{error:.3g}"
        return f"{error:.2%}" if error < 1 else f"a factor of {1 + error:.3g}"

    @cached_property
    def bias(self) -> Bias:
        """On which side of their forecast the held-out runs lie."""
        return bias_of(
            self.runs["run_id"],
            self.runs["loss"],
            self.runs["predicted"],
            plain=self.law.plain,
        )

    @property
    def size(self) -> str:
        """`3 runs`, or `60 rows of 6 runs`."""
        rows, runs = len(self.runs), int(self.runs["run_id"].nunique())
        every = counted(runs, "run")
        return every if rows == runs else f"{counted(rows, 'row')} of {every}"

    @property
    def notes(self) -> tuple[Note, ...]:
        """What to warn of: `holdout-one-sided`."""
        if not self.bias.one_sided:
            return ()
        return (self.bias.note(HOLDOUT_ONE_SIDED, "held-out runs", ranked=self.ranked),)

    @property
    def has_interval(self) -> bool:
        return bool(np.isfinite(self.runs["low"]).all())

    @property
    def inside_interval(self) -> int | None:
        """How many held-out runs lie inside their interval; None without intervals."""
        return int(self.runs["inside"].sum()) if self.has_interval else None

    def to_json(self) -> dict[str, Any]:
        """What `fit --json` prints of it."""
        return {
            "rule": self.rule,
            "law": self.law.name,
            "n": len(self.runs),
            "mean_abs_rel_error": None if self.law.plain else self.mean_abs_rel_error,
            "mean_abs_error": self.mean_abs_error,
            "bias": self.bias.to_json(),
            "inside_interval": self.inside_interval,
            "coefficients": {name: float(value) for name, value in self.law.coefficients().items()},
            "runs": self.runs.to_dict(orient="records"),
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        count = len(self.runs)
        text = f"held out ({self.rule}): {self.size} predicted by {self.law.name}"
        text += f" with a mean error of {self.error_text}"
        if str(self.bias):
            text += f" ({self.bias})"
        if self.has_interval:
            text += f", {self.inside_interval} of {count} inside the interval"
        return text


def held_out(frame: pd.DataFrame, inputs: tuple[str, ...], rule: str) -> NDArray[np.bool_]:
    """The runs that `rule` holds out.

    `largest` is the largest size, or for laws in N and D every run within a factor of 2 of the
    largest budget, or of 4, 8 and so on if that is fewer than one run in twenty. Of tables with
    checkpoints or steps of curves it is every row of such runs."""
    if rule == "none":
        return np.zeros(len(frame), dtype=bool)
    if rule == "largest":
        flops = frame.groupby("run_id")["flops"].transform("max").to_numpy(dtype=float)
        if len(inputs) == 1 or not np.isfinite(flops).all():
            index = levels(frame[inputs[0]].to_numpy(dtype=float))
            largest = frame["run_id"][index == index.max()]
            return frame["run_id"].isin(largest).to_numpy()
        least = LARGEST_BUDGETS * flops.max()
        while (flops >= least).sum() < int(_LEAST_SHARE * len(frame)):
            least *= LARGEST_BUDGETS
        return np.asarray(flops >= least)
    if not rule.strip():
        raise InputError("--holdout is empty", _RULES)
    held = np.ones(len(frame), dtype=bool)
    try:
        conditions = parse_where(rule)
        columns = [_COLUMNS[condition.column.lower()] for condition in conditions]
        for column, condition in zip(columns, conditions, strict=True):
            held &= meets(frame[column], condition)
    except (InputError, KeyError) as error:
        why = f": {error.problem}" if isinstance(error, InputError) else ""
        raise InputError(
            f"hold-out rule {rule!r} is not understood{why}",
            _RULES,
        ) from error
    if not held.any() or held.all():
        values = frame[columns[0]]
        raise InputError(
            f"hold-out rule {rule!r} holds out {'every run' if held.any() else 'no run'}",
            f"{columns[0]} goes from {values.min():.4g} to {values.max():.4g}; or use --holdout "
            "largest",
        )
    return held
