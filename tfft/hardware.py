"""What this machine has, and what a run makes of it: device, precision, compiler, determinism."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfft import environment, locations, tpu, workers
from tfft.backend import keras, tf
from tfft.console import quiet_stderr
from tfft.errors import HardwareError, RunError
from tfft.workers import Cluster

# From this compute capability on, NVIDIA GPUs have matrix units for the type.
_BF16_CAPABILITY = (8, 0)
_FP16_CAPABILITY = (7, 0)
# Below it an NVIDIA GPU does not compute in float16 at all.
_LEAST_FP16_CAPABILITY = (5, 3)

# What multiplies bfloat16 matrices in processors, by its name in Linux; the faster one first.
_BF16_UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX512-BF16"}
# A processor with one of them computes in bfloat16 where its products are at least so many times as fast.
_WORTHWHILE = 1.5
PRODUCT_SIZE = 2048
PRODUCT_REPEATS = 3
_PRODUCT_TYPES = {"no": "float32", "bf16": "bfloat16", "fp16": "float16"}

POLICIES = {"no": "float32", "bf16": "mixed_bfloat16", "fp16": "mixed_float16"}


@dataclass(frozen=True)
class Device:
    """What a run computes on.

    Attributes:
        kind: `cpu`, `gpu` or `tpu`.
        name: the processor's or the GPU's name, or what shows that there is a TPU.
        compute_capability: of an NVIDIA GPU, else None.
        bf16_unit: by what the processor multiplies bfloat16 matrices, `AMX` or `AVX512-BF16`; None without either.
        reason: why it was taken, in words.
    """

    kind: str
    name: str
    compute_capability: tuple[int, int] | None = None
    bf16_unit: str | None = None
    reason: str = field(default="", compare=False)


@dataclass(frozen=True)
class Distribution:
    """Over which devices a step is spread, and why.

    Attributes:
        replicas: copies of the model, each with its share of a batch.
        reason: in words, for a person; empty where nothing is to be said.
        strategy: TensorFlow's; None where there is one device.
        cluster: the processes that share the training; None where this one is alone.
    """

    replicas: int = 1
    reason: str = ""
    strategy: tf.distribute.Strategy | None = None
    cluster: Cluster | None = None

    @property
    def is_chief(self) -> bool:
        """Whether this process writes the run's files and computes its scores."""
        return self.cluster is None or self.cluster.is_chief

    @property
    def own_replicas(self) -> range:
        """Those of this process, among all."""
        if self.cluster is None:
            return range(self.replicas)
        own = self.replicas // len(self.cluster.addresses)
        return range(self.cluster.index * own, (self.cluster.index + 1) * own)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Variables that are made in it are on all devices."""
        return contextlib.nullcontext() if self.strategy is None else self.strategy.scope()

    def spread(self, dataset: tf.data.Dataset) -> Any:
        """What `fit` takes, of batches for the replicas in turn."""
        if self.strategy is None:
            return dataset
        return self.strategy.distribute_datasets_from_function(lambda context: dataset)

    def from_chief(self, value: Any) -> Any:
        """The chief's `value`, plain as JSON has it; every worker has to ask, and waits until the chief does.

        Numbers come bit for bit. Where there is one process, it is the value itself.
        """
        if self.cluster is None or self.strategy is None:
            return value
        own = json.dumps(value).encode() if self.is_chief else b""
        length = int(self._sum(tf.constant(len(own))))
        mine = np.zeros(length, np.int32)
        mine[: len(own)] = np.frombuffer(own, np.uint8)
        return json.loads(bytes(self._sum(tf.constant(mine)).numpy().astype(np.uint8)))

    def by_chief(self, compute: Callable[[], Any]) -> Any:
        """What the chief computes, which is a plain value; the others wait for it."""
        return self.from_chief(compute() if self.is_chief else None)

    def any(self, here: bool) -> bool:
        """Whether it is so in any of the processes, all of which have to ask."""
        if self.cluster is None:
            return here
        return int(self._sum(tf.constant(int(here)))) > 0

    def wait(self) -> None:
        """Returns when all processes have come to it."""
        self.any(False)

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """In the body, TensorFlow's errors about a worker that cannot be reached become a RunError that names it."""
        try:
            yield
        except tf.errors.OpError as error:
            if self.cluster is None or not workers.tells_of_workers(error):
                raise
            _clear_frames(error)
            raise workers.gone(self.cluster, error) from error

    def _sum(self, value: tf.Tensor) -> tf.Tensor:
        # Of the workers, whatever each has of devices: a value that is not spread is reduced from host to host.
        assert self.strategy is not None
        return self.strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None)


@dataclass(frozen=True)
class Precision:
    """A precision and why it was chosen."""

    name: str  # no, bf16, fp16
    reason: str


def find_device(wanted: str = "auto", tpu_name: str | None = None) -> Device:
    """What to compute on: a TPU where there plainly is one, the first GPU that TensorFlow sees, else the processor.

    Args:
        wanted: as in `runtime.strategy`. For `cpu`, TensorFlow leaves the GPUs alone from here on.
        tpu_name: as in `runtime.tpu_name`.

    Raises:
        HardwareError: `tpu` is wanted, and there is none, or one that is there cannot be used.
        RunError: `one_device` is wanted, which is a GPU, and there is none; or `cpu` is, and the GPUs are in use.
    """
    if uses_tpu(wanted):
        tpu.connect(tpu_name)
        return Device("tpu", tpu_name or tpu.address(), reason="as asked" if wanted == "tpu" else "a TPU is there")
    gpus = tf.config.get_visible_devices("GPU")
    if wanted == "one_device" and not gpus:
        raise RunError(
            "runtime.strategy: got one_device, which is a GPU, and TensorFlow sees none here; look at the driver "
            "(nvidia-smi) and install tensorflow[and-cuda], or take runtime.strategy=auto"
        )
    if wanted == "cpu" and gpus:
        try:
            tf.config.set_visible_devices([], "GPU")
        except RuntimeError:
            raise RunError(
                "runtime.strategy: got cpu, and TensorFlow already uses a GPU in this process; start a new one"
            ) from None
    elif gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        name, capability = details.get("device_name", "GPU"), details.get("compute_capability")
        return Device("gpu", name, capability, reason="a GPU is there" if wanted == "auto" else "as asked")
    reason = "as asked" if wanted == "cpu" else "TensorFlow sees no GPU here"
    flags = environment.processor_flags()
    unit = next((name for flag, name in _BF16_UNITS.items() if flag in flags), None)
    return Device("cpu", environment.processor_name(), None, unit, reason)


def uses_tpu(wanted: str) -> bool:
    """Whether a run with this `runtime.strategy` is one on a TPU."""
    return wanted == "tpu" or (wanted == "auto" and tpu.sign() is not None)


def choose_distribution(
    wanted: str,
    hindrance: str | None = None,
    tpu_name: str | None = None,
    cluster: Cluster | None = None,
    timeout: float = 300,
) -> Distribution:
    """Over which devices to spread: all GPUs for `mirrored`, and for `auto` where there are several; a TPU's cores.

    Args:
        wanted: as in `runtime.strategy`.
        hindrance: a setting with which training is done on one device, such as `runtime.xla=true`.
        tpu_name: as in `runtime.tpu_name`.
        cluster: the workers, where there are several; all of them have to call this.
        timeout: seconds to wait for them.

    Raises:
        RunError: several devices are wanted, and there is one alone, or a hindrance; or a worker did not come.
    """
    if uses_tpu(wanted):
        if cluster is not None:
            raise RunError(
                f"runtime.strategy: got {wanted} with a TPU and {len(cluster.addresses)} workers, told of by "
                f"{cluster.source}; expected one worker for a TPU"
            )
        strategy = tpu.connect(tpu_name)
        cores = strategy.num_replicas_in_sync
        why = "as asked" if wanted == "tpu" else f"since {tpu.sign()}"
        return Distribution(cores, f"a TPU of {cores} {'core' if cores == 1 else 'cores'}, {why}", strategy)
    if cluster is not None:
        if hindrance:
            raise RunError(
                f"runtime.strategy: got {wanted} with {len(cluster.addresses)} workers, told of by {cluster.source}; "
                f"expected one, since {hindrance}"
            )
        return _over_workers(cluster, timeout)
    if wanted not in ("auto", "mirrored"):
        return Distribution()
    gpus = tf.config.list_logical_devices("GPU")
    # Processors are only taken where somebody has divided one, as tests do.
    devices = gpus if gpus or wanted == "auto" else tf.config.list_logical_devices("CPU")
    if wanted == "mirrored" and len(devices) < 2:
        raise RunError(
            "runtime.strategy: got mirrored, which spreads every batch over several GPUs, and TensorFlow sees "
            f"{len(gpus)} here; look at the driver (nvidia-smi), or take runtime.strategy=auto"
        )
    if wanted == "mirrored" and hindrance:
        raise RunError(f"runtime.strategy: got mirrored; expected auto or one_device, since {hindrance}")
    if len(devices) < 2:
        return Distribution()
    if hindrance:
        return Distribution(reason=f"one of {len(devices)} GPUs, since {hindrance}")
    kind = devices[0].device_type
    return Distribution(
        replicas=len(devices),
        reason=f"mirrored over {len(devices)} {kind}s, "
        + ("as asked" if wanted == "mirrored" else "since they are there"),
        strategy=_mirrored(tuple(device.name for device in devices)),
    )


def _over_workers(cluster: Cluster, timeout: float) -> Distribution:
    strategy = _multi_worker(cluster, timeout)
    count = len(cluster.addresses)
    devices = strategy.num_replicas_in_sync // count
    each = "" if devices == 1 else f", {devices} GPUs each"
    return Distribution(
        replicas=strategy.num_replicas_in_sync,
        reason=f"{count} workers{each}, told of by {cluster.source}; this is worker {cluster.index}",
        strategy=strategy,
        cluster=cluster,
    )


def _clear_frames(error: Exception) -> None:
    """Lets go of what an error's frames hold: a pool of threads that TensorFlow left open, of which Python complains.

    It does so, with a traceback of its own, where the pool lives to the end of the process.
    """
    for last, _ in traceback.walk_tb(error.__traceback__):
        # Keras takes TensorFlow's frames out of the traceback, and those that it leaves still know who called them.
        for frame, _ in traceback.walk_stack(last):
            with contextlib.suppress(RuntimeError):  # those that are running stay
                frame.clear()


@functools.cache
def _multi_worker(cluster: Cluster, timeout: float) -> tf.distribute.Strategy:
    # One for the process, too: its server holds the port until the process ends.
    workers.wait_for_all(cluster, timeout)
    spec = tf.train.ClusterSpec({"worker": list(cluster.addresses)})
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        spec, task_type="worker", task_id=cluster.index, rpc_layer="grpc"
    )
    try:
        with quiet_stderr():
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except RuntimeError as error:
        raise RunError(
            f"runtime.strategy: TensorFlow cannot join the other workers any more ({error}); it has to be the first "
            "thing that a process does with TensorFlow, so start a new one"
        ) from None


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    # One for the process: TensorFlow tells the sums of two of them apart by nothing, and mixes them up.
    return tf.distribute.MirroredStrategy(devices)


def choose_precision(wanted: str, device: Device, xla: bool = False) -> Precision:
    """The precision for `runtime.mixed_precision`: as asked, or for `auto` by what the device computes fast.

    `xla`, that steps are compiled, matters to processors: XLA's products there need not use the units of oneDNN's.

    Raises:
        HardwareError: one is asked for that the device does not compute in.
    """
    if wanted != "auto":
        if not _computes_in(wanted, device):
            raise HardwareError(
                f"runtime.mixed_precision: got {wanted}, in which this {device.kind.upper()} ({device.name}) does not "
                f"compute; expected {' or '.join(one for one in POLICIES if _computes_in(one, device))}, or auto"
            )
        return Precision(wanted, "as asked")
    if device.kind == "tpu":
        return Precision("bf16", "a TPU multiplies bfloat16 matrices")
    if device.kind == "gpu":
        if device.compute_capability is None:
            return Precision("no", "the GPU does not say which 16-bit types it is fast at")
        if device.compute_capability >= _BF16_CAPABILITY:
            return Precision("bf16", "the GPU has bfloat16 matrix units")
        if device.compute_capability >= _FP16_CAPABILITY:
            return Precision("fp16", "the GPU has float16 matrix units and none for bfloat16")
        return Precision("no", "the GPU has no matrix units for 16-bit types")
    unit = device.bf16_unit
    if unit is None:
        units = " or ".join(_BF16_UNITS.values())
        return Precision("no", f"the processor has no {units}, so 16-bit types would be slower")
    times = _bf16_speed(device, xla)
    if times >= _WORTHWHILE:
        return Precision("bf16", f"the processor has {unit}: its products were {times:.1f} times as fast")
    under = " under XLA" if xla else ""
    return Precision("no", f"the processor has {unit}, but bfloat16 was only {times:.1f} times as fast{under}")


def _computes_in(precision: str, device: Device) -> bool:
    """Whether the device can, at whatever speed. Processors do everything, and a GPU that says nothing may."""
    if device.kind == "tpu":
        return precision != "fp16"
    least = {"no": (0, 0), "bf16": _BF16_CAPABILITY, "fp16": _LEAST_FP16_CAPABILITY}[precision]
    return device.compute_capability is None or device.compute_capability >= least


def _bf16_speed(device: Device, xla: bool) -> float:
    """How many times as fast as in float32 a product is in bfloat16: measured once, and remembered for the machine."""
    path = locations.cache_folder() / "bf16_speed.json"
    key = f"{device.name}, TensorFlow {tf.__version__}{' with XLA' if xla else ''}"
    known: dict[str, float] = {}
    # None is there yet, or none that can be read.
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        known = {name: float(times) for name, times in json.loads(path.read_text(encoding="utf-8")).items()}
    if key not in known:
        known[key] = product_peak("bf16", xla) / product_peak("no", xla)
        with contextlib.suppress(OSError):  # a cache that cannot be written is one that does not help
            path.parent.mkdir(parents=True, exist_ok=True)
            written = path.with_suffix(f".{os.getpid()}")
            written.write_text(json.dumps(known), encoding="utf-8")
            written.replace(path)
    return known[key]


def product_peak(precision: str, xla: bool = False) -> float:
    """Operations a second of one large matrix product in `precision` (`no`, `bf16`, `fp16`), the best of a few."""
    product = tf.function(tf.linalg.matmul, jit_compile=True, autograph=False) if xla else tf.linalg.matmul
    kind = tf.as_dtype(_PRODUCT_TYPES[precision])
    matrix = tf.cast(tf.random.stateless_normal((PRODUCT_SIZE, PRODUCT_SIZE), seed=(0, 0)), kind)
    seconds = []
    for _ in range(PRODUCT_REPEATS + 1):
        began = time.perf_counter()
        # Copied back, since a GPU's product is only begun when the call returns.
        product(matrix, matrix)[0, 0].numpy()
        seconds.append(time.perf_counter() - began)
    return 2 * PRODUCT_SIZE**3 / min(seconds[1:])


def precisions_of(device: Device) -> tuple[str, ...]:
    """The values of `runtime.mixed_precision` that are worth a trial on the device."""
    if device.kind in ("cpu", "tpu"):
        return ("no", "bf16")
    fast = (("bf16", _BF16_CAPABILITY), ("fp16", _FP16_CAPABILITY))
    capability = device.compute_capability
    return ("no", *(name for name, least in fast if capability is None or capability >= least))


def uses_tf32(device: Device, precision: Precision) -> bool:
    """Whether products in float32 are TF32's, with 10 bits of mantissa: on GPUs that have it TensorFlow takes it."""
    has_units = device.compute_capability is not None and device.compute_capability >= _BF16_CAPABILITY
    return precision.name == "no" and has_units and tf.config.experimental.tensor_float_32_execution_enabled()


@contextlib.contextmanager
def computing_in(precision: Precision) -> Iterator[None]:
    """Layers built in the body compute in `precision`, now and later; their weights stay float32."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(POLICIES[precision.name])
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def set_seed(seed: int, deterministic: bool = False) -> None:
    """Seeds Python, NumPy and TensorFlow; `deterministic` also makes every operation repeat to the last digit."""
    keras.utils.set_random_seed(seed)
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def activation_bytes(batch_size: int, length: int, hidden: int, layers: int, heads: int, bytes_each: int) -> int:
    """Activations that training keeps for the backward pass, in bytes.

    Per layer s*b*h*(34 + 5*a*s/h) bytes where values take 2 bytes (Korthikanti et al. 2022, equation 1), here for
    values of `bytes_each` bytes.
    """
    per_layer = length * batch_size * hidden * (34 + 5 * heads * length / hidden)
    return int(per_layer * layers * bytes_each / 2)


def training_bytes(parameters: int, activations: int) -> int:
    """Memory of a training step: float32 weights, gradients and Adam's two moments (16 bytes each), and activations."""
    return 16 * parameters + activations
