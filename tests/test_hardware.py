"""Precision by a table of devices, seeds that repeat, and memory by the formula's own numbers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from tfft import environment, hardware
from tfft.backend import keras, tf
from tfft.errors import RunError
from tfft.hardware import Device, Precision

PLAIN = Device("cpu", "a processor")
AMX = Device("cpu", "a processor", bf16_unit="AMX")
AVX512 = Device("cpu", "a processor", bf16_unit="AVX512-BF16")
AMPERE = Device("gpu", "A100", (8, 0))
ADA = Device("gpu", "L4", (8, 9))
TURING = Device("gpu", "T4", (7, 5))
VOLTA = Device("gpu", "V100", (7, 0))
PASCAL = Device("gpu", "P100", (6, 0))
UNKNOWN = Device("gpu", "GPU")


@pytest.mark.parametrize(
    ("device", "name", "reason"),
    [
        (PLAIN, "no", "the processor has no AMX or AVX512-BF16"),
        (AMPERE, "bf16", "the GPU has bfloat16"),
        (ADA, "bf16", "the GPU has bfloat16"),
        (TURING, "fp16", "the GPU has float16"),
        (VOLTA, "fp16", "the GPU has float16"),
        (PASCAL, "no", "the GPU has no matrix units"),
        (UNKNOWN, "no", "the GPU does not say"),
    ],
)
def test_auto_takes_what_the_device_is_fast_at(device: Device, name: str, reason: str) -> None:
    found = hardware.choose_precision("auto", device)
    assert found.name == name
    assert found.reason.startswith(reason)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The precisions whose product was measured: bfloat16 three times as fast."""
    measured: list[str] = []

    def peak(precision: str, xla: bool = False) -> float:
        measured.append(precision)
        return {"no": 1e9, "bf16": 1.2e9 if xla else 3e9}[precision]

    monkeypatch.setenv("TFFT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(hardware, "product_peak", peak)
    return measured


def test_amx_is_measured_once_on_a_machine(products: list[str]) -> None:
    for _ in range(2):
        found = hardware.choose_precision("auto", AMX)
        assert found == Precision("bf16", "the processor has AMX: its products were 3.0 times as fast")
    assert sorted(products) == ["bf16", "no"]
    hardware.choose_precision("auto", Device("cpu", "another processor", bf16_unit="AMX"))
    hardware.choose_precision("auto", AMX)
    assert len(products) == 4


@pytest.mark.parametrize("device", [AMX, AVX512])
def test_a_unit_that_is_not_fast_is_not_taken(
    products: list[str], device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "product_peak", lambda precision, xla: 1e9)
    assert hardware.choose_precision("auto", device) == Precision(
        "no", f"the processor has {device.bf16_unit}, but bfloat16 was only 1.0 times as fast"
    )


def test_what_xla_makes_of_a_unit_is_measured_by_itself(products: list[str]) -> None:
    assert hardware.choose_precision("auto", AVX512).name == "bf16"
    assert hardware.choose_precision("auto", AVX512, xla=True) == Precision(
        "no", "the processor has AVX512-BF16, but bfloat16 was only 1.2 times as fast under XLA"
    )
    assert hardware.choose_precision("auto", AVX512).name == "bf16"
    assert len(products) == 4


@pytest.mark.parametrize("spoilt", ["{", "[]", '{"a": "b"}'])
def test_a_spoilt_memory_is_measured_anew(products: list[str], spoilt: str, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "bf16_speed.json").write_text(spoilt)
    assert hardware.choose_precision("auto", AMX).name == "bf16"
    hardware.choose_precision("auto", AMX)
    assert len(products) == 2


def test_a_cache_that_cannot_be_written_is_done_without(products: list[str], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert hardware.choose_precision("auto", AMX).name == "bf16"


@pytest.mark.parametrize(("precision", "xla"), [("no", False), ("bf16", False), ("bf16", True), ("fp16", False)])
def test_a_products_operations_a_second(monkeypatch: pytest.MonkeyPatch, precision: str, xla: bool) -> None:
    monkeypatch.setattr(hardware, "PRODUCT_SIZE", 16)
    clock = iter([0.0, 9.0, 10.0, 12.0, 20.0, 21.0, 30.0, 33.0])  # the first, slow one is left out
    monkeypatch.setattr(hardware.time, "perf_counter", lambda: next(clock))
    assert hardware.product_peak(precision, xla) == 2 * 16**3


def test_tf32_is_told_where_it_is_used() -> None:
    plain, half = Precision("no", "as asked"), Precision("bf16", "as asked")
    assert hardware.uses_tf32(AMPERE, plain)
    assert not any(hardware.uses_tf32(*one) for one in ((AMPERE, half), (TURING, plain), (PLAIN, plain)))
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        assert not hardware.uses_tf32(AMPERE, plain)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.mark.parametrize("wanted", ["no", "bf16", "fp16"])
@pytest.mark.parametrize("device", [PLAIN, AMX, AMPERE, UNKNOWN])
def test_what_is_asked_for_is_taken(wanted: str, device: Device) -> None:
    assert hardware.choose_precision(wanted, device) == Precision(wanted, "as asked")


def test_every_precision_has_a_policy() -> None:
    assert set(hardware.POLICIES) == {"no", "bf16", "fp16"}


@pytest.mark.parametrize(
    ("flags", "unit"),
    [
        ({"avx2"}, None),
        ({"avx2", "avx512_bf16"}, "AVX512-BF16"),
        ({"avx512_bf16", "amx_bf16"}, "AMX"),
        ({"avx512f", "avx512_fp16"}, None),
    ],
)
def test_this_machines_processor_is_found(flags: set[str], unit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    monkeypatch.setattr(environment, "processor_flags", lambda: flags)
    monkeypatch.setattr(environment, "processor_name", lambda: "a processor")
    assert hardware.find_device() == Device("cpu", "a processor", bf16_unit=unit)
    assert hardware.find_device().reason == "TensorFlow sees no GPU here"
    assert hardware.find_device("cpu").reason == "as asked"


def test_a_gpu_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    details = {"device_name": "T4", "compute_capability": (7, 5)}
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["one", "other"])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details if gpu == "one" else {})
    assert hardware.find_device() == Device("gpu", "T4", (7, 5))
    assert (hardware.find_device().reason, hardware.find_device("one_device").reason) == ("a GPU is there", "as asked")
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: {})
    assert hardware.find_device() == Device("gpu", "GPU", None)


def test_a_gpu_that_is_asked_for_and_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: [])
    with pytest.raises(RunError, match=r"runtime\.strategy: got one_device, which is a GPU, and TensorFlow sees none"):
        hardware.find_device("one_device")


def test_the_processor_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden: list[object] = []
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda kind: ["one"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: hidden.append(given))
    assert hardware.find_device("cpu").kind == "cpu"
    assert hidden == [([], "GPU")]

    def refuse(*ignored: object) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    with pytest.raises(RunError, match="already uses a GPU in this process; start a new one"):
        hardware.find_device("cpu")


@pytest.mark.parametrize(("name", "computes_in"), [("no", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_layers_compute_in_the_precision_and_keep_float32_weights(name: str, computes_in: str) -> None:
    before = keras.mixed_precision.global_policy().name
    with hardware.computing_in(Precision(name, "as asked")):
        layer = keras.layers.Dense(2)
    assert keras.mixed_precision.global_policy().name == before
    assert layer(tf.ones([1, 3])).dtype == computes_in
    assert layer.kernel.dtype == tf.float32


def test_the_policy_is_as_before_after_an_error() -> None:
    before = keras.mixed_precision.global_policy().name
    with pytest.raises(ZeroDivisionError), hardware.computing_in(Precision("bf16", "as asked")):
        assert keras.mixed_precision.global_policy().name == "mixed_bfloat16"
        raise ZeroDivisionError
    assert keras.mixed_precision.global_policy().name == before


def test_a_seed_repeats_every_kind_of_draw() -> None:
    def draws(seed: int) -> list[float]:
        hardware.set_seed(seed)
        layer = keras.layers.Dense(1)
        layer.build((None, 1))
        return [random.random(), np.random.random(), float(tf.random.normal([])), float(layer.kernel[0, 0])]

    first = draws(7)
    assert draws(7) == first
    assert all(a != b for a, b in zip(draws(8), first, strict=True))


@pytest.mark.parametrize("deterministic", [False, True])
def test_determinism_is_switched_on_where_it_is_asked_for(deterministic: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # It cannot be switched off again in a process: tests/commands runs it for real.
    calls: list[str] = []
    monkeypatch.setattr(tf.config.experimental, "enable_op_determinism", lambda: calls.append("on"))
    hardware.set_seed(1, deterministic)
    assert calls == ["on"] * deterministic


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        # 2 rows of 4 tokens, 8 wide, 1 head: 4 * 2 * 8 * (34 + 5 * 1 * 4 / 8) = 64 * 36.5 bytes a layer.
        ({"layers": 1, "bytes_each": 2}, 2336),
        ({"layers": 3, "bytes_each": 2}, 3 * 2336),
        ({"layers": 3, "bytes_each": 4}, 6 * 2336),
        # With 4 heads: 64 * (34 + 10).
        ({"layers": 1, "bytes_each": 2, "heads": 4}, 2816),
    ],
)
def test_activations_by_hand(sizes: dict[str, int], expected: int) -> None:
    assert hardware.activation_bytes(**{"batch_size": 2, "length": 4, "hidden": 8, "heads": 1, **sizes}) == expected


def test_a_training_step_holds_four_float32_values_a_parameter() -> None:
    assert hardware.training_bytes(1000, 0) == 1000 * (4 + 4 + 4 + 4)
    assert hardware.training_bytes(1000, 24) == 16024
