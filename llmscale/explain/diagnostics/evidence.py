"""What the diagnostics look at: a fit, its runs, their residuals and how the law leans on its
coefficients."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from llmscale.errors import counted as counted
from llmscale.explain.diagnostics.smooth import Surface, beside, parabolas
from llmscale.explain.diagnostics.smooth import basis as basis
from llmscale.explain.estimation.again import fit_again
from llmscale.explain.estimation.levels import distinct, levels
from llmscale.explain.estimation.relative import relative, size
from llmscale.explain.estimation.result import Fit, settings_of
from llmscale.explain.laws import LETTERS, Array
from llmscale.explain.laws._formula import Formula
from llmscale.explain.table import RunTable
from llmscale.quantity import format_count


@dataclass(frozen=True)
class SeenCurve:
    """What is looked at of a run's curve: the same for every law that is fitted to the runs."""

    windows: Array | None
    """Mean loss around each of _PROGRESS, and at the end last; None for a curve too sparse."""
    noise: Array | None
    """The standard error of each."""
    ends_hot: bool
    """Whether it ends above half its highest learning rate."""


@dataclass(frozen=True)
class Evidence:
    """A fit and what is known of its runs.

    `runs` has every row of the source, those that are not done, too; `curves` is what is looked at
    of every run's curve, by id. `refit` fits the same law to another table with the same options,
    without bootstrap, hold-out and diagnostics. `ranked` says that other laws were fitted next to
    it."""

    fit: Fit
    runs: pd.DataFrame | None = None
    curves: Mapping[str, SeenCurve] | None = None
    refit: Callable[[RunTable], Fit] | None = None
    ranked: bool = False

    @property
    def frame(self) -> pd.DataFrame:
        """The runs that were fitted."""
        return self.fit.table.frame

    @property
    def done(self) -> pd.DataFrame:
        """Every finished run known, fitted or not."""
        if self.runs is None:
            return self.frame
        return self.runs[self.runs["status"] == "done"] if "status" in self.runs else self.runs

    def again(self, *changes: object) -> str:
        """The command that makes the fit again, with changes to its options."""
        return fit_again(self.fit.table, self.fit.law, self.fit.options, *changes)

    @property
    def other_laws(self) -> str:
        """Where laws of other forms are to be seen: a command, unless they stand next to this."""
        return "they are ranked here" if self.ranked else self.again("--law", "all")

    @cached_property
    def inputs(self) -> list[Array]:
        return self.fit.inputs

    @cached_property
    def residual(self) -> Array:
        """ln measured - ln law, one a run; of a plain law their difference."""
        return self.fit.residuals

    @property
    def level(self) -> Array:
        """What residuals are differences of, one a run."""
        return np.asarray(self.fit.law.level_of(self.frame["loss"].to_numpy(dtype=float)))

    def size(self, difference: float) -> str:
        """A difference of levels in words, without its sign."""
        return size(difference, plain=self.fit.law.plain)

    def relative(self, difference: float) -> str:
        """A difference of levels in words."""
        return relative(difference, plain=self.fit.law.plain)

    @property
    def moving(self) -> list[str]:
        """The coefficients that are not 0, in the order of the law."""
        return [name for name, value in self.fit.law.coefficients().items() if value != 0]

    @cached_property
    def jacobian(self) -> Array:
        """∂ ln L/∂ ln coefficient at every run, (R, K) for the K of `moving`."""
        law, loss = self.fit.law, self.frame["loss"].to_numpy(dtype=float)
        surface = Formula(type(law), settings_of(law), self.inputs, loss)
        values = np.array(list(law.coefficients().values()), dtype=float)
        jacobian = surface.jacobian(surface.theta(values[None])[0])
        # Of signed coefficients the surface has the slope in the coefficient itself.
        return np.asarray(np.where(surface.signed, values, 1.0) * jacobian)[:, values != 0]

    @cached_property
    def spare(self) -> int:
        """Runs beyond the directions that the coefficients can move the law in."""
        return len(self.residual) - basis(self.jacobian).shape[1]

    @cached_property
    def axes(self) -> dict[str, Array]:
        """ln N, ln D and ln D/N if they are known and vary; ln C for laws in C."""
        logs = {
            LETTERS[name]: np.log(self.frame[name].to_numpy(dtype=float))
            for name in LETTERS
            if name != "flops" or name in self.fit.law.inputs
        }
        if "N" in logs and "D" in logs:
            logs["D/N"] = logs["D"] - logs["N"]
        return {
            name: values
            for name, values in logs.items()
            if np.isfinite(values).all() and np.ptp(values) > 0.02
        }

    @cached_property
    def stiff(self) -> Surface | None:
        """The surface of what the law's own coefficients can do; None for too few runs."""
        return beside(self.residual, self.jacobian, [])

    @cached_property
    def smooth(self) -> Surface | None:
        """The surface that may bend besides as any parabola in ln N and ln D does."""
        axes = {name: logs for name, logs in self.axes.items() if name != "D/N"}
        return beside(self.residual, self.jacobian, parabolas(axes))

    @cached_property
    def own_settings(self) -> list[str]:
        """Columns that say how a run was made, other than its size, budget and seed: what a fair
        pair shares."""
        names = [
            *(
                "lr",
                "lr_scale",
                "batch_tokens",
                "batch_sequences",
                "batch_size",
                "wd",
                "weight_decay",
                "warmup",
                "cd",
            ),
            *(
                "schedule",
                "optimizer",
                "arch",
                "model",
                "n_layer",
                "d_model",
                "vocab_size",
                "context",
                "tokenizer",
            ),
            *("data", "dataset", "data_fingerprint", "unique_tokens", "dedup"),
            *(name for name in self.fit.law.inputs if name not in LETTERS),
        ]
        return [name for name in dict.fromkeys(names) if name in self.frame]


def groups(frame: pd.DataFrame, exact: Iterable[str] = ()) -> NDArray[np.int_]:
    """For each row a number that rows of one size, one budget and the same `exact` columns
    share."""
    keys = [
        levels(frame[name].to_numpy(dtype=float))
        for name in ("params", "tokens")
        if known(frame, name)
    ]
    keys += [pd.factorize(frame[name], use_na_sentinel=False)[0] for name in exact]
    if not keys:
        return np.zeros(len(frame), dtype=int)
    return distinct(keys)


def known(frame: pd.DataFrame, name: str) -> bool:
    """Whether the column is there and every value of it is a positive number."""
    if name not in frame:
        return False
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(dtype=float)
    return bool(len(values)) and bool((np.isfinite(values) & (values > 0)).all())


def where(frame: pd.DataFrame, row: int) -> str:
    """`N = 1.2M, D = 30M` of a row."""
    parts = [
        (LETTERS[name], float(frame[name].iloc[row]))
        for name in ("params", "tokens")
        if name in frame
    ]
    return ", ".join(
        f"{letter} = {format_count(value)}" for letter, value in parts if np.isfinite(value)
    )


def best_at_end(tried: Array, loss: Array) -> float | None:
    """The setting of the lowest loss, if it is the smallest or the largest of those tried.
    Of settings that share the lowest loss, as rounded losses do, one inside is enough for None."""
    best = np.unique(tried[loss == loss.min()])
    inside = (best > tried.min()) & (best < tried.max())
    return None if inside.any() else float(best[-1])
