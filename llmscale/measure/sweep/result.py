"""What a sweep leaves: its runs, the plan that they follow, and what to know of them."""

import math
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from llmscale.errors import Note, counted, listed
from llmscale.measure.sweep.notes import noise_note
from llmscale.measure.sweep.plan import Plan
from llmscale.measure.text.documents import LARGEST_SHARE
from llmscale.notes.fitting import DIVERGED_RUNS, UNFINISHED_RUNS
from llmscale.notes.measuring import FAILED_RUNS
from llmscale.notes.reading import LOSS_SPIKES
from llmscale.quantity import format_count
from llmscale.runs.own_command import on_more_validation
from llmscale.runs.results_folder import ResultsFolder
from llmscale.runs.run import Run
from llmscale.runs.title import short_name, short_title

MOST_SHOWN = 12
"""Runs that a notebook lists, at most."""
_LOST = {"failed": FAILED_RUNS, "diverged": DIVERGED_RUNS}


@dataclass(frozen=True, repr=False)
class SweepResult:
    """A sweep that has been carried out, or after a dry run its plan."""

    folder: ResultsFolder
    """On this machine; of results at a URL its mirror."""
    where: str
    """The folder or the URL, as people name it."""
    plan: Plan
    """Of the last round: with runs that are tried again, if there are any."""
    text: dict[str, Any]
    """The text: source, tokens, vocabulary, fingerprint."""
    runs: tuple[Run, ...] = ()
    """The rows of the sweep's runs by growing size and budget; none after a dry run."""

    @property
    def unfinished(self) -> tuple[Run, ...]:
        """Runs that were ended before their last step: the same call goes on with them."""
        return tuple(run for run in self.runs if run.status not in ("done", "diverged", "failed"))

    @property
    def failed(self) -> tuple[Run, ...]:
        """Runs whose training failed."""
        return tuple(run for run in self.runs if run.status == "failed")

    @property
    def notes(self) -> tuple[Note, ...]:
        """What the plan warned of, and what the runs show."""
        return (*self.plan.notes, *self.end_notes)

    @property
    def end_notes(self) -> tuple[Note, ...]:
        """What the runs show: which came to nothing, noise and spikes of the loss."""
        lost = [
            _LOST[run.status].note(f"{short_title(run)} tokens {run.status}: {run.error}")
            for run in self.runs
            if run.status in _LOST
        ]
        done = [run for run in self.runs if run.status == "done"]
        on_more_text = partial(on_more_validation, self.folder.path, self.where)
        held_out = self.text["validation_tokens"]
        noise = noise_note(done, held_out, on_more_text, _most_held_out(self.text))
        found = (noise, _spike_note(done), _unfinished_note(self.runs, self.unfinished))
        return (*lost, *(note for note in found if note))

    def to_json(self) -> dict[str, Any]:
        """As `llmscale sweep --json` prints it; of a dry run, the plan."""
        if self.runs:
            return {"out": self.where, "runs": [asdict(run) for run in self.runs]}
        return {"out": self.where, "data": self.text, **self.plan.to_json()}

    def __repr__(self) -> str:
        done = sum(run.status == "done" for run in self.runs)
        if not self.runs:
            return f"SweepResult({self.where}: {counted(len(self.plan.waiting), 'run')} to train)"
        return f"SweepResult({self.where}: {done} of {counted(len(self.runs), 'run')} done)"

    def _repr_html_(self) -> str:
        from html import escape

        rows = [
            f"<tr><td>{escape(short_name(run))}</td><td>{format_count(run.params)}</td><td>{format_count(run.tokens)}</td><td>{_loss(run)}</td></tr>"
            for run in self.runs[-MOST_SHOWN:]
        ]
        heading = "<tr><th>size</th><th>N</th><th>tokens</th><th>loss</th></tr>"
        caption = f"<caption>{escape(repr(self))}</caption>"
        return f"<table>{caption}{heading}{''.join(rows)}</table>"


def _most_held_out(text: dict[str, Any]) -> float:
    """Tokens that can be held out of a text that was read to its end; infinite of a longer one."""
    meta = text.get("meta", {})
    if "mixture" in meta:
        return _most_of_mixture(meta["mixture"])
    if not meta.get("complete"):
        return math.inf
    parts = ("train", "validation", "set_aside")
    return LARGEST_SHARE * sum(meta.get(part, {}).get("tokens", 0) for part in parts)


def _most_of_mixture(mixture: dict[str, Any]) -> float:
    """The same of a mixture, of whose sources each is asked for an equal part."""
    sources, parts = mixture["sources"], mixture["validation"]
    tokens = [
        sources[name]["available_tokens"] + part["tokens"]
        for name, part in parts.items()
        if sources[name]["complete"]
    ]
    return LARGEST_SHARE * len(parts) * min(tokens, default=math.inf)


def _loss(run: Run) -> str:
    return run.status if run.loss is None else f"{run.loss:.4f}"


def _spike_note(done: list[Run]) -> Note | None:
    spikes = [run for run in done if run.spike_height]
    if not spikes:
        return None
    worst = max(spikes, key=lambda run: run.spike_height or 0)
    return LOSS_SPIKES.note(
        f"the training loss of {len(spikes)} of {counted(len(done), 'run')} spiked and came back, "
        f"of {short_title(worst)} tokens by {worst.spike_height:.2f} nats at step "
        f"{worst.spike_step}",
    )


def _unfinished_note(runs: tuple[Run, ...], unfinished: tuple[Run, ...]) -> Note | None:
    if not unfinished:
        return None
    names = listed(f"{short_title(run)} tokens" for run in unfinished)
    ended = f"{len(unfinished)} of {counted(len(runs), 'run')} were ended before their last step"
    return UNFINISHED_RUNS.note(f"{ended}: {names}; the same command goes on")
