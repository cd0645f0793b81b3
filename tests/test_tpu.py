"""What a TPU forbids is in no step that is made for one; a TPU is found where it is, and named where it is not.

There is none here: XLA for the processor stands in for its compiler, and a strategy for one device for its own.
"""

from __future__ import annotations

import socket
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfft import assembly, hardware, optimizers, plan, recipe, tasks, tpu, training
from tfft.backend import keras, tf
from tfft.data import Given, Prepared, encode_splits, read, shards
from tfft.data.columns import ArrayOnDisk
from tfft.errors import HardwareError, RecipeError
from tfft.hardware import Device, Precision
from tfft.models import accelerate, checkpoint, dropout, load
from tfft.problems import make as problem_of
from tfft.recipe import DataSection, RuntimeSection, TrainingSection

# What runs Python, makes shapes of values, or cuts values of 32 bits into others.
FORBIDDEN = {
    *("PyFunc", "PyFuncStateless", "EagerPyFunc", "GeneratorDataset"),
    *("Unique", "UniqueV2", "UniqueWithCounts", "Where", "DynamicPartition", "BooleanMask"),
    *("Bitcast", "RandomUniform", "RandomStandardNormal", "Multinomial"),
}
PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "GeneratorDataset", "GeneratorDatasetV2"}
# Types that a TPU has no lookups of, or does not know.
FOREIGN_TYPES = {tf.string, tf.uint8, tf.int8, tf.uint16, tf.int16, tf.float16, tf.float64}


@pytest.fixture(scope="module")
def found(tiny_checkpoint: Path) -> checkpoint.Checkpoint:
    return checkpoint.find(str(tiny_checkpoint))


@pytest.fixture(scope="module")
def tokenizer(found: checkpoint.Checkpoint) -> Any:
    return checkpoint.load_tokenizer(found)


@pytest.fixture
def on_tpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is traced is traced as for a TPU."""
    monkeypatch.setattr(tpu, "in_use", lambda: True)


def prepared(tokenizer: Any, problem_type: str = tasks.SINGLE_LABEL) -> tuple[Prepared, DataSection]:
    label_of = {
        tasks.SINGLE_LABEL: lambda index: ("no", "yes")[index % 2],
        tasks.MULTI_LABEL: lambda index: ["joy", "anger"][: index % 3],
        tasks.REGRESSION: lambda index: index / 7,
    }[problem_type]
    rows = [{"text": "so good" + " movie" * (index % 9), "label": label_of(index)} for index in range(21)]
    section = DataSection(text_columns=("text",))
    splits = read(section, seed=1, given=Given(rows), problem_type=problem_type)
    return encode_splits(splits, tokenizer, 32, problem_type=problem_type), section


def operations(graph: Any) -> Iterator[Any]:
    """All of a graph and of the functions in it."""
    yield from graph.get_operations()
    for name in graph._functions:
        function = graph._get_function(name)
        if hasattr(function, "graph"):
            yield from operations(function.graph)


def datasets_operations(dataset: tf.data.Dataset) -> set[str]:
    """The kinds of operations that make the batches."""
    made = tf.compat.v1.GraphDef.FromString(dataset._as_serialized_graph().numpy())
    nodes = [*made.node, *(node for function in made.library.function for node in function.node_def)]
    return {node.op for node in nodes}


def assert_a_tpu_can(step: Any, dataset: tf.data.Dataset) -> float:
    """Looks at the step as it is traced for these batches, compiles and runs it; its loss."""
    assert datasets_operations(dataset).isdisjoint(PYTHON)
    specs = tf.nest.flatten(dataset.element_spec)
    assert all(spec.shape.is_fully_defined() for spec in specs)
    assert {spec.dtype for spec in specs}.isdisjoint(FOREIGN_TYPES)
    compiled = tf.function(step, jit_compile=True)
    traced = compiled.get_concrete_function(dataset.element_spec)
    inside = list(operations(traced.graph))
    assert len(inside) > 300
    assert sorted({one.type for one in inside} & FORBIDDEN) == []
    assert [one.name for one in inside if one.type == "Placeholder" and one.outputs[0].dtype in FOREIGN_TYPES] == []
    for one in inside:
        # What Transformers' check of token ids would say; XLA leaves assertions out, on every device.
        is_checked = "/assert_less/" in one.name
        kinds = {tensor.dtype for tensor in one.outputs} - ({tf.string} if is_checked else set())
        assert FOREIGN_TYPES.isdisjoint(kinds), one
        # Keys and counters of TensorFlow's own generator, which it makes for a TPU as well; no values.
        assert tf.uint64 not in kinds or one.type.startswith(("StatelessRandomGet", "Placeholder")), one
    for tensor in traced.inputs:
        assert tensor.dtype == tf.resource or tensor.shape.is_fully_defined(), tensor
    losses = compiled(next(iter(dataset)))
    return float(losses["loss"])


@pytest.mark.usefixtures("on_tpu")
@pytest.mark.parametrize(
    ("problem_type", "settings"),
    [
        (tasks.SINGLE_LABEL, {"weight_decay": 0.1, "layerwise_lr_decay": 0.9, "label_smoothing_factor": 0.1}),
        pytest.param(tasks.MULTI_LABEL, {"ema_momentum": 0.9}, marks=pytest.mark.slow),
        pytest.param(tasks.REGRESSION, {"r_drop_alpha": 1.0}, marks=pytest.mark.slow),
    ],
)
def test_a_step_for_a_tpu_has_nothing_that_one_forbids(
    found: checkpoint.Checkpoint, tokenizer: Any, problem_type: str, settings: dict[str, Any]
) -> None:
    rows, section = prepared(tokenizer, problem_type)
    training_section = TrainingSection(per_device_train_batch_size=8, num_train_epochs=1.0, **settings)
    planned = plan.make(section, training_section, rows.train.encoded, 32, is_static=True)
    assert planned.widths == (16,)
    assert planned.steps_per_execution == 3
    hardware.set_seed(1)
    with hardware.computing_in(Precision("bf16", "as on a TPU")):
        loaded = load.load_classifier(found, rows.label_map.names, "TFAutoModelForSequenceClassification", problem_type)
        assert accelerate(loaded.model)
    problem = problem_of(rows.label_map)
    training.compile_model(
        loaded.model,
        training_section,
        planned,
        loss=training.make_loss(training_section, problem, None),
        runtime=RuntimeSection(),
        multipliers=training.rate_multipliers(training_section, loaded.model),
    )
    dataset = training.make_batches(rows.train, section, planned, tokenizer, 1, False)
    assert np.isfinite(assert_a_tpu_can(loaded.model.train_step, dataset))


@pytest.mark.slow
def test_an_ordinary_step_would_not_do(tokenizer: Any, found: checkpoint.Checkpoint) -> None:
    """What the test above looks for is found where it is: words of random bits, embeddings' rows by their values."""
    rows, section = prepared(tokenizer)
    settings = TrainingSection(per_device_train_batch_size=8)
    planned = plan.make(section, settings, rows.train.encoded, 32)
    model = load.load_classifier(found, ("0", "1"), "TFAutoModelForSequenceClassification").model
    accelerate(model)
    training.compile_model(
        model,
        settings,
        planned,
        loss=training.make_loss(settings, problem_of(rows.label_map), None),
        runtime=RuntimeSection(),
    )
    dataset = training.make_batches(rows.train, section, planned, tokenizer, 1, False)
    assert not all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(dataset.element_spec))
    traced = tf.function(model.train_step, jit_compile=True).get_concrete_function(dataset.element_spec)
    assert {one.type for one in operations(traced.graph)} & FORBIDDEN == {"Bitcast", "Unique"}


def test_shards_for_a_tpu_need_no_python(tmp_path: Path, tokenizer: Any) -> None:
    rows, section = prepared(tokenizer)
    about = shards.encoding(section, "text-classification", rows, tokenizer, "tiny")
    shards.write(rows, str(tmp_path), about, rows_per_shard=7, seed=1)
    train = shards.prepare(shards.find(str(tmp_path), about), str(tmp_path)).train
    settings = TrainingSection(per_device_train_batch_size=4)
    planned = plan.make(section, settings, train.encoded, 32, replicas=2, is_static=True)
    dataset = training.make_batches(train, section, planned, tokenizer, 1, False)
    assert datasets_operations(dataset).isdisjoint(PYTHON)
    assert all(spec.shape.is_fully_defined() for spec in tf.nest.flatten(dataset.element_spec))
    parts = list(dataset.take(2 * planned.batches_per_epoch))
    assert {tuple(inputs["input_ids"].shape) for inputs, _, _ in parts} == {(4, 16)}
    # Each row counts once: 21 in batches of 8 are two whole ones and 5 rows, which weigh as much as 8.
    assert sum(float(tf.reduce_sum(weights)) for *_, weights in parts) == pytest.approx(24.0)
    assert sum(int(tf.math.count_nonzero(weights)) for *_, weights in parts) == 21


@pytest.mark.usefixtures("on_tpu")
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_masks_on_a_tpu(rate: float) -> None:
    def mask(*key: int) -> np.ndarray:
        found: np.ndarray = dropout.dropout(tf.ones([40_000]), rate, tf.constant(key, tf.int64)).numpy()
        return found

    first = mask(7, 1, 0, 2, 1)
    assert abs((first == 0).mean() - rate) < 4 * np.sqrt(rate * (1 - rate) / len(first))
    np.testing.assert_allclose(first[first != 0], 1 / (1 - rate), rtol=1e-3)
    np.testing.assert_array_equal(mask(7, 1, 0, 2, 1), first)
    for other in ((8, 1, 0, 2, 1), (7, 2, 0, 2, 1), (7, 1, 1, 2, 1), (7, 1, 0, 3, 1), (7, 1, 0, 2, 2)):
        assert abs(np.corrcoef(first, mask(*other))[0, 1]) < 5 / np.sqrt(len(first))


@pytest.mark.usefixtures("on_tpu")
def test_gradients_of_embeddings_are_dense_on_a_tpu() -> None:
    table = tf.Variable(tf.ones([5, 2]), name="table")
    optimizer = optimizers.make("adamw", 0.1)
    optimizer.build([table])

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.gather(table, [1, 1, 3]))
        optimizer.apply_gradients([(tape.gradient(loss, table), table)])

    kinds = {one.type for one in operations(step.get_concrete_function().graph)}
    assert not kinds & FORBIDDEN
    step()
    np.testing.assert_allclose(table[:, 0], [1.0, 0.9, 1.0, 0.9, 1.0], rtol=1e-5)


# --- Which one --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No sign of a TPU; what is put into the folder stands for what is in /dev."""
    for name in ("TPU_NAME", "COLAB_TPU_ADDR", *tpu._OF_TPU_MACHINES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tpu, "DEVICE", str(tmp_path / "accel0"))
    monkeypatch.setattr(tpu, "DEVICES", str(tmp_path / "vfio" / "[0-9]*"))
    tpu.connect.cache_clear()
    yield tmp_path  # type: ignore[misc]
    tpu.connect.cache_clear()


def test_signs_of_a_tpu(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tpu.sign() is None
    (nowhere / "vfio").mkdir()
    (nowhere / "vfio" / "0").touch()
    assert tpu.sign() is None  # may be anything that a virtual machine is given
    monkeypatch.setenv("TPU_WORKER_ID", "0")
    assert tpu.sign() == f"{tpu.DEVICES} is there, and TPU_WORKER_ID in the environment"
    (nowhere / "accel0").touch()
    assert tpu.sign() == f"{tpu.DEVICE} is there"
    assert tpu.address() == "local"
    monkeypatch.setenv("COLAB_TPU_ADDR", "10.0.0.2:8470")
    assert (tpu.sign(), tpu.address()) == ("COLAB_TPU_ADDR is 10.0.0.2:8470", "grpc://10.0.0.2:8470")
    monkeypatch.setenv("TPU_NAME", "node-1")
    assert (tpu.sign(), tpu.address()) == ("TPU_NAME is node-1", "node-1")
    assert tpu.address("grpc://10.0.0.3:8470") == "grpc://10.0.0.3:8470"
    assert tpu.address("local") == "local"


def test_no_tpu_is_said_with_what_was_looked_for(nowhere: Path) -> None:
    words = r"got tpu, and there is no sign of one here: looked for runtime\.tpu_name, TPU_NAME and COLAB_TPU_ADDR"
    for look in (lambda: hardware.find_device("tpu"), lambda: hardware.choose_distribution("tpu")):
        with pytest.raises(HardwareError, match=words):
            look()
    with pytest.raises(HardwareError, match=words):
        tpu.connect("local")
    assert hardware.find_device("auto").kind != "tpu"


def test_a_tpu_that_does_not_answer_is_said_in_time(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpu, "SECONDS", 0.3)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        port = taken.getsockname()[1]
        with pytest.raises(HardwareError, match=rf"TPU grpc://127\.0\.0\.1:{port} does not answer.*at this address"):
            tpu.connect(f"grpc://127.0.0.1:{port}")

    def hang(*ignored: Any) -> None:
        time.sleep(3)
        raise OSError("nobody answered")

    monkeypatch.setattr(tpu.socket, "create_connection", hang)
    began = time.perf_counter()
    with pytest.raises(HardwareError, match=r"TPU node-1 does not answer: .* knows this name.* within 0\.3 s"):
        tpu.connect("node-1")
    assert time.perf_counter() - began < 2


class StandIn:
    """In the place of TensorFlow's resolver."""

    asked: list[str]

    def __init__(self, tpu: str) -> None:
        StandIn.asked.append(tpu)


@pytest.fixture
def stand_in(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """A TPU of two cores, which the environment names."""
    StandIn.asked = []
    strategy = types.SimpleNamespace(num_replicas_in_sync=2, extended=types.SimpleNamespace(num_hosts=1))
    done: list[str] = []
    monkeypatch.setattr(tf.distribute.cluster_resolver, "TPUClusterResolver", StandIn)
    monkeypatch.setattr(tf.config, "experimental_connect_to_cluster", lambda resolver: done.append("connected"))
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda resolver: done.append("initialized"))
    monkeypatch.setattr(tf.distribute, "TPUStrategy", lambda resolver: strategy)
    monkeypatch.setattr(tpu, "_connected", [])
    (nowhere / "accel0").touch()
    return types.SimpleNamespace(strategy=strategy, done=done)


@pytest.mark.parametrize("wanted", ["auto", "tpu"])
def test_a_tpu_is_taken(stand_in: types.SimpleNamespace, wanted: str) -> None:
    device = hardware.find_device(wanted)
    assert device == Device("tpu", "local")
    chosen = hardware.choose_distribution(wanted)
    assert (chosen.replicas, chosen.strategy) == (2, stand_in.strategy)
    why = "as asked" if wanted == "tpu" else f"since {tpu.DEVICE} is there"
    assert chosen.reason == f"a TPU of 2 cores, {why}"
    assert (StandIn.asked, stand_in.done) == (["local"], ["connected", "initialized"])
    assert hardware.choose_precision("auto", device).name == "bf16"
    assert hardware.precisions_of(device) == ("no", "bf16")
    for other in ("cpu", "mirrored"):
        assert not hardware.uses_tpu(other)


def test_a_tpu_that_tensorflow_cannot_use(stand_in: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(resolver: Any) -> None:
        raise tf.errors.NotFoundError(None, None, "No TPU devices found")

    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", fail)
    with pytest.raises(HardwareError, match=r"the TPU local cannot be used \(No TPU devices found\).*tensorflow-tpu"):
        tpu.connect()
    monkeypatch.setattr(tf.tpu.experimental, "initialize_tpu_system", lambda resolver: None)
    stand_in.strategy.extended.num_hosts = 4
    with pytest.raises(HardwareError, match="is a slice of 4 machines; expected one machine's"):
        tpu.connect()


def test_what_uses_a_tpu_knows(stand_in: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not tpu.in_use()
    tpu.connect()
    assert not tpu.in_use()
    monkeypatch.setattr(tf.distribute, "get_strategy", lambda: stand_in.strategy)
    assert tpu.in_use()


def test_auto_names_what_a_tpu_does_not_do(stand_in: types.SimpleNamespace) -> None:
    made = recipe.load("mrpc", ["data.batching=padded", "training.gradient_accumulation_steps=2"])
    with pytest.raises(RecipeError) as caught:
        assembly._check_for_tpu(made)
    said = str(caught.value)
    assert f"data.batching: got 'padded'; expected bucketed, since training is done on a TPU ({tpu.DEVICE} is" in said
    assert "training.gradient_accumulation_steps: got 2; expected 1" in said
    assert "runtime.strategy=cpu" in said


def test_rows_that_python_reads_are_refused(tokenizer: Any) -> None:
    import dataclasses

    rows, _ = prepared(tokenizer)
    assembly._check_needs_no_python(rows.train)
    on_disk = ArrayOnDisk.__new__(ArrayOnDisk)
    encoded = dataclasses.replace(rows.train.encoded, input_ids=on_disk)  # type: ignore[type-var]
    with pytest.raises(RecipeError, match=r"write them as shards \(python -m tfft\.data shards\)"):
        assembly._check_needs_no_python(dataclasses.replace(rows.train, encoded=encoded))  # type: ignore[type-var]


# --- Precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_heads_and_losses_are_in_float32(found: checkpoint.Checkpoint, precision: str) -> None:
    with hardware.computing_in(Precision(precision, "as asked")):
        model = load.load_classifier(found, ["0", "1"], "TFAutoModelForSequenceClassification").model
    accelerate(model)
    inputs = {"input_ids": tf.constant([[2, 9, 3]]), "attention_mask": tf.constant([[1, 1, 1]])}
    output = model(inputs, output_hidden_states=True)
    logits = output.logits
    assert output.hidden_states[-1].dtype == {"bf16": tf.bfloat16, "fp16": tf.float16}[precision]
    assert logits.dtype == tf.float32
    assert model.classifier.compute_dtype == "float32"
    loss = training.make_loss(TrainingSection(), problem_of(_two_classes()), None)
    assert loss(tf.constant([1]), logits).dtype == tf.float32


def _two_classes() -> Any:
    from tfft.data import LabelMap

    return LabelMap(("0", "1"), (0, 1))


@pytest.mark.parametrize("accelerated", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_rows_of_padding_alone_give_no_nan_in_float16(found: checkpoint.Checkpoint, accelerated: bool) -> None:
    hardware.set_seed(1)
    with hardware.computing_in(Precision("fp16", "as asked")):
        model = load.load_classifier(found, ["0", "1"], "TFAutoModelForSequenceClassification").model
        if accelerated:
            assert accelerate(model)
        optimizer = optimizers.make("adamw", 1e-3)
        dropout.draw_from_state(model)
        model.compile(optimizer, loss=training.make_loss(TrainingSection(), problem_of(_two_classes()), None))
    assert isinstance(model.optimizer, keras.mixed_precision.LossScaleOptimizer)
    inputs = {
        "input_ids": tf.constant([[2, 9, 3, 0], [0, 0, 0, 0]]),
        "attention_mask": tf.constant([[1, 1, 1, 0], [0, 0, 0, 0]]),
    }
    assert np.isfinite(model(inputs).logits).all()
    # A loss scale that begins at 2 ** 15 may be too large for a step or two, and is halved then.
    losses = [
        model.train_on_batch(inputs, tf.constant([1, 0]), sample_weight=tf.constant([1.0, weight]))
        for weight in (1.0, 0.0, 1.0)
    ]
    assert np.isfinite(losses).all()
    assert all(np.isfinite(weight.numpy()).all() for weight in model.weights)
    assert int(model.optimizer.iterations) >= 1


@pytest.mark.parametrize(
    ("device", "refused"),
    [
        (Device("tpu", "local"), {"fp16"}),
        (Device("gpu", "T4", (7, 5)), {"bf16"}),
        (Device("gpu", "K80", (3, 7)), {"bf16", "fp16"}),
        (Device("gpu", "A100", (8, 0)), set()),
        (Device("gpu", "GPU"), set()),
        (Device("cpu", "a processor"), set()),
    ],
)
def test_what_a_device_does_not_compute_in_is_refused(device: Device, refused: set[str]) -> None:
    for wanted in hardware.POLICIES:
        if wanted not in refused:
            assert hardware.choose_precision(wanted, device).name == wanted
            continue
        with pytest.raises(HardwareError, match=rf"got {wanted}, in which this .* does not compute; expected no"):
            hardware.choose_precision(wanted, device)
