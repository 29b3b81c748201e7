"""The end of a run that is under way, from its curve and from those of finished runs.

Under a schedule that decays, the loss falls at the end as the curve so far does not show: by how
much, finished runs do. Five regressions over them say what the final loss was, given the training
loss at the same share of training, the size and the tokens: of the fall from here on (alike for
all; linear; quadratic in ln N and ln D), of the final loss with the loss so far and how fast it
falls now, and without either. Each is shrunk by ridge, as much as leaving one run out likes best;
a law of the final losses is a sixth. They are averaged by the inverse square of their mean squared
error when one run is left out (a super learner: van der Laan et al. 2007, Stat. Appl. Genet. Mol.
Biol. 6). All of this is then done again for every finished run, from the others, and what it missed
by is the width of the interval. Light: `status` uses it."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from llmscale.errors import InputError, Note, both, first_lines
from llmscale.explain import digits
from llmscale.explain.forecast.curve_unlike import unlike_finished
from llmscale.explain.laws import Array
from llmscale.notes.predicting import CURVE_FAR_BEYOND, CURVE_NOT_TESTED, CURVE_UNLIKE

FEWEST = 4
"""Finished runs, of other trunks: fewer say nothing of a fall."""
LEAST_SHARE = 0.05
"""Before, a curve is mostly its warm-up."""
_WINDOW = 0.04
"""Of the planned tokens: training losses over the last of these are averaged."""
_RIDGES = np.array([1e6, 10.0, 3.0, 1.0, 0.3, 0.1, 1e-2, 1e-3])
_CLEARLY = 0.98
"""A lighter ridge is taken only if it lowers the squared error to this share."""
_OWN_VARIATION = 0.05
"""What is left of ln x, standard deviation, if it is to say more than size and tokens do."""
_BEYOND = 1.05
_FEWEST_TESTS = 3
_LEAST_ERROR = 1e-6
_MORE = ("unique_tokens", "params_total", "lr", "batch_tokens")
"""What runs may differ in besides size and tokens."""


@dataclass(frozen=True)
class Curve:
    """A run with the training loss that it has logged: tokens and losses (S,), nats per token.

    `traits` are numbers of the run by column, its `params` and planned `tokens` among them. Runs of
    one `family` share a trunk. `loss` is its final one, if it has ended."""

    run_id: str
    traits: Mapping[str, float]
    tokens_S: Array
    train_loss_S: Array
    family: str = ""
    loss: float = math.nan

    @property
    def planned(self) -> float:
        return self.traits["tokens"]

    @property
    def trunk(self) -> str:
        """Its family, or itself if it shares nothing."""
        return self.family or self.run_id

    @property
    def share(self) -> float:
        """How much of the planned tokens it has seen."""
        return float(self.tokens_S[-1]) / self.planned if len(self.tokens_S) else 0.0

    def level(self, share: float) -> float:
        """Mean ln of the training loss just before that share of training; NaN if none is there."""
        at = self.tokens_S / self.planned
        good = np.isfinite(self.train_loss_S) & (self.train_loss_S > 0) & (at <= share * (1 + 1e-9))
        recent = good & (at > share - _WINDOW)
        if recent.sum() < 3:
            recent[np.flatnonzero(good)[-3:]] = True
            recent &= good & (at > share - 3 * _WINDOW)
        return float(np.log(self.train_loss_S[recent]).mean()) if recent.any() else math.nan


@dataclass(frozen=True)
class OfLaw:
    """What a law says of final losses, in ln: of every finished run without it, and of this one."""

    name: str
    without_J: Array
    here: float


@dataclass(frozen=True)
class Tests:
    """Each finished run, asked at the same share of its training, from the others: how many,
    how many fell into an interval from the errors of the rest, and mean |relative error| of the
    forecast, of the loss of the moment, and of the law."""

    count: int
    inside: int
    error: float
    naive_error: float
    law_error: float | None
    of_larger: bool
    """Whether each was forecast from smaller runs, as a run is that is larger than all."""


@dataclass(frozen=True)
class EndForecast:
    """The final loss of a run under way, nats per token, and the interval that it should fall in at
    `level`; NaN ends if too few finished runs could be asked."""

    run: str
    params: float
    tokens: float
    share: float
    loss: float
    low: float
    high: float
    level: float
    now: float
    """The training loss of the moment."""
    finished: int
    """Runs that it is judged by."""
    tests: Tests | None
    law: str | None = None
    law_loss: float | None = None
    notes: tuple[Note, ...] = field(default=())

    @property
    def all_notes(self) -> tuple[Note, ...]:
        """What to know of it."""
        return self.notes

    @property
    def coverage(self) -> str:
        """One sentence on how such forecasts did; empty if none could be made."""
        if self.tests is None:
            return ""
        one, by = self.tests, "from smaller ones" if self.tests.of_larger else "from the others"
        held = f"{100 * self.level:g}% intervals held {one.inside}"
        law = ""
        if one.law_error is not None:
            law = f", {self.law} without the curves to {one.law_error:.2%}"
        return (
            f"on {one.count} finished runs, asked at {self.share:.0%} of their training {by}, "
            f"{held}; mean error {one.error:.2%} (the loss of that moment {one.naive_error:.2%}"
            f"{law})"
        )

    @property
    def sentence(self) -> str:
        """`1M at 60M tokens, 45% trained, will end at loss 3.2101 [3.1854, 3.2350] (90%)`."""
        level = f" ({100 * self.level:g}%)" if math.isfinite(self.low) else ""
        loss = digits.with_ends(self.loss, self.low, self.high)
        return f"{self.run}, {self.share:.0%} trained, will end at loss {loss}{level}"

    def to_json(self) -> dict[str, Any]:
        """What `predict --from-curve --json` prints."""
        tests = self.tests and {name: getattr(self.tests, name) for name in _TESTED}
        names = ("run", "params", "tokens", "share", "loss", "low", "high", "level", "now")
        told = {name: getattr(self, name) for name in names}
        finite = {
            name: None if isinstance(value, float) and math.isnan(value) else value
            for name, value in told.items()
        }
        return {
            **finite,
            "finished": self.finished,
            "law": self.law,
            "law_loss": self.law_loss,
            "coverage": self.coverage,
            "backtest": tests,
            "warnings": [note.to_json() for note in self.notes],
        }

    def __repr__(self) -> str:
        return first_lines(str(self))

    def __str__(self) -> str:
        lines = [self.sentence]
        lines += [self.coverage] if self.coverage else []
        return "\n".join([*lines, *(f"  note: {note}" for note in self.notes)])


_TESTED = ("count", "inside", "error", "naive_error", "law_error", "of_larger")


def forecast_end(
    run: Curve,
    finished: Sequence[Curve],
    *,
    title: str,
    level: float,
    law: Callable[[Sequence[Curve]], OfLaw | None] | None = None,
) -> EndForecast:
    """The final loss of `run` by those of `finished` runs; `law` says what a law fitted to runs
    gives. Raises InputError if the run has hardly begun, or if too few runs have ended."""
    share = min(run.share, 1.0)
    if share < LEAST_SHARE:
        raise InputError(
            f"{title} has seen {share:.1%} of its {run.planned:g} tokens, and says nothing of its "
            f"end before {LEAST_SHARE:.0%}",
            "ask again later; what a law says of it: llmscale predict --params --tokens",
        )
    used = [one for one in finished if math.isfinite(one.loss) and one.loss > 0]
    used = [one for one in used if math.isfinite(one.level(share)) and one.run_id != run.run_id]
    others = np.array([one.trunk != run.trunk for one in used], dtype=bool)
    if others.sum() < FEWEST:
        raise InputError(
            f"{int(others.sum())} finished runs with curves are too few to know the end of "
            f"{title} by: it takes {FEWEST}",
            "finish more runs of the ladder, or let a law forecast it: llmscale predict --params "
            "--tokens",
        )
    asked = _Asked.of(run, used, share, law)
    end = asked.forecast(len(used), others)
    compute_J = asked.compute[:-1]
    is_beyond = bool(asked.compute[-1] > _BEYOND * compute_J[others].max())
    errors = asked.errors(others, larger=is_beyond)
    notes: list[Note] = []
    of_larger = is_beyond
    if is_beyond and len(errors.miss) < _FEWEST_TESTS:
        errors, of_larger = asked.errors(others, larger=False), False
        notes.append(
            CURVE_FAR_BEYOND.note(
                f"{title} takes {asked.compute[-1] / compute_J[others].max():.2g}x the compute of "
                "the largest finished run, and too few runs have ended to test that: the interval "
                "is the one of runs among the others"
            )
        )
    unlike = unlike_finished(
        run, [one for one, is_other in zip(used, others, strict=True) if is_other]
    )
    if unlike:
        notes.append(CURVE_UNLIKE.note(f"{title} is unlike the finished runs: {both(unlike)}"))
    half = _half_width(errors.miss, level)
    if math.isnan(half):
        notes.append(
            CURVE_NOT_TESTED.note(
                f"{len(used)} finished runs are too few to test such forecasts: no interval"
            )
        )
    told = EndForecast(
        run=title,
        params=run.traits["params"],
        tokens=run.planned,
        share=share,
        loss=math.exp(end),
        low=math.exp(end - half),
        high=math.exp(end + half),
        level=level,
        now=math.exp(run.level(share)),
        finished=int(others.sum()),
        tests=errors.tests(level, of_larger),
        notes=tuple(notes),
    )
    if asked.law is None:
        return told
    return replace(told, law=asked.law.name, law_loss=math.exp(asked.law.here))


@dataclass(frozen=True)
class _Errors:
    """What forecasts of finished runs missed by, in ln; so did the loss of the moment, the law."""

    miss: Array
    naive: Array
    law: Array | None

    def tests(self, level: float, of_larger: bool) -> Tests | None:
        """None if too few could be made."""
        if len(self.miss) < _FEWEST_TESTS:
            return None
        inside = 0
        for place, miss in enumerate(self.miss):
            inside += abs(miss) <= _half_width(np.delete(self.miss, place), level)
        of_law = None if self.law is None else float(np.abs(np.expm1(self.law)).mean())
        return Tests(
            len(self.miss),
            int(inside),
            float(np.abs(np.expm1(self.miss)).mean()),
            float(np.abs(np.expm1(self.naive)).mean()),
            of_law,
            of_larger,
        )


@dataclass(frozen=True)
class _Asked:
    """Finished runs J and, last, the run that is asked for, as numbers.

    `places` (J + 1, P) is ln N, ln D and whatever else tells runs apart; `level` and `before` the
    ln of the training loss at the share and at half of it; `end` (J,) that of the final loss."""

    places: Array
    level: Array
    before: Array
    end: Array
    compute: Array
    families: tuple[str, ...]
    law: OfLaw | None

    @classmethod
    def of(
        cls,
        run: Curve,
        used: Sequence[Curve],
        share: float,
        law: Callable[[Sequence[Curve]], OfLaw | None] | None,
    ) -> "_Asked":
        every = [*used, run]
        before = np.array([one.level(share / 2) for one in every])
        compute = [one.traits["params"] * one.planned for one in every]
        return cls(
            places=_places(every),
            level=np.array([one.level(share) for one in every]),
            before=before if np.isfinite(before).all() else np.zeros(len(every)),
            end=np.log([one.loss for one in used]),
            compute=np.array(compute),
            families=tuple(one.trunk for one in every),
            law=law(every) if law and len(used) >= FEWEST else None,
        )

    def forecast(self, place: int, by: Array) -> float:
        """ln of the final loss of one run by those of the finished runs `by` (J,)."""
        chosen = np.flatnonzero(by)
        level, end = self.level[chosen], self.end[chosen]
        here, fall = self.level[place], end - level
        near, now = self.places[chosen], self.places[place]
        bent, bent_now = _bent(near), _bent(now[None])[0]
        felt = np.column_stack([near, level])
        felt_now = np.append(now, here)
        speed = np.column_stack([felt, level - self.before[chosen]])
        speed_now = np.append(felt_now, here - self.before[place])
        ways = [
            (here + fall.mean(), (fall - fall.mean()) * len(fall) / (len(fall) - 1)),
            _ridge(near, fall, now, here),
            _ridge(bent, fall, bent_now, here),
            _ridge(near, end, now, 0.0),
            _ridge(felt, end, felt_now, 0.0),
            _ridge(speed, fall, speed_now, here),
        ]
        if self.law is not None:
            said = np.append(self.law.without_J, self.law.here)
            ways.append((float(said[place]), end - said[chosen]))
        squared = np.array([max(float((miss**2).mean()), _LEAST_ERROR**2) for _, miss in ways])
        weights = (squared.min() / squared) ** 2
        weights /= weights.sum()
        return float(weights @ np.array([told for told, _ in ways]))

    def errors(self, others: Array, *, larger: bool) -> _Errors:
        """Of every finished run forecast from the others, or from those of less compute."""
        judged, miss = [], []
        for place in np.flatnonzero(others):
            by = others & np.array([one != self.families[place] for one in self.families[:-1]])
            if larger:
                by &= self.compute[:-1] * _BEYOND < self.compute[place]
            if by.sum() >= FEWEST - 1:
                judged.append(place)
                miss.append(self.end[place] - self.forecast(int(place), by))
        naive = self.end[judged] - self.level[:-1][judged]
        of_law = None
        if self.law is not None and not larger:
            of_law = self.end[judged] - self.law.without_J[judged]
        return _Errors(np.array(miss), naive, of_law)


def _places(every: Sequence[Curve]) -> Array:
    """ln N and ln D of every run, and of what else is known of all, what these do not tell."""
    columns = [np.log([one.traits[name] for one in every]) for name in ("params", "tokens")]
    for name in _MORE:
        values = np.array([one.traits.get(name) or math.nan for one in every], dtype=float)
        if not (values > 0).all() or len(every) < 4 * (len(columns) + 1):
            continue
        known = np.column_stack([np.ones(len(every)), *columns])
        logs = np.log(values)
        left = logs - known @ np.linalg.lstsq(known, logs, rcond=1e-9)[0]
        if left.std() > _OWN_VARIATION:
            columns.append(logs)
    return np.column_stack(columns)


def _bent(places_JP: Array) -> Array:
    """With squares of ln N and ln D, and their product."""
    N, D = places_JP[:, 0], places_JP[:, 1]
    return np.column_stack([places_JP, N**2, D**2, N * D])


def _ridge(known_JP: Array, told_J: Array, asked_P: Array, base: float) -> tuple[float, Array]:
    """`base` and what a ridge regression of `told` says where asked, and what it misses each run by
    without it; the ridge is the heaviest that leaving one out does not clearly object to."""
    spread = known_JP.std(axis=0)
    varies = spread > 1e-9
    middle, spread = known_JP.mean(axis=0)[varies], spread[varies]
    mean = told_J.mean()
    U_JP, size_P, turn_PP = np.linalg.svd((known_JP[:, varies] - middle) / spread, False)
    along_P = U_JP.T @ (told_J - mean)
    kept_LP = size_P**2 / (size_P**2 + _RIDGES[:, None])
    leverage_LJ = 1 / len(told_J) + kept_LP @ (U_JP**2).T
    miss_LJ = (told_J - mean - (kept_LP * along_P) @ U_JP.T) / np.maximum(1 - leverage_LJ, 1e-12)
    squared_L = (miss_LJ**2).mean(axis=1)
    chosen = 0
    for ridge in range(1, len(_RIDGES)):
        is_exact = leverage_LJ[ridge].max() > 1 - 1e-6
        if not is_exact and squared_L[ridge] < _CLEARLY * squared_L[chosen]:
            chosen = ridge
    at = turn_PP @ ((asked_P[varies] - middle) / spread)
    step_P = size_P / (size_P**2 + _RIDGES[chosen]) * along_P
    return base + float(mean + at @ step_P), miss_LJ[chosen]


def _half_width(miss: Array, level: float) -> float:
    """Student's, around a forecast whose errors so far were these; NaN if they are too few."""
    if len(miss) < _FEWEST_TESTS - 1:
        return math.nan
    return _student(len(miss), level) * math.sqrt(float((miss**2).mean()) * (1 + 1 / len(miss)))


def _student(degrees: int, level: float) -> float:
    """Half the central interval of Student's t, within 1% from 3 degrees of freedom on (Abramowitz
    & Stegun 1964, 26.7.5). scipy takes longer to load than all of this."""
    z = NormalDist().inv_cdf(0.5 + level / 2)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / degrees**power for power, term in enumerate(terms, start=1))
