"""Runs that lie apart from the rest: two kinds in one table, and sizes or budgets that are off
together.

Limits were chosen on simulated tables and on those of three laboratories, and tried on others:
experiments/planted_faults.py."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from llmscale.errors import Note, listed
from llmscale.errors.command_lines import command_line
from llmscale.explain.diagnostics.evidence import Evidence, counted
from llmscale.explain.diagnostics.mixing import told_apart_by
from llmscale.explain.diagnostics.smooth import Group, Surface, TwoKinds, groups_of, two_kinds
from llmscale.explain.laws import Array
from llmscale.notes.fitting import GROUP_OFF_LAW, TWO_KINDS_OF_RUNS
from llmscale.quantity import format_count
from llmscale.runs.title import run_titles

_MOST_ROWS = 20_000
"""More rows are hardly runs."""
_LEAST_OF_A_KIND, _LEAST_SHARE = 3, 0.07
"""Fewer runs are outliers."""
_LEAST_APART = 0.006
_SCATTERS_APART = 3.5
_FEW_SPARE, _MORE_GAIN = 12, 1.3
"""With fewer runs to spare, chance makes two kinds more often."""
_SMOOTH_SHARE, _STIFF_SHARE, _STIFF_ERRORS = 0.005, 0.01, 1.0
"""The share of the loss by which a group is off beside any parabola, which a law of another form
bends as, and beside what the law's own coefficients can do, which takes one standard error more."""
_OWN_SHARE, _LIKELIER = 0.05, 1.3
_UNITS = {"bits and nats per token": 1 / math.log(2), "log10 and nats": math.log(10)}
_COLUMNS = {"N": "params", "D": "tokens", "C": "flops"}
_THINGS = {"N": "sizes", "D": "token budgets", "C": "budgets"}


def two_kinds_of_runs(evidence: Evidence) -> Note | None:
    """Runs that follow one law at two heights, and the column that tells them apart, if any."""
    surface = evidence.smooth or evidence.stiff
    if surface is None or not _are_runs(evidence):
        return None
    # Two kinds this far apart make a wider spread than this, however few one of them are.
    if float(surface.left.std()) < _LEAST_APART * _LEAST_SHARE**0.5 * 0.9:
        return None
    kinds = two_kinds(surface, evidence.residual)
    fewer = min(int(kinds.higher.sum()), int((~kinds.higher).sum()))
    few = fewer < max(_LEAST_OF_A_KIND, _LEAST_SHARE * len(kinds.higher))
    near = kinds.apart < max(_LEAST_APART, _SCATTERS_APART * kinds.scatter)
    limit = TWO_KINDS_OF_RUNS.limit * (_MORE_GAIN if surface.spare < _FEW_SPARE else 1.0)
    if few or near or kinds.gain < limit:
        return None
    return TWO_KINDS_OF_RUNS.note(_of_kinds(evidence, kinds))


def _of_kinds(evidence: Evidence, kinds: TwoKinds) -> str:
    of_fewer = kinds.higher if kinds.higher.mean() <= 0.5 else ~kinds.higher
    side = "above" if of_fewer is kinds.higher else "below"
    rows = np.flatnonzero(of_fewer)
    unit = next(
        (
            f", as {units} are"
            for units, factor in _UNITS.items()
            if abs(kinds.apart - math.log(factor)) < 0.05
        ),
        "",
    )
    apart, scatter = evidence.size(kinds.apart), evidence.size(kinds.scatter)
    return (
        f"{len(rows)} of {counted(len(of_fewer), 'run')} lie {apart} {side} the others{unit}, all "
        f"of them alike, while runs of one kind scatter by {scatter}: "
        f"{listed(run_titles(evidence.frame, rows), 3)}. Are two kinds mixed: other data, another "
        "tokenizer, training losses, checkpoints, runs cut short? "
        f"{told_apart_by(evidence, of_fewer)}"
    )


@dataclass(frozen=True)
class _Off:
    group: Group
    effect: float
    certainty: float


def group_off_law(evidence: Evidence) -> Note | None:
    """The largest or smallest sizes (or budgets), or one of them, all to one side of the law."""
    if not _are_runs(evidence):
        return None
    axes = {name: logs for name, logs in evidence.axes.items() if name in _COLUMNS}
    found = []
    for surface, share, more in (
        (evidence.smooth, _SMOOTH_SHARE, 0.0),
        (evidence.stiff, _STIFF_SHARE, _STIFF_ERRORS),
    ):
        if surface is not None:
            chance = float(stdtrit(max(surface.spare - 1, 1), 1 - GROUP_OFF_LAW.limit)) + more
            every = _groups_beside(surface, axes)
            found += [off for off in every if off.certainty > chance and abs(off.effect) > share]
    if not found:
        return None
    return GROUP_OFF_LAW.note(_of_group(evidence, max(found, key=_plain), axes))


def _groups_beside(surface: Surface, axes: Mapping[str, Array]) -> Iterator[_Off]:
    """How far every group is off."""
    groups = list(groups_of(axes))
    if not groups:
        return
    shapes = np.stack([group.rows for group in groups]).astype(float)
    for group, effect, errors, own in zip(groups, *surface.effects(shapes), strict=True):
        # What the surface takes up nearly whole says nothing of the group.
        if own > _OWN_SHARE:
            yield _Off(group, float(effect), abs(float(errors)))


def _plain(off: _Off) -> float:
    """What to name of several that are off: one of them pushes others to its other side. Ends of
    the sizes are off more often than what lies inside, and too high more often than too low."""
    likely = 1.0
    for holds in (off.group.place != "at", off.group.axis == "N", off.effect > 0):
        likely *= _LIKELIER if holds else 1.0
    return off.certainty * likely


_CAUSES = {
    ("N", "above", True): "were they tuned as well, on the same data, and to the end of their "
    "schedule",
    ("N", "below", True): "does N count embeddings, or were they tuned less well",
    ("N", "above", False): "were they tuned better than the rest, or trained on other data",
    ("N", "below", False): "were they tuned better, such as the best of many, or trained on other "
    "data",
    ("D", "above", True): "do they read their text again and again, or end before their cooldown",
    ("D", "below", True): "are they too short for their warm-up and batch",
}


def _of_group(evidence: Evidence, off: _Off, axes: Mapping[str, Array]) -> str:
    group, high = off.group, off.effect > 0
    values = np.exp(axes[group.axis])[group.rows]
    ends = list(dict.fromkeys((format_count(values.min()), format_count(values.max()))))
    which = {"above": "largest", "below": "smallest", "at": ""}[group.place]
    side = "above" if high else "below"
    cause = _CAUSES.get((group.axis, group.place, high))
    if cause is None:
        cause = "was anything done otherwise there, or is a count of N, D or the batch wrong"
    what = f"the {which} {_THINGS[group.axis]}".replace("  ", " ")
    if group.place == "at":
        what = f"the {counted(int(group.rows.sum()), 'run')}"
    column, much = _COLUMNS[group.axis], evidence.relative(off.effect)
    return (
        f"{what} ({group.axis} = {' to '.join(ends)}) lie {side} what the other runs say ({much}, "
        f"{off.certainty:.0f} standard errors): {cause}? Compare without them: "
        f"{command_line('--where', _without(column, group, values))}"
    )


def _without(column: str, group: Group, values: Array) -> str:
    if group.place == "above":
        return f"{column} < {float(values.min()):.12g}"
    if group.place == "below":
        return f"{column} > {float(values.max()):.12g}"
    return " and ".join(f"{column} != {value:.12g}" for value in np.unique(values).tolist())


def _are_runs(evidence: Evidence) -> bool:
    """Whether rows are runs: steps of one run are not independent, and lie together anyway."""
    return len(evidence.frame) <= _MOST_ROWS and not evidence.frame["run_id"].duplicated().any()
