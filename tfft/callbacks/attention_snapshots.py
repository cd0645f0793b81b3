"""What each token of some texts attends to, as pictures and numbers, at the ends of epochs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tfft import drawing
from tfft.backend import keras
from tfft.models import attentions, averages
from tfft.whole import whole_folder

_MAPS_IN_A_LINE = 4


class AttentionSnapshots(keras.callbacks.Callback):
    """Saves the attentions of a Transformers model on given texts: `FOLDER/epoch-0001/` and so on.

    There, `text-1.png` has a map for each layer, the mean over its heads, with a line for each token that looks and a
    column for each that is looked at. `attentions.npz` has all heads: `attentions_1` (layers, heads, tokens, tokens)
    float32, and `tokens_1`. Where the optimizer keeps averages of the weights, it is they that look.

    Args:
        folder: for the snapshots; those that are there are replaced by those of the same epochs.
        texts: each a text, or a pair of texts.
        tokenizer: the checkpoint's.
        every: epochs from one snapshot to the next; the first is after so many.
        max_length: tokens of a text that are taken.

    Raises:
        ValueError: no texts, or `every` is below 1.
        ModelError: in `fit`, where the model gives no attentions.

    Example:
        >>> import tempfile
        >>> from tfft.models import checkpoint, load
        >>> found = checkpoint.find("tests/fixtures/tiny_bert_torch")
        >>> model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
        >>> tokenizer = checkpoint.load_tokenizer(found)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     snapshots = AttentionSnapshots(folder, ["a good movie"], tokenizer)
        ...     snapshots.set_model(model)  # as `fit` does, with callbacks=[snapshots]
        ...     snapshots.on_epoch_end(0)
        ...     arrays = dict(np.load(f"{folder}/epoch-0001/attentions.npz"))
        >>> arrays["attentions_1"].shape == (2, 2, len(arrays["tokens_1"]), len(arrays["tokens_1"]))
        True
        >>> bool(np.allclose(arrays["attentions_1"].sum(axis=-1), 1, atol=1e-5))
        True
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        texts: Sequence[str | tuple[str, str]],
        tokenizer: Any,
        every: int = 1,
        max_length: int = 64,
    ) -> None:
        super().__init__()
        if isinstance(texts, str) or not texts:
            raise ValueError(f"texts is {texts!r}; expected a list of at least one text")
        if every < 1:
            raise ValueError(f"every is {every}; expected at least 1")
        self.folder, self.texts, self.tokenizer = Path(folder), list(texts), tokenizer
        self.every, self.max_length = every, max_length

    def set_model(self, model: keras.Model) -> None:
        """As Keras's.

        Raises:
            ModelError: it cannot be asked for attentions.
        """
        super().set_model(model)
        attentions.check(model)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Saves, where it is time."""
        if (epoch + 1) % self.every:
            return
        arrays: dict[str, np.ndarray] = {}
        with averages.averaged(self.model), whole_folder(self.folder / f"epoch-{epoch + 1:04d}") as target:
            for number, text in enumerate(self.texts, 1):
                seen = attentions.attend(self.model, self.tokenizer, text, self.max_length)
                arrays |= {f"tokens_{number}": np.array(seen.tokens), f"attentions_{number}": seen.attentions}
                maps = [
                    drawing.heat_map(of_layer.mean(axis=0), seen.tokens, seen.tokens, f"layer {layer}")
                    for layer, of_layer in enumerate(seen.attentions)
                ]
                drawing.side_by_side(maps, _MAPS_IN_A_LINE).save(target / f"text-{number}.png")
            np.savez_compressed(target / "attentions.npz", **arrays)  # type: ignore[arg-type]
