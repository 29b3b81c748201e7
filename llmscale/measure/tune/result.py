"""What tuning found: the optimum of every rung, the rule through them, and tune.json."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

from llmscale.errors import Note, listed
from llmscale.measure.train.recipe import Recipe
from llmscale.measure.train.rule import Rule
from llmscale.measure.tune.fit_rule import Optimum, RuleFit, fit_power
from llmscale.measure.tune.search import Node, Search, Vertex
from llmscale.measure.tune.stopping import Stop
from llmscale.measure.tune.trials import Rung
from llmscale.notes.fitting import NO_INTERVAL
from llmscale.notes.measuring import ALL_DIVERGED, BATCH_AT_EDGE, LR_AT_EDGE, UNFINISHED
from llmscale.quantity import format_count
from llmscale.runs.json_values import plain

_DECIDING = ("arch", "optimizer", "parametrization", "schedule")
"""What a rule is tuned for: with another of these the optimum is another one."""


@dataclass(frozen=True)
class Trial:
    """One run of a search, as tune.json lists it: `done`, `diverged`, `stopped` or `waiting`."""

    run_id: str
    size: str
    params: int
    tokens: int
    seed: int
    node: Node
    batch_tokens: int
    lr: float
    status: str
    loss: float | None
    flops: float
    """Training FLOPs of the whole run."""
    stop: Stop | None = None

    @property
    def share(self) -> float:
        """The share of the run that was trained."""
        if self.status == "stopped" and self.stop:
            return self.stop.share
        return 0.0 if self.status == "waiting" else 1.0


@dataclass(frozen=True)
class Tuned:
    """A rung and where its search stands."""

    rung: Rung
    losses: Mapping[Node, float]
    """Mean loss over seeds; a stopped trial is as far behind as it was, a diverged one infinite."""
    search: Search
    trials: tuple[Trial, ...]

    @property
    def finished(self) -> bool:
        return not self.search.wanted

    @property
    def lr(self) -> float:
        """The learning rate at the lowest point of the parabola, or else the best tried."""
        if vertex := self.search.lr:
            return self.rung.lr * math.exp(vertex.offset)
        return self.rung.lr * self.search.best.lr_factor

    @property
    def batch_tokens(self) -> int:
        """The best batch tried, the one that `lr` belongs to."""
        return round(self.rung.batch_tokens * 2.0**self.search.best.batch)

    @property
    def best_batch_tokens(self) -> float:
        """Tokens a step where the parabola in ln of the batch is lowest, or else the best."""
        if vertex := self.search.batch:
            return self.rung.batch_tokens * math.exp(vertex.offset)
        return float(self.batch_tokens)

    @property
    def loss(self) -> float:
        """The lowest mean loss of a node, nats a token."""
        return self.losses[self.search.best]

    @property
    def penalty(self) -> float | None:
        """How much higher the loss is by the rule in use, as a share; None before it is known."""
        best, ruled = self.losses.get(self.search.best), self.losses.get(Node())
        if best is None or ruled is None or math.isinf(best):
            return None
        return ruled / best - 1

    def count(self, *statuses: str) -> int:
        return sum(trial.status in statuses for trial in self.trials)

    def to_json(self) -> dict[str, Any]:
        rung, search = self.rung, self.search
        return {
            "size": rung.size,
            "budget": asdict(rung.budget) if rung.budget else None,
            "params": rung.params,
            "tokens": rung.tokens,
            "finished": self.finished,
            "lr": self.lr if self.finished else None,
            "batch_tokens": self.batch_tokens if self.finished else None,
            "loss": self.losses.get(search.best),
            "best": asdict(search.best),
            "lr_bracketed": search.lr_bracketed,
            "batch_bracketed": search.batch_bracketed,
            "lr_parabola": asdict(search.lr) if search.lr else None,
            "batch_parabola": asdict(search.batch) if search.batch else None,
            "rule_in_use": {
                "lr": rung.lr,
                "batch_tokens": rung.batch_tokens,
                "penalty": self.penalty,
            },
            "grid": [
                {"batch": node.batch, "lr": node.lr, "loss": loss}
                for node, loss in sorted(self.losses.items())
            ],
        }


@dataclass(frozen=True)
class Tuning:
    """The rungs by growing size and budget, and the rule through those that are finished."""

    rungs: tuple[Tuned, ...]
    rule: Rule | None
    fits: Mapping[str, RuleFit]
    notes: tuple[Note, ...]

    @property
    def trials(self) -> list[Trial]:
        """The trials of all rungs."""
        return [*chain.from_iterable(rung.trials for rung in self.rungs)]

    @property
    def flops(self) -> float:
        """FLOPs trained."""
        return sum(trial.flops * trial.share for trial in self.trials)

    @property
    def flops_saved(self) -> float:
        """FLOPs not trained because trials were stopped."""
        stopped = [trial for trial in self.trials if trial.status == "stopped"]
        return sum(trial.flops * (1 - trial.share) for trial in stopped)

    def to_json(self) -> dict[str, Any]:
        payload = {
            "rule": self.rule.to_json() if self.rule else None,
            "fits": {name: _fit_json(fit) for name, fit in self.fits.items()},
            "rungs": [rung.to_json() for rung in self.rungs],
            "trials": [asdict(trial) for trial in self.trials],
            "flops": self.flops,
            "flops_saved_by_stopping": self.flops_saved,
            "warnings": [asdict(note) for note in self.notes],
        }
        table: dict[str, Any] = plain(payload)
        return table


def conclude(tuned: Sequence[Tuned], recipe: Recipe) -> Tuning:
    """The rule through the optima of the rungs whose search has ended, and the warnings. A rung
    without a bracket only bounds its optimum, and is left out of the rule if others have one."""
    ordered = tuple(sorted(tuned, key=lambda one: (one.rung.params, one.rung.tokens)))
    sound = [one for one in ordered if one.finished and math.isfinite(one.loss)]
    notes = _warnings(ordered, sound)
    if not sound:
        return Tuning(ordered, None, {}, tuple(notes))

    chosen = [one for one in sound if one.search.lr_bracketed] or sound
    optima = [_optimum(one, one.lr, one.search.lr) for one in chosen]
    fits = {"lr": fit_power(optima, "learning rate")}
    searched = [one for one in sound if one.search.batch]
    if searched:
        bracketed = [one for one in searched if one.search.batch_bracketed] or searched
        optima = [_optimum(one, one.best_batch_tokens, one.search.batch) for one in bracketed]
        fits["batch_tokens"] = fit_power(optima, "batch")
    for fit in fits.values():
        notes += fit.notes
    if fits["lr"].exponents and fits["lr"].spread is None:
        few = f"{len(chosen)} optima fix as many coefficients of the rule, so it has no intervals"
        notes.append(NO_INTERVAL.note(f"{few}: tune more sizes or budgets"))
    params = [one.rung.params for one in chosen]
    tokens = [one.rung.tokens for one in chosen]
    rule = Rule(
        lr=fits["lr"].power,
        batch_tokens=fits["batch_tokens"].power if searched else None,
        params=(min(params), max(params)),
        tokens=(min(tokens), max(tokens)),
        recipe={name: getattr(recipe, name) for name in _DECIDING},
    )
    return Tuning(ordered, rule, fits, tuple(notes))


def _optimum(one: Tuned, value: float, vertex: Vertex | None) -> Optimum:
    return Optimum(one.rung.params, one.rung.tokens, value, vertex.curvature if vertex else None)


def _place(one: Tuned) -> str:
    return f"{one.rung.size} on {format_count(one.rung.tokens)}"


def _warnings(ordered: Sequence[Tuned], sound: Sequence[Tuned]) -> list[Note]:
    concerned = {
        LR_AT_EDGE: [one for one in sound if not one.search.lr_bracketed],
        BATCH_AT_EDGE: [one for one in sound if one.search.batch_bracketed is False],
        ALL_DIVERGED: [one for one in ordered if one.finished and one not in sound],
        UNFINISHED: [one for one in ordered if not one.finished],
    }
    found = ((kind, listed(map(_place, rungs))) for kind, rungs in concerned.items() if rungs)
    return [kind.note(f"{places}: {_WHAT[kind]}") for kind, places in found]


_WHAT = {
    LR_AT_EDGE: "the best learning rate is at an end of those tried and a better one may lie "
    "beyond: start nearer to it (--lr-scale) or go further (--doublings)",
    BATCH_AT_EDGE: "the best batch is at an end of those tried: a single sequence, the most that "
    "leaves enough steps, or the limit of --doublings",
    ALL_DIVERGED: "every trial diverged, so the rule leaves it out: look at the text and at clip",
    UNFINISHED: "the search has not ended, so the rule leaves it out: name it in the command to "
    "go on",
}


def _fit_json(fit: RuleFit) -> dict[str, Any]:
    return {"formula": str(fit.power), **asdict(fit)}
