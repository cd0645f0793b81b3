"""Where TensorFlow takes the CPU's memory from."""

from __future__ import annotations

import os

# TensorFlow's own limit for this allocator where nothing is said, in MB.
DEFAULT_LIMIT = 1 << 16


def keep_memory() -> None:
    """Has TensorFlow keep the memory it has freed; only before TensorFlow is loaded. What the user has set stays.

    By default every large tensor is mapped by the operating system when it is made and given back when it is freed, so
    each training step touches all its memory as if for the first time: 90,000 page faults a step of a small encoder,
    about a tenth of a second. TensorFlow's best-fit allocator, the one it has for GPUs, keeps what it has.
    """
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "1")
    limit = _physical_memory()
    if limit > DEFAULT_LIMIT:
        os.environ.setdefault("TF_CPU_BFC_MEM_LIMIT_IN_MB", str(limit))


def _physical_memory() -> int:
    """In MB; 0 where the system does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20
    except (AttributeError, ValueError, OSError):
        return 0
