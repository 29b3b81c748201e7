"""What comes before the first run: what is asked for, where results go, and the text."""

import hashlib
import re
from dataclasses import dataclass, replace
from json import dumps
from pathlib import Path
from typing import Any

from llmscale.errors.command_lines import command_line
from llmscale.measure.sweep.jobs import tokens_needed
from llmscale.measure.sweep.remote_results import fetch_results, remote_of
from llmscale.measure.sweep.spec import SweepSpec
from llmscale.measure.sweep.validation import named_by
from llmscale.measure.sweep.watching import Watcher
from llmscale.measure.text.mixture import prepare_mixtures
from llmscale.measure.text.prepare import TokenStore, prepare
from llmscale.runs.remote import Remote
from llmscale.runs.results_folder import ResultsFolder, results_folder
from llmscale.settings import stated_options


@dataclass(frozen=True)
class Results:
    """Where results go: a folder, which for a URL is its mirror on this machine."""

    folder: ResultsFolder
    remote: Remote | None = None

    @property
    def where(self) -> str:
        """The folder or the URL, as people name it."""
        return self.remote.url if self.remote else str(self.folder.path)


def open_results(
    out: "Path | str | None", asked: "SweepSpec | Path | str | None", spec: SweepSpec, kind: str
) -> Results:
    """Where the results of `spec` go: `out`, a folder named after the TOML file `asked`, or one
    named after the text, and for a `sweep` its budgets. Reads and writes nothing."""
    if out is not None:
        remote = remote_of(str(out))
        return Results(ResultsFolder(remote.folder) if remote else results_folder(str(out)), remote)
    before = "tune-" if kind == "tune" else ""
    if isinstance(asked, str | Path):
        return Results(ResultsFolder(Path("results") / f"{before}{Path(asked).stem}"))
    basis = named_by(spec).basis()
    if kind == "tune":
        name = f"tune-{_digest(basis)}"
    else:
        source = Path("-".join(spec.data.mixture) or spec.data.source).name.split(".")[0].lower()
        words = re.sub(r"[^a-z0-9]+", "-", source).strip("-") or "text"
        stated = spec.to_json()
        budgets = list(spec.flops) or stated["tokens"]
        others = ("unique_tokens", "epochs", "runs")
        repeated = [stated[name] for name in others if stated[name]]
        name = f"{words}-{_digest([basis, budgets, *repeated])}"
    return Results(ResultsFolder(Path("results") / name))


def fetch(results: Results, *, look_only: bool) -> None:
    """Bring the mirror of a URL up to date. Does nothing without a URL."""
    if results.remote:
        fetch_results(results.remote, look_only=look_only)


def prepare_text(spec: SweepSpec, watcher: Watcher) -> TokenStore:
    """The token store of the text of `spec`; says what of both was taken for what."""
    for remark in spec.remarks():
        watcher.tell(f"note: {remark}")
    needed = tokens_needed(spec)
    with watcher.preparing() as report:
        if spec.data.mixture:
            block = max(recipe.context for recipe in spec.variants.values())
            store = prepare_mixtures(spec.data, block, min_train_tokens=needed, progress=report)
        else:
            store = prepare(spec.data, min_train_tokens=needed, progress=report)
    for remark in store.remarks:
        watcher.tell(f"note: {remark}")
    watcher.warn_all(store.notes)
    return store


def stated_command(verb: str, results: Results, spec: SweepSpec, *others: Any) -> str:
    """The command that does what a call in Python does, for sweep.json; `others` are settings that
    are not of the sweep. What has no option, such as a second recipe, only a call can ask for."""
    usual = SweepSpec()
    without_option = (
        spec.recipes != usual.recipes,
        spec.runs != usual.runs,
        replace(spec.data.cleaning, steps=()) != usual.data.cleaning,
        spec.data.augment != usual.data.augment,
        bool(spec.data.mixture),
        spec.hardware.options_by_executor != usual.hardware.options_by_executor,
    )
    if any(without_option):
        return f"llmscale.{verb}(...) in Python"
    words = [word for settings in (spec, *others) for word in stated_options(settings)]
    return command_line("llmscale", verb, *words, "--out", results.where)


def _digest(deciding: Any) -> str:
    text = dumps(deciding, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
