"""What goes on inside a model: of one text, and of the models of a ladder. Plain values, which the
training half fills in and the analysis half draws."""

import hashlib
import math
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


_SLUG = 24
"""Letters of a text that the names of its files begin with, at most."""


@dataclass(frozen=True)
class Alternative:
    """A token that may come next."""

    text: str
    probability: float


@dataclass(frozen=True)
class InspectedToken:
    """A token of the text, and what the model expected."""

    number: int
    text: str
    """Its own; of a part of a character U+FFFD."""
    loss: float | None
    """Nats, after all tokens before it; None of the first."""
    rank: int | None
    """1 for the token that was expected most."""
    next: tuple[Alternative, ...]
    """The likeliest tokens after it."""


@dataclass(frozen=True)
class Inspection:
    """A text as a model reads it."""

    run_id: str
    folder: str
    """The results folder of the run."""
    size: str
    text: str
    vocab_size: int
    tokens: tuple[InspectedToken, ...]
    attention: "np.ndarray"
    """(layers, heads, T, T): how much each position attends to each, 0 for later ones."""
    remarks: tuple[str, ...] = ()

    @property
    def loss(self) -> float | None:
        """Mean over the tokens after the first, in nats; None if there is only one."""
        losses = [token.loss for token in self.tokens if token.loss is not None]
        return math.fsum(losses) / len(losses) if losses else None

    @property
    def file_name(self) -> str:
        """What its files are called, by the run and the text: texts that begin alike differ in the
        digest."""
        words = re.sub(r"[^a-z0-9]+", "-", self.text.lower())[:_SLUG].strip("-")
        digest = hashlib.blake2b(self.text.encode(), digest_size=3).hexdigest()
        return "-".join(filter(None, ["attention", self.run_id, words, digest]))

    @property
    def labels(self) -> tuple[str, ...]:
        """The tokens as they are named beside a figure: blanks are seen."""
        return tuple(visible(token.text) for token in self.tokens)

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "folder": self.folder,
            "size": self.size,
            "text": self.text,
            "loss": self.loss,
            "tokens": [asdict(token) for token in self.tokens],
            "attention": self.attention.round(6).tolist(),
            "remarks": list(self.remarks),
        }


@dataclass(frozen=True)
class InspectedRun:
    """A model of a ladder, measured on tokens of its text, drawn by lot and said twice, and on that
    text itself."""

    run_id: str
    size: str
    params: int
    tokens: int
    seed: int
    induction_scores: tuple[tuple[float, ...], ...]
    """Of each layer and head: the attention of a token that is said again to the token after it
    when it was said first (Olsson et al. 2022, prefix matching), from 0 to 1."""
    induction_gain: float
    """Nats by which the loss of these tokens is lower when they are said again."""
    attention_distance: float | None
    """Positions between a token and what it attends to, the mean over layers, heads and positions
    of the run's validation text; None if that text is gone."""

    @property
    def induction_score(self) -> float:
        """That of its best head."""
        return max(max(heads) for heads in self.induction_scores)

    @property
    def scores(self) -> dict[str, float]:
        """As columns of the table of runs."""
        found = {"induction_score": self.induction_score, "induction_gain": self.induction_gain}
        if self.attention_distance is not None:
            found["attention_distance"] = self.attention_distance
        return found


@dataclass(frozen=True)
class InspectedLadder:
    """The models of a results folder by growing size."""

    folder: str
    repeated: int
    """Tokens that are said twice."""
    runs: tuple[InspectedRun, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    """Ids of runs that could not be used, and why."""
    table: str | None = None
    """The table of runs that has the scores as columns."""
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        runs = [{**asdict(run), "induction_score": run.induction_score} for run in self.runs]
        return {**asdict(self), "runs": runs}


def visible(text: str) -> str:
    """A token's text with its blanks as signs."""
    return text.replace(" ", "\u00b7").replace("\n", "\u21b5").replace("\t", "\u21e5")
