"""Adversarial training by relation to plain training, by hand on a linear model, and through Keras's own `fit`."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests import families
from tfft import hardware, optimizers
from tfft.backend import keras, tf
from tfft.errors import ModelError
from tfft.models import adversarial, lora
from tfft.models.heads import CrossEntropyFromLogits

# The second row is padded on its right. 1 is what RoBERTa takes for padding.
INPUTS = {
    "input_ids": tf.constant([[0, 5, 9, 7, 2], [0, 8, 2, 1, 1]]),
    "attention_mask": tf.constant([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
LABELS = tf.constant([0, 1])
WEIGHTS = tf.constant([1.0, 0.25])


def make(family: str = "bert", dropout: bool = False) -> keras.Model:
    hardware.set_seed(1)
    model = families.make(family)
    for layer in model.submodules if not dropout else ():
        for name in ("rate", "drop_prob"):
            if hasattr(layer, name):
                setattr(layer, name, 0.0)
    return model


def small(dropout: bool = False) -> keras.Model:
    """Of one layer, whose graph is built in half the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.FAMILIES, "bert", ("BertConfig", {**families.SIZES, "num_hidden_layers": 1}))
        model = make("bert", dropout)
    model.call = tf.autograph.experimental.do_not_convert(model.call)  # as `load` does
    return model


def compiled(model: keras.Model, optimizer: Any = None, **settings: Any) -> keras.Model:
    model.compile(optimizer=optimizer or keras.optimizers.SGD(1.0), loss=CrossEntropyFromLogits(), **settings)
    return model


def movement(model: keras.Model, step: Any, data: Any) -> list[np.ndarray]:
    """By how much one eager step moves each trained weight; they are put back."""
    before = [variable.numpy() for variable in model.trainable_variables]
    step(data)
    moved = [variable.numpy() - old for variable, old in zip(model.trainable_variables, before, strict=True)]
    for variable, old in zip(model.trainable_variables, before, strict=True):
        variable.assign(old)
    return moved


def plain_step(model: keras.Model) -> Any:
    return types.MethodType(type(model).train_step, model)


@pytest.fixture
def policy(request: pytest.FixtureRequest) -> Iterator[str]:
    keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    keras.mixed_precision.set_global_policy("float32")


# --- what the model is given ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.FAMILIES)
def test_embeddings_give_the_logits_of_their_ids(family: str) -> None:
    model = make(family)
    layer = model.get_input_embeddings()
    padded_on_the_left = {name: value[:, ::-1] for name, value in INPUTS.items()}
    for given in (INPUTS, padded_on_the_left):
        inputs = adversarial.with_embeddings(layer, given, tf.gather(layer.weight, given["input_ids"]))
        assert "input_ids" not in inputs
        np.testing.assert_allclose(model(inputs).logits, model(given).logits, rtol=1e-6, atol=1e-7)
    assert ("position_ids" in inputs) == (family in ("roberta", "xlm-roberta", "mpnet"))
    if "position_ids" in inputs:  # without which they would differ
        del inputs["position_ids"]
        assert np.abs(model(inputs).logits - model(given).logits).max() > 1e-6


# --- the perturbation -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
def test_a_perturbation_has_norm_epsilon_in_every_row_and_none_at_padding(unit: float) -> None:
    gradient = np.random.default_rng(0).normal(size=(3, 4, 2)).astype(np.float32)
    is_real = np.array([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]], bool)
    found = adversarial.perturbation(tf.constant(gradient * np.float32(unit)), tf.constant(is_real), 0.5).numpy()
    expected = gradient * is_real[..., None]
    for row in (0, 1):
        np.testing.assert_allclose(found[row], 0.5 * expected[row] / np.linalg.norm(expected[row]), rtol=1e-5)
    np.testing.assert_array_equal(found[2], 0)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_a_row_whose_gradient_overflowed_stays_where_it_is(wrong: float) -> None:
    gradient = np.ones([2, 3, 4], np.float16)
    gradient[0, 1, 2] = wrong
    found = adversarial.perturbation(tf.constant(gradient), tf.ones([2, 3], tf.bool), 2.0).numpy()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[0], 0)
    np.testing.assert_allclose(found[1], 2 / np.sqrt(12), rtol=1e-6)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_loss_grows_by_epsilon_times_the_norm_of_its_gradient(family: str) -> None:
    model = make(family)
    layer, loss = model.get_input_embeddings(), CrossEntropyFromLogits(label_smoothing=0.1)

    def loss_at(embeddings: tf.Tensor) -> tf.Tensor:
        return loss(LABELS, model(adversarial.with_embeddings(layer, INPUTS, embeddings)).logits)

    embeddings = tf.gather(layer.weight, INPUTS["input_ids"])
    with tf.GradientTape() as tape:
        tape.watch(embeddings)
        clean = loss_at(embeddings)
    gradient = tape.gradient(clean, embeddings)
    move = adversarial.perturbation(gradient, INPUTS["attention_mask"] != 0, epsilon := 1e-2)
    grown = float(loss_at(embeddings + move) - clean)
    expected = epsilon * np.linalg.norm(gradient.numpy().reshape(2, -1), axis=1).sum()
    assert grown > 0
    assert grown == pytest.approx(expected, rel=0.3)


# --- a step -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", families.FAMILIES)
def test_without_a_perturbation_a_step_is_one_on_twice_the_loss(family: str) -> None:
    data = (INPUTS, LABELS, WEIGHTS)
    model = compiled(make(family), run_eagerly=True)
    adversarial.attack(model, 1e-12)
    moved = movement(model, model.train_step, data)
    reported = float(model.compiled_loss.metrics[0].result())
    model.reset_metrics()
    plain = movement(model, plain_step(model), data)
    assert reported == pytest.approx(float(model.compiled_loss.metrics[0].result()), rel=1e-6)
    for one, other in zip(moved, plain, strict=True):
        np.testing.assert_allclose(one, 2 * other, rtol=1e-4, atol=2e-6)
    assert sum(bool(one.any()) for one in moved) > len(moved) / 2


def test_a_row_without_weight_is_as_if_it_were_not_there() -> None:
    model = compiled(make())
    adversarial.attack(model, 1.0)
    both = movement(model, model.train_step, (INPUTS, LABELS, tf.constant([1.0, 0.0])))
    one = movement(model, model.train_step, ({name: value[:1] for name, value in INPUTS.items()}, LABELS[:1]))
    for a, b in zip(both, one, strict=True):
        np.testing.assert_allclose(2 * a, b, rtol=1e-4, atol=2e-6)


def test_padding_changes_nothing() -> None:
    model = compiled(make("roberta"))
    adversarial.attack(model, 1.0)
    row = {name: value[1:] for name, value in INPUTS.items()}
    padded = movement(model, model.train_step, (row, LABELS[1:]))
    short = movement(model, model.train_step, ({name: value[:, :3] for name, value in row.items()}, LABELS[1:]))
    for a, b in zip(padded, short, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-6)


def test_frozen_embeddings_are_attacked_as_well() -> None:
    """LoRA trains none of them, and they need a gradient all the same."""
    model = make()
    lora.add(model, rank=2, alpha=4)
    compiled(model)
    table = model.get_input_embeddings().weight.numpy()
    steps = []
    for epsilon in (1e-12, 1.0):
        adversarial.attack(model, epsilon)
        steps.append(movement(model, model.train_step, (INPUTS, LABELS)))
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(*steps, strict=True))
    np.testing.assert_array_equal(model.get_input_embeddings().weight.numpy(), table)


class Linear(keras.Model):
    """Logits that are the sum of a row's embeddings, times a matrix."""

    def __init__(self, table: np.ndarray, kernel: np.ndarray) -> None:
        super().__init__()
        self.table = types.SimpleNamespace(weight=tf.Variable(table, name="table"))
        self.table_weight = self.table.weight
        self.kernel = tf.Variable(kernel, name="kernel")

    def get_input_embeddings(self) -> Any:
        return self.table

    def call(self, inputs: Any, inputs_embeds: Any = None, training: bool = False) -> Any:
        return types.SimpleNamespace(logits=tf.reduce_sum(inputs["inputs_embeds"], axis=1) @ self.kernel)


@pytest.mark.parametrize("xla", [False, True], ids=["eager", "XLA"])
def test_a_step_by_hand(xla: bool) -> None:
    generator = np.random.default_rng(2)
    table, kernel = (generator.normal(size=shape).astype(np.float32) for shape in ((4, 3), (3, 2)))
    model = compiled(Linear(table, kernel), jit_compile=xla)
    adversarial.attack(model, 0.5)
    ids, label = tf.constant([[2, 0, 2]]), 1
    step = (lambda data: model.train_on_batch(*data)) if xla else model.train_step
    moved = dict(zip(("table", "kernel"), movement(model, step, (ids, tf.constant([label]))), strict=True))

    def slopes(words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the loss with respect to each word, which is the same for all three, and to the kernel."""
        logits = words.sum(0) @ kernel
        excess = np.exp(logits) / np.exp(logits).sum() - np.eye(2)[label]
        return kernel @ excess, np.outer(words.sum(0), excess)

    words = table[ids.numpy()[0]]
    by_word, by_kernel = slopes(words)
    move = 0.5 * by_word / np.sqrt(3 * (by_word**2).sum())  # of each of the three words
    by_word_moved, by_kernel_moved = slopes(words + move)
    np.testing.assert_allclose(moved["kernel"], -(by_kernel + by_kernel_moved), rtol=1e-4, atol=1e-6)
    counts = np.array([1, 0, 2, 0])[:, None]
    np.testing.assert_allclose(moved["table"], -counts * (by_word + by_word_moved), rtol=1e-4, atol=1e-6)


# --- through Keras ----------------------------------------------------------------------------------------------------


def rows(count: int = 8) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A word gives the class away, 10 or 20."""
    labels = np.arange(count) % 2
    ids = np.stack([np.full(count, 5), 10 + 10 * labels, np.arange(count) % 7 + 30, np.full(count, 2)], axis=1)
    return {"input_ids": ids.astype(np.int32), "attention_mask": np.ones_like(ids, np.int32)}, labels.astype(np.int32)


def losses(model: keras.Model, epochs: int = 12) -> list[float]:
    inputs, labels = rows()
    found: list[float] = model.fit(inputs, labels, batch_size=4, epochs=epochs, shuffle=False, verbose=0).history[
        "loss"
    ]
    return found


@pytest.mark.parametrize(("policy", "accumulated"), [("mixed_bfloat16", 1), ("mixed_float16", 2)], indirect=["policy"])
def test_fit_learns_in_mixed_precision(policy: str, accumulated: int) -> None:
    optimizer = optimizers.make("adamw", 3e-2, max_grad_norm=1.0, gradient_accumulation_steps=accumulated)
    model = compiled(small(dropout=True), optimizer)
    adversarial.attack(model, 0.02)
    found = losses(model, 20)
    assert np.isfinite(found).all()
    assert found[-1] < 0.4 < found[0]
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer) == (policy == "mixed_float16")


@pytest.mark.parametrize("policy", ["mixed_float16"], indirect=True)
def test_a_step_that_overflows_is_left_out_and_spoils_nothing(policy: str) -> None:
    scaled = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=2.0**60)
    model = compiled(make(), scaled)
    adversarial.attack(model, 1.0)
    assert not any(moved.any() for moved in movement(model, model.train_step, (INPUTS, LABELS)))
    assert float(scaled.loss_scale) == 2.0**59
    scaled = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0)
    compiled(model, scaled)
    assert any(moved.any() for moved in movement(model, model.train_step, (INPUTS, LABELS)))


def test_fit_under_a_strategy_does_what_eager_steps_do() -> None:
    found = []
    for eager in (False, True):
        strategy = tf.distribute.get_strategy() if eager else tf.distribute.MirroredStrategy(["CPU:0"])
        with strategy.scope():
            model = compiled(small(), keras.optimizers.SGD(0.1), run_eagerly=eager)
        adversarial.attack(model, 1.0)
        found.append((losses(model, 1), model.get_weights()))
    (one, weights), (other, same_weights) = found
    assert one == pytest.approx(other, rel=1e-4)
    for a, b in zip(weights, same_weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_attack_after_plain_training_takes_hold() -> None:
    model = compiled(small(), keras.optimizers.SGD(0.1), run_eagerly=True, metrics=["accuracy"])
    losses(model, 1)
    adversarial.attack(model, 1.0)
    called = []
    model.optimizer.apply_gradients = lambda pairs: called.append(list(pairs))
    inputs, labels = rows(4)
    logs = model.fit(inputs, labels, verbose=0).history
    assert len(called) == 1
    assert list(logs) == ["loss", "accuracy"]


# --- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf")])
def test_epsilon_is_above_zero(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon is .*; expected a number above 0"):
        adversarial.attack(keras.Model(), epsilon)


def test_a_model_without_embeddings_is_refused() -> None:
    dense = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ModelError, match="Sequential takes no inputs_embeds"):
        adversarial.attack(dense, 1.0)

    class NoTable(Linear):
        def get_input_embeddings(self) -> Any:
            raise NotImplementedError

    with pytest.raises(ModelError, match="NoTable does not say which matrix its word embeddings are"):
        adversarial.attack(NoTable(np.ones([2, 2], np.float32), np.ones([2, 2], np.float32)), 1.0)


def test_the_models_own_loss_is_refused() -> None:
    model = make()
    model.compile(optimizer="sgd")
    adversarial.attack(model, 1.0)
    with pytest.raises(ModelError, match=r"needs labels beside the inputs, and compile\(loss"):
        model.train_step((INPUTS, LABELS))


def test_an_id_beyond_the_vocabulary_is_named() -> None:
    model = compiled(make())
    adversarial.attack(model, 1.0)
    with pytest.raises(tf.errors.InvalidArgumentError, match="beyond the model's word embeddings"):
        model.train_step((tf.constant([[1, 50]]), LABELS[:1]))
