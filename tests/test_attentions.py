"""Attentions, rollout and integrated gradients, by hand and by relation."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models import attentions, checkpoint, headed
from tfft.models.load import load_classifier

TEXT = "a good movie and not a bad one"


@pytest.fixture(scope="module")
def tokenizer(tiny_checkpoint: Path) -> Any:
    return checkpoint.load_tokenizer(checkpoint.find(str(tiny_checkpoint)))


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> keras.Model:
    """Random, with a head that tells its classes apart."""
    keras.utils.set_random_seed(0)
    made = load_classifier(
        checkpoint.find(str(tiny_checkpoint)), ["bad", "good"], "TFAutoModelForSequenceClassification"
    )
    made.model.classifier.kernel.assign(made.model.classifier.kernel * 100)
    return made.model


def test_attentions_are_shares_of_each_token(model: keras.Model, tokenizer: Any) -> None:
    seen = attentions.attend(model, tokenizer, TEXT, 64)
    count = len(seen.tokens)
    assert seen.tokens[0] == "[CLS]" and seen.tokens[-1] == "[SEP]"
    assert seen.attentions.shape == (2, 2, count, count)
    np.testing.assert_allclose(seen.attentions.sum(axis=-1), 1, rtol=1e-5)
    pair = attentions.attend(model, tokenizer, (TEXT, "good"), 6)
    assert len(pair.tokens) == 6 and pair.tokens.count("[SEP]") == 2


def test_rollout_of_one_layer_is_half_residual_and_of_many_their_product() -> None:
    draw = np.random.default_rng(0)
    given = draw.dirichlet(np.ones(5), size=(3, 2, 5))
    found = attentions.rollout(given)
    one = [0.5 * layer.mean(axis=0) + 0.5 * np.eye(5) for layer in given]
    np.testing.assert_allclose(found[0], one[0])
    np.testing.assert_allclose(found[2], one[2] @ one[1] @ one[0])
    np.testing.assert_allclose(found.sum(axis=-1), 1)
    looking_nowhere = np.broadcast_to(np.eye(4), (2, 3, 4, 4))
    np.testing.assert_allclose(attentions.rollout(looking_nowhere)[-1], np.eye(4))


@pytest.mark.parametrize("output", [0, 1])
def test_importance_is_complete(model: keras.Model, tokenizer: Any, output: int) -> None:
    found = attentions.integrated_gradients(model, tokenizer, TEXT, output, 64)
    logits = model(attentions.encoded(model, tokenizer, TEXT, 64), training=False).logits[0]
    assert found.logit == pytest.approx(float(logits[output]), abs=1e-4)
    assert abs(found.logit - found.baseline_logit) > 0.05
    assert found.values.sum() == pytest.approx(found.logit - found.baseline_logit, abs=2e-3)
    assert found.values[0] == found.values[-1] == 0, "special tokens are on both ends of the path"
    coarse = attentions.integrated_gradients(model, tokenizer, TEXT, output, 64, steps=200)
    np.testing.assert_allclose(found.values, coarse.values, atol=2e-3)


def test_importance_of_a_linear_model_is_its_weights(tokenizer: Any) -> None:
    """Of what adds up a score for each token, the tokens' importance is those scores less that of padding."""

    class Adding(keras.Model):
        config = type("Config", (), {"max_position_embeddings": 64, "model_type": "adding"})()

        def __init__(self) -> None:
            super().__init__()
            draw = np.random.default_rng(1)
            self.weight = tf.Variable(draw.normal(size=(len(tokenizer), 4)), dtype=tf.float32)
            self.by = tf.constant(draw.normal(size=(4, 1)), tf.float32)

        def get_input_embeddings(self) -> Any:
            return self

        def call(
            self,
            inputs: Any,
            training: bool = False,
            inputs_embeds: Any = None,
            output_attentions: bool = False,
            return_dict: bool = True,
        ) -> Any:
            given = inputs.get("inputs_embeds")
            given = tf.gather(self.weight, inputs["input_ids"]) if given is None else given
            logits = tf.reduce_sum(given @ self.by, axis=1)
            return type("Output", (), {"logits": logits, "attentions": None})()

    model = Adding()
    found = attentions.integrated_gradients(model, tokenizer, TEXT, 0, 64, steps=3)
    scores = (model.weight @ model.by).numpy()[:, 0]
    ids = tokenizer(TEXT)["input_ids"]
    expected = [0 if place in (0, len(ids) - 1) else scores[one] - scores[0] for place, one in enumerate(ids)]
    np.testing.assert_allclose(found.values, expected, atol=1e-5)
    with pytest.raises(ModelError, match="gave no attentions"):
        attentions.attend(model, tokenizer, TEXT, 64)


def test_models_whose_importance_cannot_be_measured(model: keras.Model, tokenizer: Any) -> None:
    class Deaf(keras.Model):
        config = model.config

        def get_input_embeddings(self) -> Any:
            return model.get_input_embeddings()

        def call(self, inputs: Any, training: bool = False) -> Any:
            return model({"input_ids": inputs["input_ids"]}, training=training)

    class Otherwise(Deaf):
        def call(self, inputs: Any, training: bool = False, inputs_embeds: Any = None) -> Any:
            logits = tf.ones([1, 2]) if "inputs_embeds" in inputs else tf.zeros([1, 2])
            return type("Output", (), {"logits": logits})()

    for made, said in ((Deaf(), "takes no inputs_embeds"), (Otherwise(), "otherwise than token ids")):
        with pytest.raises(ModelError, match=said):
            attentions.integrated_gradients(made, tokenizer, TEXT, 0, 64)


@pytest.mark.parametrize("family", sorted(families.FAMILIES))
def test_every_family(family: str, tokenizer: Any) -> None:
    """The tokenizer's ids are below 50 for this text, as many as the toys know."""
    model, tokenizer = families.make(family), copy.deepcopy(tokenizer)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]  # all that some families take
    text = next(text for text in ("a", "the", ".", "b") if max(tokenizer(text)["input_ids"]) < 50)
    seen = attentions.attend(model, tokenizer, text, 16)
    assert seen.attentions.shape[:2] == (2, 2)
    found = attentions.integrated_gradients(model, tokenizer, text, 0, 16)
    assert found.values.sum() == pytest.approx(found.logit - found.baseline_logit, abs=1e-3)


def test_the_tutorials_head(tiny_checkpoint: Path, tokenizer: Any) -> None:
    source = checkpoint.find(str(tiny_checkpoint))
    model = headed.load_with_head(source, ["bad", "good"], pooling="mean").model
    found = attentions.integrated_gradients(model, tokenizer, TEXT, 1, 64, steps=300)
    assert found.values.sum() == pytest.approx(found.logit - found.baseline_logit, abs=5e-3)
    assert attentions.attend(model, tokenizer, TEXT, 64).attentions.shape[:2] == (2, 2)
