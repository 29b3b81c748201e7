"""How much text the runs of a table have, and how often new ones go over it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmscale.errors import Note, both
from llmscale.explain import digits
from llmscale.explain.design.proposal import ProposedRun
from llmscale.explain.design.sizes import OwnSweep
from llmscale.explain.forecast.epochs import weight_of_epochs
from llmscale.notes.predicting import TEXT_REPEATED
from llmscale.quantity import format_count
from llmscale.runs.stored_text import stored_text


@dataclass(frozen=True)
class Text:
    """The training tokens of the text of a table: all that there is, or, if that is not known, what
    its runs have read of it (`is_all`)."""

    tokens: float
    is_all: bool

    def epochs(self, tokens: float) -> float:
        """How often a run of so many tokens goes over it."""
        return tokens / self.tokens

    def said(self, runs: Sequence[ProposedRun], target: float) -> str:
        """What of the proposed runs and of the target is more than the text; empty if nothing."""
        longer = [
            f"run {place} ({self._said(run.tokens)})"
            for place, run in enumerate(runs, 1)
            if self.epochs(run.tokens) > 1.0
        ]
        if self.epochs(target) > 1.0:
            longer.append(f"the target ({self._said(target)})")
        if not longer:
            return ""
        have = f"{format_count(self.tokens)} training tokens"
        if self.is_all:
            return f"it has {have}; {both(longer)} would go over it again"
        verb = "takes" if len(longer) == 1 else "take"
        return (
            f"the runs have read {have} of it at the most, and {both(longer)} {verb} more: whether "
            "there is more this table does not say, and a sweep's --dry-run does"
        )

    def note(self, runs: Sequence[ProposedRun]) -> Note | None:
        """That proposed runs go over the text again, which is all there is."""
        if not self.is_all or not runs:
            return None
        epochs = self.epochs(max(run.tokens for run in runs))
        if epochs <= 1.0:
            return None
        return TEXT_REPEATED.note(
            f"the text has {format_count(self.tokens)} training tokens, and the proposed runs go "
            f"over it up to {epochs:.3g} times: the law takes every pass for new text, so the runs "
            "will lie above what it expects, and so will its forecasts then; get more text, or "
            f"keep runs below {format_count(self.tokens)} tokens (--max-run-flops, "
            "--tokens-per-param)",
            weight_of_epochs(epochs),
        )

    def to_json(self, runs: Sequence[ProposedRun], target: float) -> Mapping[str, Any]:
        """As `next --json` has it."""
        return {
            "tokens": self.tokens,
            "is_all": self.is_all,
            "epochs": [self.epochs(run.tokens) for run in runs],
            "target_epochs": self.epochs(target),
        }

    def _said(self, tokens: float) -> str:
        return f"{format_count(tokens)}, {digits.times(self.epochs(tokens), 2)}"


def text_of(frame: pd.DataFrame, sweep: OwnSweep | None) -> Text | None:
    """The text of the runs of a sweep; None of other runs, if nothing tells how much they read, or
    if there is more to be had."""
    if sweep is None or "unique_tokens" not in frame:
        return None
    unique = pd.to_numeric(frame["unique_tokens"], errors="coerce")
    read = float(unique.max())
    if not read > 0:
        return None
    stored = stored_text(str(frame["data_fingerprint"].iloc[-1])) if _is_one(frame) else None
    if stored is not None:
        return Text(stored.tokens, is_all=True) if stored.is_all else None
    reads_all = not (sweep.spec.get("unique_tokens") or sweep.spec.get("epochs"))
    repeats = bool((frame["tokens"] > unique).any())
    return Text(read, is_all=reads_all and repeats)


def _is_one(frame: pd.DataFrame) -> bool:
    """Whether all runs read one text."""
    return "data_fingerprint" in frame and frame["data_fingerprint"].nunique() == 1
