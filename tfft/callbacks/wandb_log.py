"""Settings, epochs and scores in Weights & Biases."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from tfft.callbacks.tracker import Status, Tracker


class WandbLog(Tracker):
    """Logs settings, every epoch's loss, rate and scores, and final scores into a run of Weights & Biases.

    Where `wandb.init` has a run open, that one is logged to, and it stays open. Reports of wandb's own errors are
    switched off (`WANDB_ERROR_REPORTING`), unless the variable is set already. What else goes to W&B is wandb's and
    your settings' business; in offline mode nothing does.

    Args:
        settings: name to value, logged as the run's configuration.
        project: None is that of `WANDB_PROJECT`, or tfft.
        run_name: None is that of `WANDB_NAME`, or has W&B make one up.
        mode: `online`, `offline` or `disabled`; None is that of `WANDB_MODE`, or online.
        directory: for wandb's files; None is that of `WANDB_DIR`, or `wandb` in the working directory.
        more: `run_id_file`, `say` and `at_end`, see `Tracker`.

    Raises:
        ImportError: wandb is not installed.
        RunError: in `fit`, where the run cannot be opened.

    Example:
        >>> import tempfile
        >>> from tfft.backend import keras
        >>> model = keras.Sequential([keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.SGD(0.5), "mse")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     log = WandbLog({"rate": 0.5}, mode="offline", directory=folder)
        ...     _ = model.fit([[1.0]], [[2.0]], epochs=2, verbose=0, callbacks=[log])
        ...     [path.suffix for path in Path(folder).glob("wandb/offline-run-*/*.wandb")]
        ['.wandb']
    """

    tracker = "Weights & Biases"

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        project: str | None = None,
        run_name: str | None = None,
        *,
        mode: Literal["online", "offline", "disabled"] | None = None,
        directory: Path | str | None = None,
        **more: Any,
    ) -> None:
        super().__init__(settings, **more)
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.project = project or os.environ.get("WANDB_PROJECT") or "tfft"
        self.run_name, self.mode, self.directory = run_name, mode, directory
        self._wandb = wandb
        self._is_users = False

    def _open(self, run_id: str | None) -> str:
        active = self._wandb.run
        self._is_users = active is not None
        if active is not None:
            self.run = active
            self.run.config.update(self.settings, allow_val_change=True)
            return str(active.id)
        self.run = self._wandb.init(
            project=self.project,
            name=self.run_name,
            id=run_id,
            # A run of that id goes on, in offline mode once it is synchronised.
            resume=None if run_id is None else "allow",
            config=self.settings,
            allow_val_change=run_id is not None,
            mode=self.mode,
            dir=None if self.directory is None else str(self.directory),
            # What training says is the terminal's.
            settings=self._wandb.Settings(console="off"),
        )
        return str(self.run.id)

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        if self._is_users:
            # Whoever opened it counts its steps.
            self.run.log({"epoch": epoch, **values})
        else:
            self.run.log({"epoch": epoch, **values}, step=epoch)

    def _close(self, scores: Mapping[str, float], status: Status) -> None:
        self.run.summary.update(scores)
        if not self._is_users:
            self.run.finish(exit_code=0 if status == "finished" else 1)

    def _mend(self) -> str:
        return "`wandb login` or WANDB_API_KEY lets it in, WANDB_MODE=offline needs neither; or leave it out"
