"""Attentions of given texts at the ends of epochs, of plain models and of accelerated ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import families
from tfft.backend import keras
from tfft.callbacks import AttentionSnapshots
from tfft.errors import ModelError
from tfft.models import accelerate, checkpoint, headed, load

TEXTS = ["a good movie", ("a bad day", "so so")]


def make(source: Path, accelerated: bool = False, head: str | None = None) -> tuple[keras.Model, Any]:
    found = checkpoint.find(str(source))
    if head is None:
        model = load.load_classifier(found, ["bad", "good"], "TFAutoModelForSequenceClassification").model
    else:
        model = headed.load_with_head(found, ["bad", "good"], pooling=head).model
    if accelerated:
        assert accelerate(model) == 2
    return model, checkpoint.load_tokenizer(found)


def snapshot(folder: Path, model: keras.Model, tokenizer: Any, epochs: int = 1, **settings: Any) -> dict[str, Any]:
    """The last of the snapshots that so many epochs leave."""
    callback = AttentionSnapshots(folder, TEXTS, tokenizer, **settings)
    callback.set_model(model)
    for epoch in range(epochs):
        callback.on_epoch_end(epoch)
    last = sorted(folder.iterdir())[-1]
    return dict(np.load(last / "attentions.npz"))


@pytest.mark.parametrize("head", [None, "mean"])
def test_accelerated_layers_give_the_attentions_of_plain_ones(tiny_checkpoint: Path, tmp_path: Path, head: Any) -> None:
    plain = snapshot(tmp_path / "plain", *make(tiny_checkpoint, head=head))
    fast = snapshot(tmp_path / "fast", *make(tiny_checkpoint, accelerated=True, head=head))
    assert plain["tokens_1"].tolist() == ["[CLS]", "a", "good", "movie", "[SEP]"]
    tokens = len(plain["tokens_2"])
    assert plain["tokens_2"].tolist().count("[SEP]") == 2
    assert (plain["attentions_1"].shape, plain["attentions_2"].shape) == ((2, 2, 5, 5), (2, 2, tokens, tokens))
    for name in ("attentions_1", "attentions_2"):
        np.testing.assert_allclose(plain[name].sum(axis=-1), 1, atol=1e-5)
        np.testing.assert_allclose(plain[name], fast[name], atol=1e-6)


def test_snapshots_are_of_every_so_many_epochs_and_pictures_of_every_layer(
    tiny_checkpoint: Path, tmp_path: Path
) -> None:
    snapshot(tmp_path, *make(tiny_checkpoint), epochs=5, every=2)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["epoch-0002", "epoch-0004"]
    assert sorted(one.name for one in (tmp_path / "epoch-0002").iterdir()) == [
        "attentions.npz", "text-1.png", "text-2.png"
    ]  # fmt: skip
    with Image.open(tmp_path / "epoch-0002" / "text-1.png") as picture:
        width, height = picture.size
    # Two maps beside each other, of five cells each.
    assert width > 2 * 5 * 22 and 5 * 22 < height < width


def test_long_texts_are_cut(tiny_checkpoint: Path, tmp_path: Path) -> None:
    model, tokenizer = make(tiny_checkpoint)
    callback = AttentionSnapshots(tmp_path, ["so " * 500], tokenizer, max_length=7)
    callback.set_model(model)
    callback.on_epoch_end(0)
    assert np.load(tmp_path / "epoch-0001" / "attentions.npz")["attentions_1"].shape == (2, 2, 7, 7)


@pytest.mark.slow
@pytest.mark.parametrize("family", [one for one in families.FAMILIES if one != "bert"])
def test_every_family_gives_attentions(family: str, tmp_path: Path, tiny_checkpoint: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))

    def encode(*texts: str, **settings: Any) -> dict[str, list[int]]:
        return {"input_ids": [1, 5, 9, 7, 2], "attention_mask": [1] * 5}

    encode.convert_ids_to_tokens = tokenizer.convert_ids_to_tokens  # type: ignore[attr-defined]
    found = snapshot(tmp_path, families.make(family), encode)
    assert found["attentions_1"].shape == (2, 2, 5, 5)


def test_what_gives_no_attentions_is_refused(tmp_path: Path) -> None:
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    with pytest.raises(ModelError, match="Sequential cannot be asked for attentions"):
        model.fit([[1.0]], [[1.0]], verbose=0, callbacks=[AttentionSnapshots(tmp_path, ["text"], None)])
    for texts, every, words in (
        ([], 1, "expected a list of at least one"),
        ("one", 1, "a list"),
        (["a"], 0, "every is 0"),
    ):
        with pytest.raises(ValueError, match=words):
            AttentionSnapshots(tmp_path, texts, None, every)
