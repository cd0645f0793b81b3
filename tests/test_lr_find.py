"""The learning-rate finder: what it reads from curves, and that nothing of its steps is left."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import tfft
from tfft import assembly, range_test, training
from tfft import recipe as recipes
from tfft.backend import inner_optimizer, keras, tf
from tfft.console import Voice
from tfft.data.unread import unread
from tfft.errors import DataError, ModelError, UserError
from tfft.models import checkpoint
from tfft.rate_curve import RateCurve, Sweep, smooth, suggest
from tfft.rehearsal import rehearsed

Make = Callable[[], Any]

# --- What is read from a curve ----------------------------------------------------------------------------------------


def valley(rates: np.ndarray, fastest: float, lowest: float) -> np.ndarray:
    """A loss that falls around one rate and rises after another."""
    decades = np.log10(rates)
    return 2 - np.tanh(2 * (decades - np.log10(fastest))) + 4 * np.maximum(decades - np.log10(lowest), 0) ** 2


def test_rates_rise_by_one_factor_from_the_first_to_the_last() -> None:
    rates = Sweep(1e-5, 1e-1, 41).learning_rates()
    assert rates[0] == 1e-5 and rates[-1] == 1e-1 and len(rates) == 41
    assert rates[10] == pytest.approx(1e-4)
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(10) / 10)


def test_smoothing_by_hand() -> None:
    assert smooth([3.0, 1.0, 7.0], 0.0) == [3.0, 1.0, 7.0]
    # 0.9 * 0.1 * 2 + 0.1 * 4 over 1 - 0.81
    assert smooth([2.0, 4.0], 0.9) == pytest.approx([2.0, 0.58 / 0.19])
    np.testing.assert_allclose(smooth([5.0] * 9, 0.98), 5.0)


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_suggestions_of_a_valley(noise: float) -> None:
    rates = np.geomspace(1e-6, 1.0, 121)
    losses = valley(rates, fastest=1e-4, lowest=1e-2) + noise * np.random.default_rng(0).normal(size=121)
    plain, smoothed = suggest(rates, losses, 0.0), suggest(rates, losses, 0.9)
    assert plain.minimum_tenth is not None and plain.steepest is not None
    if not noise:
        # The minimum is a little after the knee, from which on the loss does not rise at once.
        assert plain.steepest == pytest.approx(1e-4, rel=0.01) and 1e-3 <= plain.minimum_tenth < 1.3e-3
    assert smoothed.steepest == pytest.approx(1e-4, rel=1), "smoothing comes half a decade late at most"
    assert smoothed.why_none == ""


def test_one_bad_batch_does_not_make_the_steepest_descent() -> None:
    rates = np.geomspace(1e-6, 1.0, 121)
    losses = valley(rates, fastest=1e-4, lowest=1e-2)
    losses[75] += 20
    assert suggest(rates, losses, 0.9).steepest == pytest.approx(1e-4, rel=1)


@pytest.mark.parametrize(
    "losses",
    [np.linspace(1, 5, 50), np.full(50, 2.0), np.random.default_rng(3).normal(1, 0.2, 50), np.array([3.0, 2.0])],
    ids=["rising", "flat", "noise", "two steps"],
)
def test_no_suggestion_where_the_loss_never_falls(losses: np.ndarray) -> None:
    found = suggest(np.geomspace(1e-6, 1, len(losses)), losses, 0.9)
    assert found.steepest is None and found.minimum_tenth is None and found.why_none


def test_divergence_is_told_from_the_first_noise_and_for_losses_below_0() -> None:
    sweep = Sweep(steps=100, divergence_factor=4.0)
    assert not sweep.diverged([0.1, 1.0]), "one of the first few"
    assert not sweep.diverged([1.0] * 20 + [3.9])
    assert sweep.diverged([1.0] * 20 + [4.1])
    assert not sweep.diverged([-1.0] * 20 + [1.9])
    assert sweep.diverged([-1.0] * 20 + [2.1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"min_learning_rate": 1.0, "max_learning_rate": 1.0}, "min_learning_rate is 1 and max_learning_rate 1"),
        ({"min_learning_rate": 0.0}, "expected the first above 0"),
        ({"max_learning_rate": float("nan")}, "max_learning_rate nan"),
        ({"steps": 5}, "steps is 5; expected at least 20"),
        ({"smoothing": 1.0}, "smoothing is 1; expected from 0"),
        ({"divergence_factor": 1.0}, "divergence_factor is 1; expected above 1"),
    ],
)
def test_numbers_that_cannot_be(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Sweep(**given)


def test_the_curve_as_json_and_as_a_picture(tmp_path: Path) -> None:
    from PIL import Image

    rates = Sweep(steps=40).learning_rates()
    losses = valley(np.array(rates), 1e-4, 1e-2).tolist()
    curve = RateCurve(Sweep(steps=40), tuple(rates), tuple(losses), tuple(losses), suggest(rates, losses, 0.0), "over")
    curve.write_json(tmp_path / "curve.json", seconds=1.5)
    curve.plot(tmp_path / "curve.png", "a name with $ and _")
    read = json.loads((tmp_path / "curve.json").read_text())
    assert read["losses"] == losses and read["seconds"] == 1.5 and read["sweep"]["steps"] == 40
    assert read["suggestions"]["steepest"] == curve.suggestions.steepest and read["stopped"] == "over"
    with Image.open(tmp_path / "curve.png") as picture:
        assert picture.size == (960, 600)
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 20)}
    # The three lines that a reader looks for: matplotlib's blue, red and green.
    assert {(31, 119, 180), (214, 39, 40), (44, 160, 44)} <= colours


# --- Nothing is left --------------------------------------------------------------------------------------------------


def batches() -> tf.data.Dataset:
    """Seven batches an epoch, in another order in each."""
    inputs = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    return (
        tf.data.Dataset.from_tensor_slices((inputs, (inputs.sum(axis=1) > 0).astype(np.float32))).shuffle(50).batch(8)
    )


def plain_model(optimizer: Any = "adam", dropout: Any = None, **compiled: Any) -> keras.Model:
    layers = [
        keras.layers.Dense(8, "relu", input_shape=(3,)),
        keras.layers.BatchNormalization(),
        dropout or keras.layers.Dropout(0.3),
        keras.layers.Dense(1, "sigmoid"),
    ]
    model = keras.Sequential(layers)
    model.compile(
        optimizer, "binary_crossentropy", **{"metrics": ["accuracy", keras.metrics.AUC(name="auc")], **compiled}
    )
    return model


def scheduled() -> keras.Model:
    return plain_model(keras.optimizers.AdamW(keras.optimizers.schedules.PolynomialDecay(0.1, 30), use_ema=True))


def scaled() -> keras.Model:
    inner = keras.optimizers.SGD(0.1, momentum=0.9)
    return plain_model(keras.mixed_precision.LossScaleOptimizer(inner, dynamic_growth_steps=3))


def of_transformers() -> keras.Model:
    """With Keras's old kind of optimizer, and a schedule of another's."""
    from transformers import create_optimizer

    optimizer, _ = create_optimizer(0.1, num_train_steps=40, num_warmup_steps=4, weight_decay_rate=0.1)
    return plain_model(optimizer)


def accumulating() -> keras.Model:
    optimizer = tfft.optimizers.make("adamw", 0.05, gradient_accumulation_steps=3, batches_per_epoch=7)
    return plain_model(optimizer, keras.layers.GaussianNoise(0.3), steps_per_execution=2)


def own_generator() -> keras.Model:
    return plain_model(dropout=keras.layers.Dropout(0.3, rng_type="stateful"))


def seeded() -> keras.Model:
    """Whose layer counts its seed up whenever it is traced, which Keras does twice with new metrics."""
    return plain_model(dropout=keras.layers.Dropout(0.3, seed=7))


def eager() -> keras.Model:
    """Where TensorFlow keeps operations that draw, each with its state, by their seeds."""
    layers = [keras.layers.Dropout(0.3, seed=7), keras.layers.GaussianNoise(0.1)]
    return plain_model(dropout=keras.Sequential(layers), run_eagerly=True)


def trained(make: Make, looks: bool) -> tuple[list[dict[str, list[float]]], list[np.ndarray], list[float]]:
    """Two calls of `fit`, with a look for a rate before each: histories, the values that are left, a few draws."""
    keras.utils.set_random_seed(1)
    tf.random.set_global_generator(tf.random.Generator.from_seed(1))
    model, data = make(), batches()
    histories = []
    for _ in range(2):
        if looks:
            curve = tfft.lr_find(model, data, steps=20, min_learning_rate=1e-3)
            assert len(curve.losses) > 10
        histories.append(model.fit(data, epochs=2, verbose=0).history)
    values = [*model.weights, *model.optimizer.variables(), inner_optimizer(model.optimizer).learning_rate]
    numbers = [np.asarray(tf.convert_to_tensor(one)) for one in values if not callable(one)]
    global_draw = tf.random.get_global_generator().normal([])
    return histories, numbers, [random.random(), np.random.rand(), float(tf.random.uniform([])), float(global_draw)]


def slow(make: Make) -> Any:
    return pytest.param(make, marks=pytest.mark.slow, id=make.__name__)


MODELS = (plain_model, slow(scheduled), seeded, slow(own_generator), slow(scaled), slow(of_transformers), accumulating)


@pytest.mark.parametrize("make", [*MODELS, slow(eager)], ids=lambda make: getattr(make, "__name__", None))
def test_fit_afterwards_is_as_without_it(make: Make) -> None:
    histories, numbers, draws = trained(make, looks=False)
    others, other_numbers, other_draws = trained(make, looks=True)
    assert others == histories and other_draws == draws
    for one, other in zip(numbers, other_numbers, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def recipe(tmp_path: Path, tiny_checkpoint: Path) -> recipes.Recipe:
    rows = [
        (f"the movie {index} was {('good', 'bad')[index % 2]}" + " so" * (index % 9), index % 2) for index in range(41)
    ]
    train = tmp_path / "train.csv"
    train.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    return recipes.from_mapping(
        {
            "task": "text-classification",
            "output_dir": str(tmp_path / "run"),
            "model": {"name_or_path": str(tiny_checkpoint)},
            "data": {"train_file": str(train), "text_columns": ["text"], "batching": "bucketed"},
            "training": {"eval_strategy": "no", "learning_rate": 1e-3, "layerwise_lr_decay": 0.9, "warmup_ratio": 0.1},
        }
    )


def fit_of(recipe: recipes.Recipe, looks: bool) -> tuple[dict[str, list[float]], list[np.ndarray]]:
    """Two epochs as the recipe has them: the history, and the values of the model and its optimizer."""
    source = checkpoint.find(recipe.model.name_or_path)
    tokenizer = checkpoint.load_tokenizer(source)
    ready = assembly.assemble(recipe, None, source, tokenizer, Voice(silent=True))
    model, plan = ready.loaded.model, ready.plan
    settings = {"loss": ready.loss, "runtime": recipe.runtime, "multipliers": ready.multipliers}
    training.compile_model(model, recipe.training, plan, **settings)
    data = training.make_batches(ready.prepared.train, recipe.data, plan, tokenizer, recipe.seed, False)
    if looks:
        curve = tfft.lr_find(model, data, steps=30, min_learning_rate=1e-4)
        assert curve.losses[0] != curve.losses[-1]
    history = model.fit(data, epochs=2, steps_per_epoch=plan.batches_per_epoch, verbose=0).history
    return history, [one.numpy() for one in (*model.weights, *model.optimizer.variables)]


@pytest.mark.slow
def test_a_transformer_trains_afterwards_as_its_recipe_says(recipe: recipes.Recipe) -> None:
    history, values = fit_of(recipe, looks=False)
    other_history, other_values = fit_of(recipe, looks=True)
    assert other_history == history
    for one, other in zip(values, other_values, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_python_sees_of_a_model_is_as_before() -> None:
    model = plain_model()
    before, tracked = dict(vars(model)), list(model._self_unconditional_checkpoint_dependencies)
    tfft.lr_find(model, batches(), steps=20)
    assert vars(model) == before and list(model._self_unconditional_checkpoint_dependencies) == tracked
    assert model.metrics_names == [] and len(model.optimizer.variables) == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_all_is_put_back_where_it_is_broken_off(error: type[BaseException]) -> None:
    model = plain_model()
    optimizer, before = model.optimizer, model.get_weights()
    left = iter(range(5))

    def advance() -> None:
        if next(left) == 4:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        range_test.run(model, batches(), Sweep(min_learning_rate=0.1), advance)
    assert model.optimizer is optimizer
    for one, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)


def test_random_states_are_put_back() -> None:
    def draws() -> list[Any]:
        glorot = keras.initializers.GlorotUniform()([2, 2]).numpy().tolist()
        of_tensorflow = [float(tf.random.uniform([])), float(tf.random.get_global_generator().normal([]))]
        return [random.random(), np.random.rand(), *of_tensorflow, glorot]

    def seed() -> None:
        keras.utils.set_random_seed(1)
        tf.random.set_global_generator(tf.random.Generator.from_seed(1))

    model = plain_model()
    seed()
    expected = draws()
    seed()
    with rehearsed(model, learning_rate=0.1):
        assert draws() != expected, "TensorFlow and Keras draw other seeds"
    assert draws() == expected


# --- The steps --------------------------------------------------------------------------------------------------------


class Seen(keras.optimizers.SGD):
    """Plain gradient descent that remembers its rates."""

    rates: ClassVar[list[float]] = []

    def update_step(self, gradient: Any, variable: Any) -> None:
        self.rates.append(float(self.learning_rate))
        super().update_step(gradient, variable)


def slope(optimizer: Any, **compiled: Any) -> tuple[keras.Model, tf.data.Dataset]:
    """A weight that begins at 0 and falls by the rate with every step; the loss is the weight times the batch's row."""
    model = keras.Sequential([keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", input_shape=(1,))])
    model.compile(optimizer, lambda labels, outputs: outputs, **compiled)
    return model, tf.data.Dataset.from_tensors((tf.ones([1, 1]), tf.ones([1, 1])))


def test_a_step_at_each_rate_and_the_loss_of_each_batch_alone() -> None:
    Seen.rates.clear()
    model, data = slope(Seen(0.5), run_eagerly=True)
    curve = tfft.lr_find(model, data, steps=20, min_learning_rate=1e-4, max_learning_rate=1e-2)
    np.testing.assert_allclose(Seen.rates, curve.learning_rates, rtol=1e-6)
    assert curve.learning_rates == tuple(curve.sweep.learning_rates())
    np.testing.assert_allclose(curve.losses, [0, *-np.cumsum(curve.learning_rates)[:-1]], rtol=1e-5)
    assert curve.stopped == "all 20 rates were tried, and the loss did not diverge"


def test_accumulated_batches_share_a_rate() -> None:
    optimizer = tfft.optimizers.make("adam", 0.5, gradient_accumulation_steps=3)
    model, data = slope(optimizer)
    curve = tfft.lr_find(model, data, steps=20, min_learning_rate=1e-4, max_learning_rate=1e-2)
    # Adam goes by its rate where all gradients are one.
    np.testing.assert_allclose(curve.losses, [0, *-np.cumsum(curve.learning_rates)[:-1]], rtol=1e-4)


def test_batches_that_overflow_in_float16_use_up_no_rate() -> None:
    inner = keras.optimizers.SGD(0.5)
    # A scale that is no float16's: the first gradients are infinite, until it was halved often enough.
    model, _ = slope(keras.mixed_precision.LossScaleOptimizer(inner, initial_scale=2.0**127))
    data = tf.data.Dataset.from_tensors((tf.fill([1, 1], 16.0), tf.ones([1, 1])))
    curve = tfft.lr_find(model, data, steps=20, min_learning_rate=1e-4, max_learning_rate=1e-2)
    np.testing.assert_allclose(curve.losses, [0, *-256 * np.cumsum(curve.learning_rates)[:-1]], rtol=1e-4)
    assert float(model.optimizer.loss_scale) == 2.0**127


def test_it_ends_where_the_loss_diverges_or_is_no_number(tmp_path: Path) -> None:
    keras.utils.set_random_seed(0)
    inputs = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    data = tf.data.Dataset.from_tensor_slices((inputs, inputs.sum(axis=1))).batch(8)
    model = keras.Sequential([keras.layers.Dense(1, input_shape=(4,))])
    model.compile(keras.optimizers.SGD(0.1), "mse")
    curve = tfft.lr_find(model, data, steps=100, min_learning_rate=1e-3, max_learning_rate=1e3)
    assert curve.stopped.startswith("the loss diverged") and len(curve.losses) < 100
    assert curve.smoothed[-1] > 4 * min(curve.smoothed) >= 4 * 0 and np.isfinite(curve.losses).all()
    assert curve.suggestions.steepest is not None and 1e-3 < curve.suggestions.steepest < 1
    model.set_weights([np.full([4, 1], np.nan), np.zeros(1)])
    curve = tfft.lr_find(model, data, steps=20)
    assert curve.stopped == "the loss became nan at 1.0e-06" and curve.losses == ()
    curve.plot(tmp_path / "nothing.png")
    model.set_weights([np.zeros([4, 1]), np.zeros(1)])
    curve = tfft.lr_find(model, data, steps=20, min_learning_rate=1e30, max_learning_rate=1e38)
    assert curve.stopped.startswith(("the loss became nan at", "the loss became inf at"))
    assert np.isfinite(curve.losses).all() and curve.suggestions.why_none


# --- What cannot be used ----------------------------------------------------------------------------------------------


class NoSteps(keras.Sequential):
    """Whose train_step reports no loss."""

    def train_step(self, data: Any) -> dict[str, Any]:
        return {"accuracy": tf.constant(1.0)}


def test_models_and_batches_that_cannot_be_used() -> None:
    model, data = plain_model(), batches()
    no_loss = NoSteps([keras.layers.Dense(1, input_shape=(3,))])
    no_loss.compile("sgd", "mse")
    not_built = keras.Sequential([keras.layers.Dense(1)])
    not_built.compile("sgd", "mse")
    for wrong, given, said in (
        (keras.Sequential([keras.layers.Dense(1, input_shape=(3,))]), data, "not compiled; call model.compile"),
        (not_built, data, "call model.build"),
        (no_loss, data, "reports no loss"),
    ):
        with pytest.raises(ModelError, match=said):
            tfft.lr_find(wrong, given, steps=20)
    for wrong_data, said in (
        (data.take(0), "batches has no batch"),
        (data.filter(lambda *row: False), "batches has no batch"),
        ([1, 2], "of the type list; expected a tf.data.Dataset"),
    ):
        with pytest.raises(DataError, match=said):
            tfft.lr_find(model, wrong_data, steps=20)


def test_reading_unread_moves_no_order() -> None:
    def orders(data: tf.data.Dataset) -> list[list[float]]:
        return [[float(labels[0]) for _, labels in data] for _ in range(3)]

    keras.utils.set_random_seed(1)
    expected = orders(batches())
    keras.utils.set_random_seed(1)
    data = batches()
    assert orders(unread(data)) == expected
    assert orders(data) == expected
    fixed = tf.data.Dataset.range(4).shuffle(4, reshuffle_each_iteration=False)
    assert unread(fixed) is fixed
