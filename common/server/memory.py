"""The memory of this process."""

from __future__ import annotations

import ctypes
import gc
import resource


def return_free_memory() -> None:
    """Have the C library give back what is free; it keeps a lot where pieces are small.

    gRPC takes a message in by pieces of some kilobytes. Does nothing with a library other than
    glibc. What is garbage by way of cycles, such as of exceptions, is collected first.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def resident_bytes() -> int:
    """How much memory this process has, as Linux tells it."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
