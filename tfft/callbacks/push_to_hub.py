"""The model on the hub while it is still being trained."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from tfft.backend import keras
from tfft.models import save
from tfft.uploads import Repository, Uploads, no_bars

# At the end of a training, for what is still on its way.
WAIT_SECONDS = 600.0


class PushToHub(keras.callbacks.Callback):
    """Pushes the model, and the tokenizer, to the hub at every epoch's end and once more at the end of training.

    As `transformers.PushToHubCallback`, without its model card; but training never waits for the hub and never fails by
    it. What is pushed is written to a folder first and is committed at once, so nobody ever finds half of a model.
    While a push is on its way the newest epoch waits, and those before it are left out. A push that fails is one line
    that says what to do. At the end it waits, but not for ever.

    The token is that of the environment (`HF_TOKEN`) or of the hub's own login.

    It goes after the callbacks that change weights, such as EarlyStopping with `restore_best_weights`.

    Args:
        hub_model_id: OWNER/NAME, or NAME for a repository of your own. It is made where it is not there.
        tokenizer: goes along; None where there is none.
        hub_strategy: `every_save`, or `end` for the end of training alone.
        save_steps: optimizer steps between two pushes within an epoch, but for those that come while another is on its
            way; None pushes at epochs' ends alone.
        hub_private_repo: whether the repository is private where it has to be made; None leaves that to the hub.
        save: writes the model into a folder, in place of what Transformers and Keras have for that.
        wait_seconds: for what is still on its way at the end of training.
        say: takes a line.
        at_end: whether the end of `fit` is the end of training. Where it is not, call `finish`.
        snapshots: the folder in which the models wait; None takes the system's for temporary files.
        push: takes a folder and a message and returns where they are now, in place of the hub.

    Raises:
        HubError: the hub is switched off, there is no token, or no hub has such a name.

    Example:
        `PushToHub("me/my-model", tokenizer)` is all that it takes. Here the models go elsewhere:

        >>> pushed = []
        >>> def push(folder: Path, message: str) -> str:
        ...     pushed.append([message, *sorted(path.name for path in folder.iterdir())])
        ...     return "a safe place"
        >>> model = keras.Sequential([keras.layers.Dense(1, input_shape=(1,))])
        >>> model.compile("sgd", "mse")
        >>> callback = PushToHub("me/my-model", push=push, say=lambda line: None)
        >>> trained = model.fit([[1.0]], [[2.0]], epochs=2, verbose=0, callbacks=[callback])
        >>> pushed[-1]
        ['end of training', 'model.keras']
    """

    def __init__(
        self,
        hub_model_id: str,
        tokenizer: Any = None,
        hub_strategy: Literal["every_save", "end"] = "every_save",
        save_steps: int | None = None,
        *,
        hub_private_repo: bool | None = None,
        save: Callable[[Path], None] | None = None,
        wait_seconds: float = WAIT_SECONDS,
        say: Callable[[str], None] = print,
        at_end: bool = True,
        snapshots: Path | str | None = None,
        push: Callable[[Path, str], str] | None = None,
    ) -> None:
        super().__init__()
        if hub_strategy not in ("every_save", "end"):
            raise ValueError(f"hub_strategy is {hub_strategy!r}; expected every_save or end")
        if save_steps is not None and not save_steps > 0:
            raise ValueError(f"save_steps is {save_steps}; expected more than 0, or None")
        self.hub_model_id, self.tokenizer = hub_model_id, tokenizer
        self.hub_strategy, self.save_steps = hub_strategy, save_steps
        self.save, self.wait_seconds, self.say, self.at_end = save or self._save, wait_seconds, say, at_end
        self.snapshots = None if snapshots is None else Path(snapshots)
        if push is None:
            repository = Repository(hub_model_id, hub_private_repo)
            no_bars()
            self.uploads = Uploads(repository.push, say, repository.why, repository.make)
        else:
            self.uploads = Uploads(push, say, lambda error: " ".join(str(error).split()))
        self._epoch, self._steps_pushed = 0, 0

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Has the repository made, so that a token that is refused is told of soon."""
        self._steps_pushed = self._steps()
        self.uploads.begin()

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Remembers the epoch."""
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Pushes where it is time and nothing is on its way."""
        if self.hub_strategy == "end" or self.save_steps is None or self.uploads.is_busy:
            return
        if self._steps() - self._steps_pushed >= self.save_steps:
            self._push(f"step {self._steps()}, in epoch {self._epoch + 1}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Pushes."""
        if self.hub_strategy == "every_save":
            self._push(f"epoch {epoch + 1}")

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Pushes the model as training leaves it, and waits."""
        if self.at_end:
            self._push("end of training")
            self.finish()

    def finish(self, folder: Path | None = None) -> bool:
        """Waits for what is on its way, `wait_seconds` at most; whether the hub has the last of it.

        Args:
            folder: of the finished model, to be pushed as it is.
        """
        if folder is not None:
            self.uploads.put(folder, "end of training")
        if self.uploads.is_busy:
            self.say(f"waiting for {self.hub_model_id} to be pushed, {self.wait_seconds:g} s at most")
        arrived = self.uploads.wait(self.wait_seconds)
        if not arrived:
            how = f"hf upload {self.hub_model_id} {folder or 'FOLDER'}"
            late = f"has not arrived after {self.wait_seconds:g} s" if self.uploads.is_busy else "was not pushed"
            self.say(f"the model {late}; once the hub can take it: {how}")
        return arrived

    def _push(self, what: str) -> None:
        """Writes the model to a folder and has that pushed. Whatever keeps it from being written is said, no more."""
        self._steps_pushed = self._steps()
        folder = None
        try:
            if self.snapshots is not None:
                self.snapshots.mkdir(parents=True, exist_ok=True)
            folder = Path(tempfile.mkdtemp(prefix="push-", dir=self.snapshots))
            self.save(folder)
        except Exception as error:
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            where = folder or self.snapshots or tempfile.gettempdir()
            why = " ".join(str(error).split())
            self.say(f"{what} is not pushed, since it could not be written to {where}: {why}")
        else:
            self.uploads.put(folder, what, is_ours=True)

    def _save(self, folder: Path) -> None:
        if hasattr(self.model, "save_pretrained"):
            save.save(self.model, self.tokenizer, folder)
            return
        self.model.save(folder / "model.keras")
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    def _steps(self) -> int:
        return int(self.model.optimizer.iterations.numpy())
