"""Runs that were tried again after one diverged, and losses that spiked."""

import numpy as np
import pandas as pd

from llmscale.errors import Note, listed
from llmscale.notes.reading import LOSS_SPIKES, RETRIED_LEARNING_RATE
from llmscale.runs.title import run_titles

SUPERSEDED = "its trunk diverged and was tried again with a lower learning rate"


def superseded(raw: pd.DataFrame, run_ids: pd.Series, usable: np.ndarray) -> np.ndarray:
    """Which usable runs a later one, usable too, was trained in place of."""
    if "retry_of" not in raw.columns:
        return np.zeros(len(raw), dtype=bool)
    replaced = raw["retry_of"][usable].dropna()
    return np.asarray(run_ids.isin(set(replaced.astype(str)))) & usable


def notes(frame: pd.DataFrame) -> list[Note]:
    """What to know of the runs of a table that were tried again, or whose training loss spiked."""
    found = []
    again = frame[frame["retry_of"].notna()] if "retry_of" in frame.columns else frame[:0]
    if len(again):
        rates = [""] * len(again)
        if "lr" in again.columns:
            rates = again["lr"].astype(float).map("{:.3g}".format).to_list()
        runs = zip(run_titles(again), rates, strict=True)
        named = [f"{run} (learning rate {rate})" for run, rate in runs]
        were = "run was" if len(again) == 1 else "runs were"
        message = (
            f"{len(again)} {were} tried again with half the learning rate or less, after one "
            f"diverged, so that the runs do not all follow one rule: {listed(named)}"
        )
        found.append(RETRIED_LEARNING_RATE.note(message))
    spiked = frame[frame["spike_height"].notna()] if "spike_height" in frame.columns else frame[:0]
    if len(spiked):
        place = int(spiked["spike_height"].to_numpy(dtype=float).argmax())
        worst, title = spiked.iloc[place], run_titles(spiked)[place]
        message = (
            f"the training loss of {len(spiked)} of {len(frame)} runs spiked, of "
            f"{title} by {float(worst['spike_height']):.2f} nats at step "
            f"{int(worst['spike_step'])}; their losses may be high"
        )
        found.append(LOSS_SPIKES.note(message))
    return found
