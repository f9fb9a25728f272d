"""Processor and memory features for training without a GPU."""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

_BFLOAT16 = {'avx512_bf16', 'amx_bf16', 'bf16'}
"""Names of the bfloat16 matrix instructions of processors: x86, x86 with tiles, ARM."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30


@functools.cache
def has_bfloat16() -> bool:
    """Return whether the processor multiplies matrices in bfloat16 faster than in float32."""
    try:
        text = Path('/proc/cpuinfo').read_text(encoding='utf-8')
    except OSError:
        return False
    lines = (line.partition(':') for line in text.splitlines())
    return any(name.strip() in ('flags', 'Features') and _BFLOAT16 & set(value.split()) for name, _, value in lines)


def keep_freed_memory() -> None:
    """Make the C library keep freed memory of up to a GiB for the rest of the process.

    Every training step allocates the same activations again. By default, glibc returns large freed blocks to the kernel
    immediately, and the kernel zeroes their pages when they are allocated again. This takes a tenth of the time of a
    step. Other C libraries are not changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGEST)
    mallopt(_M_TRIM_THRESHOLD, _LARGEST)
