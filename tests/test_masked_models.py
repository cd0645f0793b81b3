"""Masked-LM models: hidden tokens alone are predicted, heads that are new, vocabularies that grow, perplexity."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers

from tests import families
from tfft.backend import keras, tf
from tfft.data import batches, masking
from tfft.data.blocks import Blocks, encode_blocks
from tfft.data.rows import Rows
from tfft.data.words import IGNORED_LABEL
from tfft.models import checkpoint, faster, heads, load, masked, save
from tfft.perplexity import MaskedScorer

# Quick enough for every run: one whose outputs are tied to embeddings as wide, and one to narrower ones.
FAMILIES = [
    one if one in ("bert", "electra") else pytest.param(one, marks=pytest.mark.slow) for one in families.FAMILIES
]
IDS = tf.constant([[2, 30, 31, 32, 3], [2, 33, 34, 3, 0]])
INPUTS = {"input_ids": IDS, "attention_mask": tf.constant([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])}
POSITIONS = tf.constant([[1, 3], [2, 0]])
LABELS = tf.constant([[7, 9], [8, IGNORED_LABEL]])


def make(family: str) -> keras.Model:
    """A toy of the family with a masked-LM head, its dropout off."""
    config = families.config(family)
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    model = transformers.TFAutoModelForMaskedLM.from_config(config)
    model.build_in_name_scope()
    load.skip_autograph(model)
    return model


def loss_and_gradients(model: keras.Model, inputs: dict[str, Any], labels: tf.Tensor) -> tuple[float, list[np.ndarray]]:
    with tf.GradientTape() as tape:
        logits = model(inputs, training=True)["logits"]
        loss = heads.TokenCrossEntropyFromLogits()(labels, logits)
    gradients = tape.gradient(loss, model.trainable_variables)
    return float(loss), [np.zeros(1) if one is None else tf.convert_to_tensor(one).numpy() for one in gradients]


@pytest.mark.parametrize("accelerates", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_predicting_hidden_tokens_alone_is_the_same_training(family: str, accelerates: bool) -> None:
    model = make(family)
    labels = np.full(IDS.shape, IGNORED_LABEL, np.int32)
    labels[0, 1], labels[0, 3], labels[1, 2] = 7, 9, 8
    whole = model(INPUTS).logits.numpy()
    loss, gradients = loss_and_gradients(model, INPUTS, tf.constant(labels))
    if accelerates:
        faster.accelerate(model)
    masked.predict_only_masked(model)
    with_positions = {**INPUTS, masking.POSITIONS: POSITIONS}
    alone = model(with_positions).logits.numpy()
    assert alone.shape == (2, 2, model.config.vocab_size)
    np.testing.assert_allclose(alone[0], whole[0, [1, 3]], atol=2e-6)
    np.testing.assert_allclose(alone[1], whole[1, [2, 0]], atol=2e-6)
    found, of_alone = loss_and_gradients(model, with_positions, LABELS)
    assert found == pytest.approx(loss, abs=1e-6)
    for one, other in zip(of_alone, gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    # Without places to predict, all of them are, as before.
    np.testing.assert_allclose(model(INPUTS).logits.numpy(), whole, atol=2e-6)


def test_the_compiled_step_takes_the_places(tiny_checkpoint: Path) -> None:
    model = load.load_model(checkpoint.find(str(tiny_checkpoint)), "TFAutoModelForMaskedLM").model
    masked.predict_only_masked(model)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=heads.TokenCrossEntropyFromLogits())
    step = {**INPUTS, masking.POSITIONS: POSITIONS}
    losses = [model.train_on_batch(step, LABELS) for _ in range(30)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_new_tokens_begin_as_the_mean_of_their_pieces(family: str, tmp_path: Path) -> None:
    model = make(family)
    bias = next(iter(model.get_bias().values()))
    bias.assign(tf.range(50, dtype=tf.float32))
    before = model.get_input_embeddings().weight.numpy()
    whole = model(INPUTS).logits.numpy()
    masked.add_tokens(model, [(30, 31), (5, 6, 10)])
    after = model.get_input_embeddings().weight.numpy()
    np.testing.assert_array_equal(after[:50], before)
    np.testing.assert_allclose(after[50:], [before[[30, 31]].mean(0), before[[5, 6, 10]].mean(0)], atol=1e-7)
    assert model.config.vocab_size == 52
    grown = model(INPUTS).logits.numpy()
    np.testing.assert_allclose(grown[..., :50], whole, atol=1e-6)
    assert next(iter(model.get_bias().values())).numpy()[50:].tolist() == [30.5, 7.0]
    save.save(model, None, tmp_path)
    again = load.load_model(checkpoint.find(str(tmp_path)), "TFAutoModelForMaskedLM")
    assert again.new == again.unused == ()
    np.testing.assert_allclose(again.model(INPUTS).logits.numpy(), grown, atol=1e-6)


def test_a_head_that_is_new_begins_from_the_embeddings(tiny_checkpoint: Path) -> None:
    loaded = load.load_model(checkpoint.find(str(tiny_checkpoint)), "TFAutoModelForMaskedLM")
    masked.start_head(loaded.model, loaded.new)
    states = loaded.model.bert(INPUTS["input_ids"]).last_hidden_state.numpy()
    # The identity, GELU, layer normalisation without weights, the embeddings.
    inner = np.asarray(tf.nn.gelu(states))
    normed = (inner - inner.mean(-1, keepdims=True)) / np.sqrt(inner.var(-1, keepdims=True) + 1e-12)
    expected = normed @ loaded.model.get_input_embeddings().weight.numpy().T
    np.testing.assert_allclose(loaded.model(INPUTS["input_ids"]).logits.numpy(), expected, atol=1e-4)


def test_a_head_that_the_checkpoint_has_stays(tmp_path: Path, tiny_checkpoint: Path) -> None:
    model = make("bert")
    save.save(model, None, tmp_path)
    loaded = load.load_model(checkpoint.find(str(tmp_path)), "TFAutoModelForMaskedLM")
    before = [one.numpy() for one in loaded.model.weights]
    assert loaded.new == () and not masked.start_head(loaded.model, loaded.new)
    for weight, value in zip(loaded.model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)


def test_perplexity_is_that_of_the_hidden_tokens(tiny_checkpoint: Path) -> None:
    found = checkpoint.find(str(tiny_checkpoint))
    tokenizer = checkpoint.load_tokenizer(found)
    model = load.load_model(found, "TFAutoModelForMaskedLM").model
    masked.predict_only_masked(model)
    texts = ["the movie was good", "a bad day and not you", "this is it", "the end of the day was bad"] * 5
    rows = Rows((texts,), None, range(1, len(texts) + 1), "here")
    split = Blocks("validation", rows, encode_blocks(texts, tokenizer, 16), None)
    how = masking.make(tokenizer, probability=0.3, mask_share=0.8, random_share=0.1)
    scorer = MaskedScorer(model, tokenizer, split, how, batch_size=6, max_length=16)
    scores = scorer()
    losses, right = [], []
    dataset = masking.for_scoring(split.encoded, how, batch_size=6, tokenizer=tokenizer, max_length=16)
    for inputs, labels, _ in dataset:
        positions = inputs.pop(masking.POSITIONS).numpy()
        logits = model(inputs).logits.numpy().astype(np.float64)
        for row, place in zip(*np.nonzero(labels.numpy() != IGNORED_LABEL), strict=True):
            of_token, token = logits[row, positions[row, place]], labels.numpy()[row, place]
            losses.append(np.log(np.exp(of_token).sum()) - of_token[token])
            right.append(of_token.argmax() == token)
    assert len(losses) == how.places(split.encoded.lengths).sum()
    assert scores["loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert scores["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    assert scores["accuracy"] == pytest.approx(np.mean(right))
    assert scorer() == scores
    columns, samples = scorer.samples(3)
    assert columns == ["token", "prediction", "probability"] and len(samples) == 3
    assert all(0 < float(share) <= 1 for _, _, share in samples)


def test_several_devices_get_the_mean_over_all_hidden_tokens(tiny_checkpoint: Path) -> None:
    tokenizer = checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))
    model = load.load_model(checkpoint.find(str(tiny_checkpoint)), "TFAutoModelForMaskedLM").model
    masked.predict_only_masked(model)
    documents = ["the movie was good " * times for times in range(1, 8)]
    encoded = encode_blocks(documents, tokenizer, 24)
    how = masking.make(tokenizer, probability=0.2, mask_share=0.8, random_share=0.1)

    def stream() -> tf.data.Dataset:
        widths, predicted = (16, 24), how.places(encoded.lengths)
        whole = batches.of_blocks(encoded, predicted, batch_size=5, widths=widths, seed=1, tokenizer=tokenizer)
        return masking.masked(whole, how, 1).take(2)

    def loss(inputs: Any, labels: tf.Tensor, weights: tf.Tensor) -> float:
        logits = model(inputs)["logits"]
        return float(heads.TokenCrossEntropyFromLogits()(labels, logits, weights))

    whole = [loss(*one) for one in stream()]
    parts = [loss(*one) for one in batches.shared_out(stream(), 2, of_tokens=True)]
    assert len(parts) == 4
    np.testing.assert_allclose(np.reshape(parts, (2, 2)).mean(axis=1), whole, rtol=1e-6)


def test_a_generator_has_a_head_and_a_discriminator_has_none(tmp_path: Path) -> None:
    assembly = importlib.import_module("tfft.assembly")
    electra = families.config("electra")
    model = transformers.TFElectraForPreTraining(electra)
    model.build_in_name_scope()
    save.save(model, None, tmp_path)
    found = checkpoint.find(str(tmp_path))
    assert load.load_model(found, "TFAutoModelForMaskedLM").new
    assert "discriminators" in assembly._why_no_head(found)
