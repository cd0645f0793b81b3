"""TPUs: whether one is here, and TensorFlow's strategy for it.

A TPU computes what XLA compiled for shapes that are known: see `plan.make` for what a run on one does differently.
Where there is none, TensorFlow's resolver asks a server of Google's cloud, and waits; so signs are looked for first.
"""

from __future__ import annotations

import functools
import glob
import os
import socket
import threading
from typing import Any

from tfft.backend import tf
from tfft.errors import HardwareError

LOCAL = "local"
DEVICE, DEVICES = "/dev/accel0", "/dev/vfio/[0-9]*"
# Of a machine with TPUs; /dev/vfio alone may be anything that is passed on to a virtual machine.
_OF_TPU_MACHINES = ("TPU_ACCELERATOR_TYPE", "TPU_WORKER_ID", "TPU_SKIP_MDS_QUERY", "TPU_PROCESS_BOUNDS")
_LOOKED_FOR = f"runtime.tpu_name, TPU_NAME and COLAB_TPU_ADDR in the environment, {DEVICE} and {DEVICES}"
_METADATA_SERVER = ("metadata.google.internal", 80)
SECONDS = 10.0
_KIND = tf.distribute.TPUStrategy
_connected: list[Any] = []


def sign() -> str | None:
    """What shows that there is a TPU, in words; None where nothing does."""
    for name in ("TPU_NAME", "COLAB_TPU_ADDR"):
        if os.environ.get(name):
            return f"{name} is {os.environ[name]}"
    if os.path.exists(DEVICE):
        return f"{DEVICE} is there"
    named = [name for name in _OF_TPU_MACHINES if name in os.environ]
    if named and glob.glob(DEVICES):
        return f"{DEVICES} is there, and {named[0]} in the environment"
    return None


def address(name: str | None = None) -> str:
    """What TensorFlow's resolver is to be given: `local`, a name, or an address such as `grpc://10.0.0.2:8470`.

    Args:
        name: as in `runtime.tpu_name`; None takes what the environment names.

    Raises:
        HardwareError: there is no sign of a TPU.
    """
    wanted = name or os.environ.get("TPU_NAME")
    if wanted and wanted != LOCAL:
        return wanted
    if not wanted and (host := os.environ.get("COLAB_TPU_ADDR")):
        return host if "://" in host else f"grpc://{host}"
    if os.path.exists(DEVICE) or glob.glob(DEVICES):
        return LOCAL
    raise HardwareError(
        f"runtime.strategy: got tpu, and there is no sign of one here: looked for {_LOOKED_FOR}; start a machine with "
        "a TPU (Colab: Runtime, Change runtime type), or take runtime.strategy=auto"
    )


@functools.cache
def connect(name: str | None = None) -> Any:
    """TensorFlow's strategy for the TPU, which is made ready; one for the process, since that forgets all before.

    Args:
        name: as in `runtime.tpu_name`.

    Raises:
        HardwareError: there is none, or it does not answer within `SECONDS`, or TensorFlow cannot use it.
    """
    found = address(name)
    _check_answers(found)
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=found)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except Exception as error:  # of the system, of TensorFlow, of Google's client: whatever each of them has
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise HardwareError(
            f"runtime.strategy: the TPU {found} cannot be used ({said}); on its own machine TensorFlow needs the "
            "package tensorflow-tpu 2.20 in place of tensorflow; or take runtime.strategy=cpu"
        ) from None
    if getattr(strategy.extended, "num_hosts", 1) > 1:
        raise HardwareError(
            f"runtime.strategy: the TPU {found} is a slice of {strategy.extended.num_hosts} machines; expected one "
            "machine's, such as v2-8 or v5litepod-8"
        )
    _connected.append(strategy)
    return strategy


def _check_answers(found: str) -> None:
    """Raises a HardwareError unless somebody is there to be asked: the resolver itself would wait for minutes."""
    if found == LOCAL:
        return
    host, _, port = found.rpartition("://")[2].rpartition(":")
    where = (host, int(port)) if host and port.isdecimal() else _METADATA_SERVER
    if _answers(*where):
        return
    what = "at this address" if where != _METADATA_SERVER else "that knows this name (Google's metadata server)"
    raise HardwareError(
        f"runtime.strategy: the TPU {found} does not answer: there is no server {what} within {SECONDS:g} s; correct "
        "runtime.tpu_name or TPU_NAME (`local` is the TPU of this machine), or take runtime.strategy=cpu"
    )


def _answers(host: str, port: int) -> bool:
    heard = threading.Event()

    def ask() -> None:
        try:
            with socket.create_connection((host, port), SECONDS):
                heard.set()
        except OSError:
            pass

    # Looking up a name has no timeout of its own.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(SECONDS)
    return heard.is_set()


def in_use() -> bool:
    """Whether what is being computed or traced is for a TPU."""
    strategy = tf.distribute.get_strategy()
    return isinstance(strategy, _KIND) or any(strategy is one for one in _connected)
