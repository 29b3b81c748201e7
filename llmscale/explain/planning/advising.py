"""Makes advice: the best model within all limits, and what each of them costs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from llmscale.errors import Note
from llmscale.explain.fit.two_steps import TwoSteps
from llmscale.explain.forecast.asked import forecast_at
from llmscale.explain.forecast.forecast import Forecast
from llmscale.explain.planning.advice import Advice, Lifetime, Limit, Option
from llmscale.explain.planning.advice_notes import advice_notes
from llmscale.explain.planning.choice import Run
from llmscale.explain.planning.deployment import TRAINED_TO_SERVED, Deployment
from llmscale.explain.planning.distance import Distance, distance_of
from llmscale.explain.planning.enough import Enough, enough_of
from llmscale.explain.planning.estimate import Estimate
from llmscale.explain.planning.judge import Judge
from llmscale.explain.planning.limits import Limits, Model, best_within, largest_served
from llmscale.explain.planning.real_shape import Setting, shape_near
from llmscale.explain.planning.rounding import Rounding
from llmscale.explain.planning.said import three_digits
from llmscale.explain.planning.surface import LossSurface
from llmscale.quantity import format_count, format_memory

_WITHOUT = {
    "text": "with more text",
    "memory": "no memory limit",
    "speed": "no speed limit",
}
"""What a model is called that a limit does not bind."""
_SERVING = frozenset(("memory", "speed"))
_WORTH_TELLING = 5e-4
"""Of all FLOPs of a life: less would be shown as 0.0%."""
_LEAST_SHARE, _MOST_SHAPES = 0.01, 64
"""Of the advised size: no smaller model is looked at for its life, and so many in between."""
_NEXT_TO_NOTHING = 0.005
"""Of the loss: compute does not bind if all more of it gains less (as `plan --within` has it)."""


@dataclass(frozen=True)
class Adviser:
    """What advice is made of: a judge, the limits, and what a shape depends on; `served` tokens
    are served over the model's life, `steps` lead to the score of a task, and `rounding` tells what
    rounding weights costs."""

    judge: Judge
    limits: Limits
    setting: Setting
    served: float | None = None
    steps: TwoSteps | None = None
    rounding: Rounding | None = None

    @cached_property
    def advised(self) -> Option:
        """The best model within all limits."""
        return self._option("advised", self.best_within(self.limits))

    def best_within(self, limits: Limits) -> Model:
        """The model of the lowest loss within limits."""
        return best_within(self._judge_on(limits.unique), limits, self.setting)

    def _judge_on(self, unique: float | None) -> Judge:
        """The judge of runs on so much text."""
        return self.judge if unique == self.judge.unique else self._on_new_text

    @cached_property
    def _on_new_text(self) -> Judge:
        return replace(self.judge, unique=None)

    @cached_property
    def forecast(self) -> Forecast:
        """That of the advised model, on as much text as there is."""
        return self._forecast(self.advised.model)

    def advice(self, best: Forecast, budget: str) -> Advice:
        """All of it; `best` is the forecast of the compute-optimal run, and `budget` how the
        compute was said."""
        lifetime = self._lifetime()
        alternatives = self._alternatives(lifetime)
        return Advice(
            advised=self.advised,
            alternatives=alternatives,
            limits=tuple(self._limits(budget)),
            forecast=self.forecast,
            best=best,
            judge=self.judge,
            setting=self.setting,
            budget=budget,
            distance=self._distance,
            lifetime=lifetime,
            steps=self.steps,
            rounding=self.rounding,
            enough=self._enough,
            notes=self._notes(best),
        )

    @cached_property
    def _freed(self) -> dict[str, Model]:
        """The best model without each limit that binds, compute aside."""
        limits, advised = self.limits, self.advised.model
        found = {}
        if limits.unique is not None and advised.tokens > limits.unique:
            found["text"] = self.best_within(limits.without_text)
        if limits.deployment is None:
            return found
        best = float(self.judge.surface.best(limits.flops)[0])
        for name, (only, without) in limits.deployment.each_limit.items():
            most = float(getattr(largest_served(only, self.setting), advised.count))
            # The tightest one binds: others would only bind without it.
            if most < best and most <= advised.params:
                found[name] = self.best_within(replace(limits, deployment=without))
        return found

    @property
    def _distance(self) -> Distance | None:
        """How far the advised size is from the best one; None if serving holds it down."""
        if not _SERVING.isdisjoint(self._freed):
            return None
        flops = self.limits.flops
        best = float(self.judge.surface.best(flops)[0])
        return distance_of(self.judge, self.advised.model.params, best, flops)

    @cached_property
    def _enough(self) -> Enough | None:
        """How much compute is worth spending; None if neither text nor size is limited."""
        is_held = not _SERVING.isdisjoint(self._freed)
        if self.limits.unique is None and not is_held:
            return None
        most = self.advised.model.params if is_held else math.inf
        return enough_of(self.judge, _NEXT_TO_NOTHING, most)

    @property
    def _compute_binds(self) -> bool:
        return self._enough is None or self.limits.flops < self._enough.flops

    def _by_compute(self) -> dict[str, Model]:
        """The best models of less and of more compute; of what is enough, if there is more."""
        budgets = {"half the compute": 0.5, "twice the compute": 2.0}
        if self._enough is not None and not self._compute_binds:
            budgets = {"enough compute": self._enough.flops / self.limits.flops}
        return {name: self._best_of(times) for name, times in budgets.items()}

    def _best_of(self, times: float) -> Model:
        """The best model of so many times the compute."""
        return self.best_within(replace(self.limits, flops=times * self.limits.flops))

    def _alternatives(self, lifetime: Lifetime | None) -> tuple[Option, ...]:
        """What else may be trained: without limits, with less and more compute, in fewer bytes if
        serving limits the size, smaller for longer."""
        limits, freed = self.limits, self._freed
        models = {"compute-optimal": self.best_within(Limits(limits.flops))} if freed else {}
        models |= {_WITHOUT[name]: model for name, model in freed.items()}
        models |= self._by_compute()
        options = [self._option(name, model) for name, model in _differing(models, self.advised)]
        if limits.deployment is not None and not _SERVING.isdisjoint(freed):
            options.append(self._in_fewer_bits(limits.deployment))
        smaller = self._smaller()
        if smaller is not None:
            options.append(self._option("smaller, longer", smaller))
        if lifetime is not None and lifetime.saves > 0:
            options.append(lifetime.option)
        return tuple(options)

    def _in_fewer_bits(self, deployment: Deployment) -> Option:
        """The best model in half the bytes a weight, with what that costs as far as it is known."""
        full = deployment.load.bytes_per_weight
        fewer = deployment.with_bytes(0.5 * full)
        model = self.best_within(replace(self.limits, deployment=fewer))
        one = self._option(f"{4 * full:g}-bit weights", model)
        cost = None if self.rounding is None else self.rounding.more(8 * full, 4 * full)
        if cost is None:
            return one
        assert one.above is not None
        loss = replace(one.choice, loss=one.choice.loss.plus(cost))
        # The score follows the loss of training, which this is not.
        return replace(one, choice=loss, above=one.above.plus(cost), score=None)

    def _smaller(self) -> Model | None:
        """Half the size on what the compute pays for; None if no shape is near."""
        model = self.advised.model
        shape = shape_near(model.count, 0.5 * model.params, self.setting)
        if shape is None:
            return None
        return replace(model, shape=shape, tokens=self.limits.flops / shape.flops_per_token)

    def _limits(self, budget: str) -> Iterator[Limit]:
        """Every limit that was given, and what it costs."""
        limits, freed = self.limits, self._freed
        more = self._gain(self._best_of(2.0)) if self._compute_binds else None
        yield Limit("compute", budget, self._compute_binds, more)
        allowed = {}
        if limits.unique is not None:
            allowed["text"] = (
                f"{format_count(limits.unique)} unique tokens, {_epochs(self.advised)}"
            )
        if limits.deployment is not None:
            for name, (only, _) in limits.deployment.each_limit.items():
                most = largest_served(only, self.setting)
                size = format_count(getattr(most, self.advised.model.count))
                is_last = most == self.setting.shapes[-1]
                upto = f"N up to {size}{', the largest built-in shape' * is_last}"
                allowed[name] = f"{_allowed(name, only)}, {upto}"
        for name, said in allowed.items():
            gain = self._gain(freed[name]) if name in freed else None
            yield Limit(name, said, name in freed, gain)

    def _gain(self, model: Model) -> Estimate:
        """How much lower the loss of a model is than the advised one's."""
        found = self._above(model)
        return Estimate(-found.value, -found.high, -found.low)

    def _above(self, model: Model) -> Estimate:
        """How much higher the loss of a model is than the advised one's, by the law and by its
        refits."""
        advised, other = self.advised.model, self._judge_on(model.limits.unique)

        def difference(surface: LossSurface) -> Any:
            own = other.surface if surface is self.judge.surface else other.refits
            least = surface.loss(advised.params, advised.tokens)
            return own.loss(model.params, model.tokens) - least

        return self.judge.estimate(difference)

    def _option(self, name: str, model: Model) -> Option:
        """A model with all that is to be said of it."""
        run = Run(name, model.params, model.tokens, model.flops)
        deployment = model.limits.deployment or self.limits.deployment
        return Option(
            name=name,
            model=model,
            choice=self._judge_on(model.limits.unique).choices([run])[0],
            above=None if name == "advised" else self._above(model),
            score=self._score(model),
            served=None if deployment is None else deployment.served(model.shape),
        )

    def _score(self, model: Model) -> Estimate | None:
        """The score of the task."""
        if self.steps is None:
            return None
        told = self.steps.after(self._forecast(model))
        return Estimate(float(told.score), float(told.low), float(told.high))

    def _forecast(self, model: Model) -> Forecast:
        """What is known of its loss."""
        judge = self._judge_on(model.limits.unique)
        return forecast_at(judge.fit, **judge.asked(model.params, model.tokens))

    def _lifetime(self) -> Lifetime | None:
        """The model of the fewest FLOPs over its life that reaches the advised loss."""
        if self.served is None:
            return None
        advised, surface = self.advised.model, self.judge.surface
        shapes = [
            shape
            for shape in self.setting.shapes
            if _LEAST_SHARE * advised.params <= getattr(shape, advised.count) <= advised.params
        ]
        thinned = [*shapes[:: max(len(shapes) // _MOST_SHAPES, 1)], advised.shape]
        N_B1 = np.array([[float(getattr(shape, advised.count))] for shape in thinned])
        each_B = np.array([shape.flops_per_token for shape in thinned], dtype=float)
        loss = surface.loss(advised.params, advised.tokens)
        tokens_B = surface.tokens_for(N_B1, loss, np.full(N_B1.shape, advised.tokens))[:, 0]
        tokens_B[-1] = advised.tokens  # to the digit, of text that is used up, too
        total_B = each_B * (tokens_B + self.served / TRAINED_TO_SERVED)
        own = advised.shape.flops_per_token * (advised.tokens + self.served / TRAINED_TO_SERVED)
        best = int(np.argmin(total_B))
        model = Model(thinned[best], advised.count, float(tokens_B[best]), self.limits)
        option = self._option(f"to serve {format_count(self.served)}", model)
        flops = float(total_B[best])
        saves = 1.0 - flops / own
        return Lifetime(
            served=self.served,
            option=option,
            flops=flops,
            saves=saves if saves > _WORTH_TELLING else 0.0,
            is_smallest=best == 0 and len(thinned) > 1,
        )

    def _notes(self, best: Forecast) -> tuple[Note, ...]:
        own = advice_notes(self.judge, self.advised, self.setting, self.rounding)
        optima = [note for one in best.optima for note in one.notes]
        return (*own, *self.forecast.notes, *optima)


def _differing(models: dict[str, Model], advised: Option) -> list[tuple[str, Model]]:
    """Models that are not the advised one, nor one that is named before."""
    seen, found = [_what(advised.model)], []
    for name, model in models.items():
        if _what(model) not in seen:
            seen.append(_what(model))
            found.append((name, model))
    return found


def _what(model: Model) -> Sequence[Any]:
    """What tells two models apart; text only as far as it is repeated."""
    unique = model.limits.unique
    repeated = unique is not None and model.tokens > unique
    return model.shape, model.tokens, unique if repeated else None


def _epochs(option: Option) -> str:
    assert option.epochs is not None
    if option.epochs <= 1:
        return f"of which it takes {option.epochs:.0%}"
    return f"{three_digits(option.epochs)} epochs"


def _allowed(name: str, only: Deployment) -> str:
    """What a limit of serving allows."""
    if name == "memory":
        return f"{format_memory(only.server.memory_bytes or 0.0)} of {only.server.name}"
    return f"{only.tokens_per_second:,.6g} tokens a second a stream"
