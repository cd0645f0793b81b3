"""What `MLflowLog` and `WandbLog` share: what is logged when, and that a tracker out of reach ends no training."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from tfft import whole
from tfft.backend import keras
from tfft.errors import RunError

Status = Literal["finished", "failed", "interrupted"]


class Tracker(keras.callbacks.Callback):
    """Logs the settings when training begins, every epoch's logs, and final scores, into one run of a tracker.

    The run is opened before the first batch; where that fails, training does not begin. What fails later is a line, and
    is told with what comes next.

    Args:
        settings: name to value, to be logged when the run begins.
        run_id_file: has the run's id afterwards; where it has one already, that run is gone on with.
        say: takes a line.
        at_end: whether the end of `fit` is the end of the run. Where it is not, call `finish`.

    Attributes:
        run_id: the tracker's; None before the run was opened.
    """

    tracker = "the tracker"

    def __init__(
        self,
        settings: Mapping[str, Any] | None = None,
        *,
        run_id_file: Path | str | None = None,
        say: Callable[[str], None] = print,
        at_end: bool = True,
    ) -> None:
        super().__init__()
        self.settings = dict(settings or {})
        self.run_id_file = None if run_id_file is None else Path(run_id_file)
        self.say, self.at_end = say, at_end
        self.run_id: str | None = None
        self._is_open = False
        self._untold: list[tuple[dict[str, float], int]] = []

    # --- What a tracker does in its own way ---------------------------------------------------------------------------

    def _open(self, run_id: str | None) -> str:
        """Opens the run of that id, or a new one with the settings; its id."""
        raise NotImplementedError

    def _log(self, values: Mapping[str, float], epoch: int) -> None:
        raise NotImplementedError

    def _close(self, scores: Mapping[str, float], status: Status) -> None:
        raise NotImplementedError

    # --- What all do --------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Opens the run, as `fit` does by itself when it begins.

        Raises:
            RunError: it cannot be opened.
        """
        if self._is_open:
            return
        kept = self.run_id or self._kept_id()
        try:
            self.run_id = self._open(kept)
        except Exception as error:
            raise RunError(f"{self.tracker} has no run for this training: {_line(error)}. {self._mend()}") from None
        self._is_open = True
        if self.run_id_file is not None and self.run_id != kept:
            with whole.whole_file(self.run_id_file) as file:
                file.write(f"{self.run_id}\n")

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Opens the run, unless it is open."""
        self.begin()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Logs the epoch's loss, rate and scores."""
        self._untold.append((_numbers(logs or {}), epoch + 1))
        self._attempt(self._tell, f"epoch {epoch + 1}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Closes the run, where this is its end."""
        if self.at_end:
            self.finish()

    def finish(self, scores: Mapping[str, float] | None = None, status: Status = "finished") -> None:
        """Logs what the model scores in the end, and closes the run; the next `fit` opens it again."""

        def end() -> None:
            self._tell()
            self._close(_numbers(scores or {}), status)

        if self._is_open:
            self._is_open = False
            self._attempt(end, "the end of the run")

    def _tell(self) -> None:
        while self._untold:
            self._log(*self._untold[0])
            del self._untold[0]

    def _kept_id(self) -> str | None:
        if self.run_id_file is None or not self.run_id_file.is_file():
            return None
        return self.run_id_file.read_text(encoding="utf-8").strip() or None

    def _attempt(self, action: Callable[[], None], what: str) -> None:
        try:
            action()
        except Exception as error:
            self.say(f"{self.tracker} was not told of {what}: {_line(error)}; training goes on")

    def _mend(self) -> str:
        return ""


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if isinstance(value, numbers.Real)}


def _line(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__
