"""Settings, epochs and scores in MLflow."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from itertools import islice
from typing import Any

from tfft.callbacks.tracker import Status, Tracker

# MLflow's own limits, of a request and of a value.
MOST_PARAMS, LONGEST_PARAM = 100, 6000
_STATUS: dict[Status, str] = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


class MLflowLog(Tracker):
    """Logs settings, every epoch's loss, rate and scores, and final scores into a run of MLflow.

    Where MLflow's own `start_run` has a run open, that one is logged to, and it stays open. MLflow sends no telemetry:
    its switch `MLFLOW_DISABLE_TELEMETRY` is set, unless it is set already, before MLflow is first loaded here. A server
    that does not answer is asked four times within a quarter of a minute, unless `MLFLOW_HTTP_REQUEST_MAX_RETRIES` is
    set; MLflow by itself takes four minutes, while training would wait.

    Args:
        settings: name to value, logged as the run's parameters.
        experiment: by name, made where it is not there; None is that of `MLFLOW_EXPERIMENT_NAME`, or tfft.
        run_name: None has MLflow make one up.
        tracking_uri: None is that of `MLFLOW_TRACKING_URI`, or else MLflow's own default, `mlflow.db` in the working
            directory.
        more: `run_id_file`, `say` and `at_end`, see `Tracker`.

    Raises:
        ImportError: mlflow is not installed.
        RunError: in `fit`, where the run cannot be opened.

    Example:
        >>> import tempfile
        >>> from tfft.backend import keras
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.5), "mse")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = MLflowLog({"rate": 0.5}, tracking_uri=f"sqlite:///{folder}/mlflow.db")
        ...     _ = model.fit([[1.0]], [[2.0]], epochs=2, verbose=0, callbacks=[log])
        ...     run = log.client.get_run(log.run_id)
        >>> run.info.status, run.data.params, sorted(run.data.metrics)
        ('FINISHED', {'rate': '0.5'}, ['loss'])
    """

    tracker = "MLflow"

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        experiment: str | None = None,
        run_name: str | None = None,
        *,
        tracking_uri: str | None = None,
        **more: Any,
    ) -> None:
        super().__init__(settings, **more)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")
        import mlflow

        self.experiment = experiment or os.environ.get("MLFLOW_EXPERIMENT_NAME") or "tfft"
        self.run_name, self.tracking_uri = run_name, tracking_uri
        self._mlflow = mlflow
        self._is_users = False

    def _open(self, run_id: str | None) -> str:
        active = self._mlflow.active_run()
        self._is_users = active is not None
        # Here and not before: where there is no database, this makes one.
        self.client = client = self._mlflow.MlflowClient(None if active else self.tracking_uri)
        if active is not None:
            run_id = str(active.info.run_id)
        elif run_id is not None and self._is_there(run_id):
            client.update_run(run_id, status="RUNNING")
            return run_id
        else:
            run_id = str(client.create_run(self._experiment_id(), run_name=self.run_name).info.run_id)
        self._log_settings(run_id)
        return run_id

    def _is_there(self, run_id: str) -> bool:
        try:
            found = self.client.get_run(run_id)
        except self._mlflow.exceptions.MlflowException:
            found = None
        if found is None or found.info.lifecycle_stage != "active":
            self.say(f"MLflow has no run {run_id} any more; this training goes on in a new one")
            return False
        return True

    def _experiment_id(self) -> str:
        found = self.client.get_experiment_by_name(self.experiment)
        return str(found.experiment_id if found else self.client.create_experiment(self.experiment))

    def _log_settings(self, run_id: str) -> None:
        from mlflow.entities import Param

        params = (Param(_name(name), str(value)[:LONGEST_PARAM]) for name, value in self.settings.items())
        while some := list(islice(params, MOST_PARAMS)):
            self.client.log_batch(run_id, params=some)

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(_name(name), value, now, epoch) for name, value in values.items()]
        self.client.log_batch(self.run_id, metrics=metrics)
        self._epoch = epoch

    def _close(self, scores: Mapping[str, float], status: Status) -> None:
        if scores:
            self._log(scores, getattr(self, "_epoch", 0))
        if not self._is_users:
            self.client.set_terminated(self.run_id, _STATUS[status])

    def _mend(self) -> str:
        return "See MLFLOW_TRACKING_URI, or leave mlflow out of training.report_to"


def _name(name: str) -> str:
    """Without what MLflow allows in no name."""
    return re.sub(r"[^\w\-. :/]", "_", name)
