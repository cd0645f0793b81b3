"""Schedules at the steps that define them, and optimizers against Adam written out in NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from tfft import optimizers
from tfft.backend import keras, tf
from tfft.optimizers import fused
from tfft.optimizers.sparse import summed

KINDS = ("polynomial", "linear", "cosine", "constant", "inverse_sqrt")


def rate(schedule: optimizers.Schedule, step: int) -> float:
    return float(schedule(step))


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("warmup_steps", [0, 1, 10])
def test_warmup_rises_in_a_line_to_the_peak(kind: str, warmup_steps: int) -> None:
    schedule = optimizers.make_schedule(kind, 2e-3, 100, warmup_steps=warmup_steps)
    for step in range(warmup_steps):
        assert rate(schedule, step) == pytest.approx(2e-3 * step / warmup_steps)
    assert rate(schedule, warmup_steps) == pytest.approx(2e-3)


@pytest.mark.parametrize(
    ("kind", "more", "expected"),
    [
        # Ten steps of warmup, then (90 - step) / 80 is what is left of a straight line.
        ("polynomial", {}, {30: 0.75, 60: 0.375, 90: 0.0, 200: 0.0}),
        ("polynomial", {"end": 0.25}, {60: 0.25 + 0.75 * 0.375, 90: 0.25}),
        ("polynomial", {"power": 2.0}, {60: 0.375**2, 90: 0.0}),
        ("linear", {"end": 0.5}, {60: 0.5 + 0.5 * 0.375, 90: 0.5}),
        ("cosine", {}, {30: 0.5 * (1 + math.cos(math.pi / 4)), 50: 0.5, 90: 0.0}),
        ("constant", {}, {11: 1.0, 90: 1.0}),
        ("inverse_sqrt", {}, {40: math.sqrt(10 / 40), 90: math.sqrt(10 / 90)}),
    ],
)
def test_decay_by_hand(kind: str, more: dict[str, Any], expected: dict[int, float]) -> None:
    schedule = optimizers.make_schedule(kind, 1.0, 90, warmup_steps=10, **more)
    for step, value in expected.items():
        assert rate(schedule, step) == pytest.approx(value, abs=1e-6), step


def test_polynomial_is_keras_own_polynomial_decay() -> None:
    theirs = keras.optimizers.schedules.PolynomialDecay(5e-5, 200, 1e-6, power=1.5)
    ours = optimizers.make_schedule("polynomial", 5e-5, 200, end=1e-6, power=1.5)
    for step in (0, 1, 77, 199, 200, 300):
        assert rate(ours, step) == pytest.approx(float(theirs(step)), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_schedule_comes_back_from_its_configuration(kind: str) -> None:
    schedule = optimizers.make_schedule(kind, 1e-3, 50, warmup_steps=5)
    again = optimizers.Schedule.from_config(schedule.get_config())
    assert [rate(again, step) for step in range(50)] == [rate(schedule, step) for step in range(50)]


@pytest.mark.parametrize(
    ("ratio", "steps", "total", "expected"),
    [(None, None, 100, 0), (0.1, None, 101, 11), (0.0, None, 10, 0), (None, 7, 100, 7), (None, 70, 50, 50)],
)
def test_warmup_steps(ratio: float | None, steps: int | None, total: int, expected: int) -> None:
    assert optimizers.warmup_steps_from(ratio, steps, total) == expected


# --- optimizers -------------------------------------------------------------------------------------------------------

SETTINGS = {"learning_rate": 0.01, "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-7}


def adam_in_numpy(weight: np.ndarray, gradients: list[np.ndarray], weight_decay: float) -> np.ndarray:
    """Kingma & Ba 2015, algorithm 1 in its efficient order, with decay as in Loshchilov & Hutter 2019."""
    rate, b1, b2, epsilon = SETTINGS.values()
    weight, m, v = weight.astype(np.float64), 0.0, 0.0
    for step, gradient in enumerate(gradients, 1):
        weight = weight - rate * weight_decay * weight
        m = b1 * m + (1 - b1) * gradient
        v = b2 * v + (1 - b2) * gradient**2
        weight = weight - rate * math.sqrt(1 - b2**step) / (1 - b1**step) * m / (np.sqrt(v) + epsilon)
    return weight


@pytest.mark.parametrize(("kind", "weight_decay"), [("adam", 0.0), ("adamw", 0.0), ("adamw", 0.3)])
def test_updates_are_those_of_the_papers(kind: str, weight_decay: float) -> None:
    generator = np.random.default_rng(0)
    start = generator.normal(size=(3, 4)).astype(np.float32)
    gradients = [generator.normal(size=(3, 4)).astype(np.float32) for _ in range(5)]
    variable = tf.Variable(start, name="layer/kernel")
    optimizer = optimizers.make(kind, weight_decay=weight_decay, **SETTINGS)
    for gradient in gradients:
        optimizer.apply_gradients([(tf.constant(gradient), variable)])
    np.testing.assert_allclose(variable.numpy(), adam_in_numpy(start, gradients, weight_decay), rtol=2e-5)


@pytest.mark.parametrize(
    ("name", "decays"),
    [
        ("bert/encoder/layer_._0/attention/self/query/kernel", True),
        ("bert/embeddings/word_embeddings/weight", True),
        ("bert/encoder/layer_._0/attention/self/query/bias", False),
        ("bert/encoder/layer_._0/output/LayerNorm/gamma", False),
        ("distilbert/transformer/layer_._0/sa_layer_norm/beta", False),
        ("deberta/encoder/LayerNorm/weight", False),
    ],
)
def test_decay_passes_by_biases_and_layer_norm(name: str, decays: bool) -> None:
    variable = tf.Variable(tf.ones([2]), name=name)
    optimizers.make("adamw", 0.1, weight_decay=0.5).apply_gradients([(tf.zeros([2]), variable)])
    np.testing.assert_allclose(variable.numpy(), [0.95, 0.95] if decays else [1, 1], rtol=1e-6)


@pytest.mark.parametrize("as_function", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize("kind", ["dense", "sparse", "sparse and large"])
def test_updates_are_keras_own(
    kind: str, weight_decay: float, as_function: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = calls_of_compiled_pass(monkeypatch, large=15 if kind == "sparse and large" else 16)
    settings = {"weight_decay": weight_decay, "beta_2": 0.9, "epsilon": 1e-3}
    theirs = keras.optimizers.AdamW(0.1, jit_compile=False, **settings)
    ours = optimizers.make("adamw", 0.1, **settings)
    expected = table_moved_by(theirs, as_function, is_sparse=kind != "dense")
    assert not calls
    np.testing.assert_allclose(table_moved_by(ours, as_function, is_sparse=kind != "dense"), expected, rtol=1e-5)
    assert bool(calls) == (kind == "sparse and large")


def test_a_large_embedding_is_moved_as_a_small_one_whatever_else_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for large in (16, 15):
        calls = calls_of_compiled_pass(monkeypatch, large)
        optimizer = optimizers.make(
            "adamw",
            optimizers.make_schedule("linear", 0.1, 6, warmup_steps=2),
            weight_decay=0.3,
            max_grad_norm=0.5,
            rate_multipliers={"embeddings/weight:0": 0.7},
            ema_momentum=0.9,
        )
        optimizer.first_steps["embeddings/weight:0"] = -3
        table = table_moved_by(optimizer, as_function=True, is_sparse=True)
        moved.append([table, *(one.numpy() for one in optimizer.variables)])
        assert bool(calls) == (large == 15)
    for one, other in zip(*moved, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_in_a_step_that_xla_compiles_nothing_is_compiled_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    for compiled in (False, True):
        calls = calls_of_compiled_pass(monkeypatch, large=15)
        table = tf.Variable(tf.ones([5, 3]), name="embeddings/weight")
        optimizer = optimizers.make("adamw", 0.1, weight_decay=0.3)
        optimizer.build([table])

        def step(values: tf.Tensor, optimizer: Any = optimizer, table: tf.Variable = table) -> None:
            optimizer.apply_gradients([(tf.IndexedSlices(values, tf.constant([3, 0]), tf.constant([5, 3])), table)])

        tf.function(step, jit_compile=compiled)(tf.constant([[1.0, 2.0, 3.0], [-1.0, 0.5, 0.0]]))
        assert bool(calls) != compiled
        moved.append(table.numpy())
    np.testing.assert_allclose(*moved, rtol=1e-6)


def calls_of_compiled_pass(monkeypatch: pytest.MonkeyPatch, large: int) -> list[Any]:
    """What the compiled pass is called, or traced, with from now on, for weights of `large` values and more."""
    calls: list[Any] = []
    move = fused._move_without_gradient
    monkeypatch.setattr(fused, "LARGE", large)
    monkeypatch.setattr(fused, "_move_without_gradient", lambda *given: calls.append(given) or move(*given))
    return calls


def table_moved_by(optimizer: keras.optimizers.Optimizer, as_function: bool, is_sparse: bool) -> np.ndarray:
    """An embedding of 5 rows after five steps, in each of which other rows have a gradient, in one of them none."""
    generator = np.random.default_rng(0)
    table = tf.Variable(generator.normal(size=(5, 3)), dtype=tf.float32, name="embeddings/weight")

    def step(rows: tf.Tensor, values: tf.Tensor) -> None:
        parts = tf.IndexedSlices(values, rows, tf.constant([5, 3]))
        optimizer.apply_gradients([(parts if is_sparse else tf.convert_to_tensor(parts), table)])

    if as_function:
        step = tf.function(step, reduce_retracing=True)
    for rows in ([0, 3, 4], [1], [], [2, 4], [4]):
        step(tf.constant(rows, tf.int32), tf.constant(generator.normal(size=(len(rows), 3)), tf.float32))
    return table.numpy()


def test_amsgrad_is_refused() -> None:
    optimizer = type(optimizers.make("adam", 0.1))(amsgrad=True)
    with pytest.raises(NotImplementedError, match="amsgrad=False"):
        optimizer.apply_gradients([(tf.constant(1.0), tf.Variable(1.0))])


def test_clipping_scales_all_gradients_by_their_joint_norm() -> None:
    # Large epsilon: Adam's step is then in proportion to the gradient, and shows how far it was scaled down.
    def moved(max_grad_norm: float | None) -> list[np.ndarray]:
        variables = [tf.Variable([0.0, 0.0]), tf.Variable([0.0])]
        optimizer = optimizers.make("adam", 1.0, epsilon=1e6, max_grad_norm=max_grad_norm)
        optimizer.apply_gradients(zip([tf.constant([3.0, 0.0]), tf.constant([4.0])], variables, strict=True))
        return [variable.numpy() for variable in variables]

    for clipped, whole in zip(moved(1.0), moved(None), strict=True):
        np.testing.assert_allclose(clipped, whole / 5, rtol=1e-5)
    for clipped, whole in zip(moved(10.0), moved(None), strict=True):
        np.testing.assert_array_equal(clipped, whole)


def test_a_sparse_gradient_is_clipped_by_the_norm_of_its_sum() -> None:
    # Row 1 has two parts, [3, 3] and [0, 1]. Their sum has norm 5; taken one by one they have sqrt(19).
    parts = tf.IndexedSlices(tf.constant([[3.0, 3.0], [0.0, 1.0]]), tf.constant([1, 1]), tf.constant([3, 2]))
    dense = tf.convert_to_tensor(parts)
    np.testing.assert_array_equal(dense, [[0, 0], [3, 4], [0, 0]])
    np.testing.assert_array_equal(tf.convert_to_tensor(summed(parts)), dense)
    assert summed(dense) is dense
    moved = []
    for gradient in (parts, dense):
        variable = tf.Variable(tf.zeros([3, 2]))
        optimizers.make("adam", 1.0, epsilon=1e6, max_grad_norm=1.0).apply_gradients([(gradient, variable)])
        moved.append(variable.numpy())
    np.testing.assert_allclose(moved[0], moved[1], rtol=1e-6)


@pytest.mark.parametrize("kind", ["adam", "adamw"])
def test_an_optimizer_comes_back_from_its_configuration(kind: str) -> None:
    optimizer = optimizers.make(kind, optimizers.linear_decay(1e-3, 10, 2), max_grad_norm=1.0)
    with keras.saving.custom_object_scope({"Schedule": optimizers.Schedule}):
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(again) is type(optimizer)
    assert again.get_config()["global_clipnorm"] == 1.0


# --- accumulation -----------------------------------------------------------------------------------------------------


def moved_by(
    gradients: list[list[Any]], as_function: bool = False, wrap: Any = lambda one: one, **settings: Any
) -> tuple[list[np.ndarray], int]:
    """Two variables after these pairs of gradients, and the optimizer's steps."""
    variables = [tf.Variable(tf.ones([3, 2]), name="layer/kernel"), tf.Variable([1.0, 2.0], name="layer/bias")]
    optimizer = wrap(optimizers.make("adamw", settings.pop("rate", 0.1), weight_decay=0.1, **settings))

    def apply(*pair: Any) -> None:
        optimizer.apply_gradients(zip(pair, variables, strict=True))

    run = tf.function(apply) if as_function else apply
    for pair in gradients:
        run(*pair)
    return [variable.numpy() for variable in variables], int(optimizer.iterations)


def random_gradients(count: int) -> list[list[Any]]:
    generator = np.random.default_rng(1)
    shapes = ((3, 2), (2,))
    return [[tf.constant(generator.normal(size=shape), tf.float32) for shape in shapes] for _ in range(count)]


@pytest.mark.parametrize("as_function", [False, True])
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_a_window_is_one_step_with_the_mean_gradient(as_function: bool, max_grad_norm: float | None) -> None:
    rate = optimizers.linear_decay(0.1, 4, warmup_steps=1)
    given = random_gradients(6)
    means = [[sum(parts) / 2 for parts in zip(*given[at : at + 2], strict=True)] for at in (0, 2, 4)]
    settings = {"rate": rate, "max_grad_norm": max_grad_norm}
    accumulated, steps = moved_by(given, as_function, gradient_accumulation_steps=2, **settings)
    at_once, same_steps = moved_by(means, **settings)
    assert steps == same_steps == 3
    for one, other in zip(accumulated, at_once, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_nothing_moves_before_a_windows_end() -> None:
    (kernel, bias), steps = moved_by(random_gradients(2), gradient_accumulation_steps=3)
    assert steps == 0
    np.testing.assert_array_equal(kernel, np.ones([3, 2]))
    np.testing.assert_array_equal(bias, [1, 2])


def test_an_epochs_end_ends_its_window() -> None:
    """Five batches by twos are windows of 2, 2 and 1 batches; the next epoch begins a new one."""
    given = random_gradients(7)
    windows = (given[0:2], given[2:4], given[4:5], given[5:7])
    means = [[sum(parts) / len(window) for parts in zip(*window, strict=True)] for window in windows]
    accumulated, steps = moved_by(given, gradient_accumulation_steps=2, batches_per_epoch=5)
    assert steps == 4
    for one, other in zip(accumulated, moved_by(means)[0], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_sparse_gradients_add_up_like_dense_ones() -> None:
    values = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    parts = tf.IndexedSlices(values, tf.constant([2, 0, 2]), tf.constant([3, 2]))
    bias = tf.constant([0.5, -0.5])
    settings = {"gradient_accumulation_steps": 2, "max_grad_norm": 1.0}
    sparse, _ = moved_by([[parts, bias]] * 2, as_function=True, **settings)
    dense, _ = moved_by([[tf.convert_to_tensor(parts), bias]] * 2, **settings)
    for one, other in zip(sparse, dense, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_variable_without_gradient_stays_and_hinders_nothing() -> None:
    given = [[gradient, None] for gradient, _ in random_gradients(2)]
    (kernel, bias), steps = moved_by(given, gradient_accumulation_steps=2)
    assert steps == 1
    assert (kernel != 1).all()
    np.testing.assert_array_equal(bias, [1, 2])


def test_accumulation_under_a_scaled_loss() -> None:
    """As `compile` wraps the optimizer for float16. The wrapper unscales before the sums."""

    def scaled(optimizer: keras.optimizers.Optimizer) -> Any:
        return keras.mixed_precision.LossScaleOptimizer(optimizer, dynamic=False, initial_scale=8.0)

    given = random_gradients(4)
    plain, steps = moved_by(given, gradient_accumulation_steps=2)
    wrapped, same_steps = moved_by(given, as_function=True, wrap=scaled, gradient_accumulation_steps=2)
    assert steps == same_steps == 2
    for one, other in zip(wrapped, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


@pytest.mark.parametrize(
    ("overflows", "windows"),
    [
        ([0], [[1], [2, 3], [4, 5], [6, 7]]),
        ([1], [[0, 2, 3], [4, 5], [6, 7]]),
        ([3], [[0, 1], [2, 4, 5], [6, 7]]),
        ([0, 1], [[2, 3], [4, 5], [6, 7]]),
        ([2, 6], [[0, 1], [3], [4, 5], [7]]),
    ],
)
def test_a_batch_that_overflows_moves_no_other_window(overflows: list[int], windows: list[list[int]]) -> None:
    """Two epochs of four batches, by twos: the windows that do not have it are what they would have been."""

    def scaled(optimizer: keras.optimizers.Optimizer) -> Any:
        return keras.mixed_precision.LossScaleOptimizer(optimizer, initial_scale=1.0)

    given = random_gradients(8)
    means = [[sum(parts) / len(parts) for parts in zip(*(given[at] for at in one), strict=True)] for one in windows]
    for at in overflows:
        given[at] = [given[at][0] * np.inf, given[at][1]]
    settings = {"rate": optimizers.linear_decay(0.1, 4)}
    found, steps = moved_by(
        given, as_function=True, wrap=scaled, gradient_accumulation_steps=2, batches_per_epoch=4, **settings
    )
    expected, same_steps = moved_by(means, **settings)
    assert steps == same_steps == len(windows)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7])
def test_steps_to_batches_is_what_the_optimizer_does(size: int) -> None:
    given = random_gradients(15)
    for batches in range(1, 16):
        _, steps = moved_by(given[:batches], gradient_accumulation_steps=size, batches_per_epoch=5)
        assert optimizers.batches_of_steps(steps, 5, size) <= batches
        assert optimizers.batches_of_steps(steps + 1, 5, size) > batches
        assert optimizers.steps_of_batches(optimizers.batches_of_steps(steps, 5, size), 5, size) == steps
        assert optimizers.steps_of_batches(batches, 5, size) in (steps, steps + 1)


def test_accumulation_needs_a_batch() -> None:
    with pytest.raises(ValueError, match="gradient_accumulation_steps is 0; expected at least 1"):
        optimizers.make("adam", 0.1, gradient_accumulation_steps=0)


def test_the_optimizer_comes_back_from_its_configuration() -> None:
    made = optimizers.make("adamw", 0.1, gradient_accumulation_steps=3, batches_per_epoch=7)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(made))
    assert (again.gradient_accumulation_steps, again.batches_per_epoch) == (3, 7)
