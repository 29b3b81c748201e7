"""TensorBoard: `tensorboard --logdir results/NAME/tensorboard`."""

from typing import Any

from llmscale.measure.trackers import TrackedRun, finite

NEEDS = "tensorboard"


def begin(run: TrackedRun) -> "_Events":
    return _Events(run)


class _Events:
    def __init__(self, run: TrackedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Readers drop what an earlier process wrote, from the first step on.
        self._writer = SummaryWriter(
            str(run.folder / "tensorboard" / f"{run.name} {run.run_id}".replace(" ", "-")),
            purge_step=run.first_step,
            flush_secs=10,
        )
        lines = "\n".join(f"    {key} = {value}" for key, value in run.config.items())
        self._writer.add_text("config", lines, run.first_step)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)

    def end(self, summary: dict[str, Any] | None) -> None:
        if summary is not None:
            for name in ("loss", "loss_stderr", "bits_per_byte"):
                if name in finite(summary):
                    self._writer.add_scalar(f"final/{name}", summary[name], summary["steps"])
        self._writer.close()
