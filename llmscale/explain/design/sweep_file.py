"""A TOML file for `llmscale sweep`: the runs that are proposed, next to those of the sweep that the
table is of, so that it goes on in the same folder."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmscale.errors import InputError
from llmscale.explain.design.proposal import NextRuns, ProposedRun
from llmscale.explain.design.sizes import OwnSweep
from llmscale.runs.shape import USUAL_CONTEXT, USUAL_VOCABULARY, shape_for

_GRID_ONLY = ("per_budget", "optimum", "spread")
"""Settings that a sweep without `flops` does not take."""
_RUNS = "runs"
_Point = tuple[str, Any, float]
"""The size of a run, the tokens that it is asked for, and the factor on its learning rate."""
COMMAND = "llmscale sweep THIS_FILE"
"""Stands for the command that trains the runs, until the file has a name."""


def sweep_file(found: NextRuns, tokens: Sequence[str | int], sweep: OwnSweep | None) -> str:
    """The text of the file; `tokens` is what each run is asked for."""
    spec: Mapping[str, Any] = sweep.spec if sweep else {}
    runs = _together(found.runs, tokens, spec.get(_RUNS) or ())
    if found.trials is not None:
        for scale in found.trials.scales:
            point = (found.trials.size, round(found.trials.tokens), scale)
            runs.setdefault(point, (1, found.trials.reason))
    return _file(_heading(found, sweep), spec, runs)


def spec_file(spec: Mapping[str, Any], heading: str) -> str:
    """The text of a file that asks for the sweep `spec`, as sweep.json has it."""
    return _file([heading], spec, _together((), (), spec.get(_RUNS) or ()))


def swept_flops(runs: Iterable[ProposedRun]) -> float | None:
    """What a sweep counts for these runs in its usual vocabulary and context; None if it trains no
    such sizes."""
    total = 0.0
    for run in runs:
        if not is_trainable(run.size):
            return None
        shape = shape_for(run.size, vocab_size=USUAL_VOCABULARY, context=USUAL_CONTEXT)
        total += run.tokens * shape.flops_per_token
    return total or None


def is_trainable(size: str) -> bool:
    """Whether a sweep takes a size by this name."""
    try:
        shape_for(size, vocab_size=1, context=1)
    except InputError:
        return False
    return True


def _file(
    heading: Iterable[str], spec: Mapping[str, Any], runs: Mapping[_Point, tuple[int, str]]
) -> str:
    lines = [f"# {line}" for line in heading]
    lines += _values(_grid(spec))
    if runs:
        lines += _listed(runs)
    for name in ("data", "recipe", "recipes", "hardware"):
        lines += _table(name, _said(name, spec.get(name) or {}))
    return "\n".join(lines) + "\n"


def _heading(found: NextRuns, sweep: OwnSweep | None) -> Iterator[str]:
    yield "Runs that llmscale next proposes for a forecast at " + found.target + "."
    yield f"They cost {found.flops:.3g} FLOPs of a budget of {found.budget:.3g}."
    if found.trials is not None:
        yield f"Those with an lr_scale try the learning rate: {found.trials.flops:.3g} FLOPs more."
    if sweep is None:
        if found.swept is not None:
            yield f"A sweep counts {found.swept:.3g}, with attention and the output layer of each"
            yield (
                f"shape, in {USUAL_VOCABULARY} tokens of vocabulary and a context of "
                f"{USUAL_CONTEXT}; more in larger ones."
            )
        yield "N stands for the size. Name the text and the recipe in [data] and [recipe], then:"
    else:
        yield "They go on with the sweep that is there, of which only new runs are trained:"
    yield f"  {COMMAND}"


def _grid(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the sweep that are no tables."""
    left_out = {_RUNS, *(() if spec.get("flops") else _GRID_ONLY)}
    plain = {name: value for name, value in spec.items() if name not in left_out}
    return {name: value for name, value in plain.items() if not isinstance(value, Mapping)}


def _together(
    runs: Sequence[ProposedRun], tokens: Sequence[str | int], known: Sequence[Mapping[str, Any]]
) -> dict[_Point, tuple[int, str]]:
    """By point how many seeds are asked for, and why; what was asked for before, too."""
    found: dict[_Point, tuple[int, str]] = {
        (str(run["size"]), run["tokens"], float(run.get("lr_scale", 1.0))): (int(run["seeds"]), "")
        for run in known
    }
    for run, count in zip(runs, tokens, strict=True):
        point = (run.size, count, 1.0)
        before, _ = found.get(point, (0, ""))
        found[point] = max(before, run.seed + 1), run.reason
    return found


def _listed(runs: Mapping[_Point, tuple[int, str]]) -> Iterator[str]:
    yield "runs = ["
    for (size, tokens, lr_scale), (seeds, reason) in runs.items():
        said = f", seeds = {seeds}" if seeds > 1 else ""
        said += f", lr_scale = {lr_scale:g}" if lr_scale != 1.0 else ""
        why = f" # {reason}" if reason else ""
        yield f"  {{ size = {_written(size)}, tokens = {_written(tokens)}{said} }},{why}"
    yield "]"


def _said(name: str, table: Mapping[str, Any]) -> Mapping[str, Any]:
    """A table without what says nothing; of the hardware only the executor's own table."""
    if name != "hardware":
        return table
    executor = table.get("executor")
    return {
        key: value
        for key, value in table.items()
        if value != "auto" and (not isinstance(value, Mapping) or key == executor)
    }


def _table(name: str, table: Mapping[str, Any]) -> Iterator[str]:
    """A table and those in it."""
    plain = list(_values({k: v for k, v in table.items() if not isinstance(v, Mapping)}))
    if plain:
        yield ""
        yield f"[{name}]"
        yield from plain
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _table(f"{name}.{_key(key)}", value)


def _values(values: Mapping[str, Any]) -> Iterator[str]:
    for name, value in values.items():
        if value is not None and value != [] and value != "":
            yield f"{_key(name)} = {_written(value)}"


def _key(name: str) -> str:
    bare = name.replace("_", "").replace("-", "")
    return name if bare.isalnum() and bare.isascii() else json.dumps(name)


def _written(value: Any) -> str:
    """JSON writes texts, numbers, truths and lists of them as TOML reads them."""
    return json.dumps(value, ensure_ascii=False)
