"""Weights & Biases: `wandb login` first, or WANDB_MODE=offline and `wandb sync` later.
WANDB_PROJECT names the project, else the results folder does."""

import os
from contextlib import suppress
from typing import Any

from llmscale.measure.trackers import TrackedRun

NEEDS = "wandb"


def begin(run: TrackedRun) -> "_WandbRun":
    return _WandbRun(run)


class _WandbRun:
    def __init__(self, run: TrackedRun) -> None:
        import wandb

        self._run = wandb.init(
            id=run.run_id,
            name=run.name,
            project=os.environ.get("WANDB_PROJECT") or run.folder.resolve().name,
            dir=str(run.folder),
            config=run.config,
            resume="allow",
            reinit="create_new",  # runs at the same time are apart
            settings=wandb.Settings(
                console="off", silent=True, save_code=False, x_disable_stats=True
            ),
        )
        # Steps of a run only ever grow at the server; offline nobody but this file knows how far it
        # is.
        self._marker = run.folder / "wandb" / f"{run.run_id}.step"
        self._last = 0
        with suppress(OSError, ValueError):
            self._last = int(self._marker.read_text(encoding="utf-8"))

    def log(self, step: int, metrics: dict[str, float]) -> None:
        if step > self._last:
            self._run.log(metrics, step=step)
            self._last = step
            self._marker.write_text(str(step), encoding="utf-8")

    def end(self, summary: dict[str, Any] | None) -> None:
        if summary is not None:
            self._run.summary.update(
                {name: value for name, value in summary.items() if value is not None}
            )
        failed = summary is not None and summary["status"] == "failed"
        self._run.finish(exit_code=1 if failed else 0)
