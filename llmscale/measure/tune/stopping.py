"""When a trial is hopeless: so far behind another that, by what finished trials show, it cannot
make it up.

Trials of one size, budget, batch and seed read the same text in the same order, so the difference
of their training losses over the same tokens is a difference of the models, not of the text. Before
the cooldown that difference is biased: a high learning rate looks worse than it will end, because
it gains more as it cools down, and a low one may still catch up. How much a trial can make up is
therefore measured on pairs of trials that have finished, apart for the higher and for the lower
learning rate of a pair: its gap at a share of the tokens, less the gap of the final validation
losses, for each doubling of the learning rate between them. A trial is stopped when its gap exceeds

    SAFETY x (the most that finished pairs made up a doubling) x doublings + STANDARD_ERRORS x
    stderr of the gap

and NOTICEABLE of the loss: nearer to the best than that, a trial is worth its place in the
parabola. If a higher learning rate has always gained from here on, a lower one that is behind has
nothing to make up and is hopeless by only the last terms. A stopped trial counts, in the parabola
only, as ending as far behind as it was.

A trial is compared with trials that were finished before its step of the search began (study.py),
never with those that are trained next to it: what is stopped, and where, does not depend on which
of them ends first, or on kills."""

import itertools
import math
import statistics
from dataclasses import dataclass, field

EARLIEST, EVERY = 0.3, 0.05
"""Share of their tokens from which on trials are judged, and how often, until they cool down."""
WINDOW = 0.1
"""Share of the tokens before the one at which a trial is judged, over which losses are compared."""
SAFETY, STANDARD_ERRORS, NOTICEABLE = 2.0, 3.0, 0.01
FEWEST_PAIRS = 3
"""Finished pairs that it takes to stop any trial: those of a search's first three rates."""
_FEWEST_POINTS = 4


@dataclass
class Track:
    """A trial under way or finished: its training loss by tokens, and its final validation loss."""

    run_id: str
    group: tuple[object, ...]
    """What trials must share to be compared: size, budget, batch, seed."""
    lr: float
    tokens: int
    cooldown_tokens: float
    """Tokens at which the cooldown begins."""
    points: dict[int, float] = field(default_factory=dict)
    loss: float | None = None


@dataclass(frozen=True)
class Stop:
    """Why a trial was stopped, and what it would have come to."""

    behind: str
    """The run that it was compared with."""
    share: float
    """The share of its tokens at which it was judged."""
    gap: float
    """How far it was behind, nats."""
    limit: float
    """The most that it could be behind."""

    def __str__(self) -> str:
        return (
            f"at {self.share:.0%} of its tokens {self.gap:.3f} nats behind {self.behind}, more "
            f"than the {self.limit:.3f} that finished trials show can be made up"
        )


class Judge:
    """Watches trials and says which are hopeless."""

    def __init__(self) -> None:
        self._tracks: dict[str, Track] = {}
        self._judged: dict[str, int] = {}
        self._made_up: dict[int, list[float]] = {}

    def follow(self, track: Track) -> None:
        """Take note of a trial that begins, or of one that has finished before."""
        self._tracks[track.run_id] = track

    def finish(self, run_id: str, loss: float | None) -> None:
        """Take note of a finished trial's loss: pairs show what can be made up."""
        self._tracks[run_id].loss = loss
        self._made_up.clear()

    def log(self, run_id: str, tokens: int, train_loss: float) -> Stop | None:
        """Take note of one logged step; the reason to stop if the trial is hopeless."""
        track = self._tracks.get(run_id)
        if track is None:
            return None
        track.points[tokens] = train_loss
        step = math.floor((tokens / track.tokens - EARLIEST) / EVERY + 1e-9)
        if step < 0 or tokens > track.cooldown_tokens or step <= self._judged.get(run_id, -1):
            return None
        self._judged[run_id] = step
        return self._hopeless(track, step, tokens)

    def _hopeless(self, track: Track, step: int, tokens: int) -> Stop | None:
        """The reason to stop `track`, from the comparison that leaves the least hope."""
        found: list[tuple[float, Stop]] = []
        evidence = self._evidence(step)
        if len(evidence) < FEWEST_PAIRS:
            return None
        alike = (other for other in self._tracks.values() if other.group == track.group)
        for other in alike:
            if other is track or other.loss is None or other.lr == track.lr:
                continue
            gap = _gap(track, other, tokens)
            if gap is None:
                continue
            nats, stderr = gap
            doublings = abs(math.log2(track.lr / other.lr))
            side = evidence if track.lr > other.lr else [-value for value in evidence]
            most = max(0.0, *side) * doublings
            reached = statistics.fmean(other.points[at] for at in _recent(other, tokens))
            limit = max(SAFETY * most + STANDARD_ERRORS * stderr, NOTICEABLE * reached)
            if nats > limit:
                stop = Stop(other.run_id, tokens / track.tokens, nats, limit)
                found.append((nats - limit, stop))
        return max(found, key=lambda pair: pair[0])[1] if found else None

    def _evidence(self, step: int) -> list[float]:
        """What the higher rate of each finished pair gains from here on, nats a doubling."""
        if step not in self._made_up:
            groups: dict[tuple[object, ...], list[Track]] = {}
            for track in self._tracks.values():
                if track.loss is not None:
                    groups.setdefault(track.group, []).append(track)
            each = (itertools.permutations(tracks, 2) for tracks in groups.values())
            pairs = itertools.chain.from_iterable(each)
            gains = (_gain(above, below, step) for above, below in pairs if above.lr > below.lr)
            self._made_up[step] = [gain for gain in gains if gain is not None]
        return self._made_up[step]


def _gain(above: Track, below: Track, step: int) -> float | None:
    """By how much the gap of `above`, of the higher rate, closes from this step to the end."""
    gap = _gap(above, below, round((EARLIEST + EVERY * step) * above.tokens))
    if gap is None or above.loss is None or below.loss is None:
        return None
    return (gap[0] - (above.loss - below.loss)) / math.log2(above.lr / below.lr)


def _gap(track: Track, other: Track, tokens: int) -> tuple[float, float] | None:
    """How far `track` is behind `other` in the window before `tokens`, and its stderr, nats."""
    shared = _recent(track, tokens) & _recent(other, tokens)
    if len(shared) < _FEWEST_POINTS:
        return None
    differences = [track.points[at] - other.points[at] for at in shared]
    stderr = statistics.stdev(differences) / math.sqrt(len(differences))
    return statistics.fmean(differences), stderr


def _recent(track: Track, tokens: int) -> set[int]:
    return {at for at in track.points if tokens - WINDOW * track.tokens < at <= tokens}
