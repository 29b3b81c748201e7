"""MLflow: the server at MLFLOW_TRACKING_URI, else files in results/NAME/mlruns."""

import os
from typing import Any

from llmscale.measure.trackers import TrackedRun, finite

NEEDS = "mlflow"
_TAG = "llmscale.run_id"
_ENDS = {"done": "FINISHED", "diverged": "FAILED", "failed": "FAILED"}


def begin(run: TrackedRun) -> "_MlflowRun":
    return _MlflowRun(run)


class _MlflowRun:
    def __init__(self, run: TrackedRun) -> None:
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if uri is None:
            os.environ.setdefault(
                "MLFLOW_ALLOW_FILE_STORE", "true"
            )  # MLflow would rather have a database
            uri = (run.folder.resolve() / "mlruns").as_uri()
        from mlflow.entities import Param
        from mlflow.tracking import MlflowClient

        self._client = MlflowClient(uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or run.folder.resolve().name
        experiment = self._client.get_experiment_by_name(name)
        number = experiment.experiment_id if experiment else self._client.create_experiment(name)
        before = self._client.search_runs(
            [number], f"tags.`{_TAG}` = '{run.run_id}'", max_results=1
        )
        self._last = 0
        if before:
            self._id = before[0].info.run_id
            self._client.update_run(self._id, status="RUNNING")
            logged = self._client.get_metric_history(self._id, "train_loss")
            self._last = max((metric.step for metric in logged), default=0)
        else:
            self._id = self._client.create_run(
                number, run_name=run.name, tags={_TAG: run.run_id}
            ).info.run_id
            params = [Param(key, str(value)) for key, value in run.config.items()]
            self._client.log_batch(self._id, params=params)

    def log(self, step: int, metrics: dict[str, float]) -> None:
        if step <= self._last:
            return  # by an earlier process, before it was ended and went back to its checkpoint
        from mlflow.entities import Metric
        from mlflow.utils.time import get_current_time_millis

        now = get_current_time_millis()
        self._client.log_batch(
            self._id, [Metric(name, value, now, step) for name, value in metrics.items()]
        )
        self._last = step

    def end(self, summary: dict[str, Any] | None) -> None:
        if summary is None:
            self._client.set_terminated(self._id, "KILLED")
            return
        for name in ("loss_stderr", "bits_per_byte", "mfu"):
            if name in finite(summary):
                self._client.log_metric(self._id, f"final_{name}", summary[name])
        self._client.set_terminated(self._id, _ENDS[summary["status"]])
