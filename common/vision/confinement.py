"""What confines a decoding process, and what it answers its service by.

Only the C libraries that touch strangers' bytes run in there. The service and the process share a
buffer, and exchange one struct each way over a socket for each frame.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import signal
import socket
import struct
import threading
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any, Callable, NamedTuple, Tuple

import cv2
import numpy as np

from common.vision.limits import ImageSize

_ALIGNMENT_BYTES = 64
# As mallopt(3) numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_LARGEST_MMAP_THRESHOLD_BYTES = 32 << 20

# Of every request: the present size of the shared buffer, and the CPU time after which the kernel
# ends the process.
_COMMON = struct.Struct("=Qd")


class DecodeReply(NamedTuple):
    """What became of a decoding: a status, its CPU time, and the time that resizing took."""

    status: int
    decode_cpu_seconds: float = 0.0
    resize_seconds: float = 0.0


DECODE_REPLY = struct.Struct("=Bdd")


def packed(buffer_bytes: int, cpu_seconds: float, request: bytes) -> bytes:
    """A request as it is sent.

    Args:
        buffer_bytes: the present size of the shared buffer.
        cpu_seconds: the CPU time after which the kernel ends the process.
        request: what `serve` hands to `answer`.
    """
    return _COMMON.pack(buffer_bytes, cpu_seconds) + request


def picture_offset(file_bytes: int) -> int:
    """The offset in the buffer at which the picture begins, behind a file of this size."""
    return -(-file_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def picture_in(buffer: np.ndarray, file_bytes: int, size: ImageSize) -> np.ndarray:
    """Where the picture is that belongs behind a file of this size: uint8 [height,width,3]."""
    begin = picture_offset(file_bytes)
    end = begin + size.height * size.width * 3
    return buffer[begin:end].reshape(size.height, size.width, 3)


class Confinement(NamedTuple):
    """What a process is given at its start.

    Attributes:
        channel: the socket to the service.
        buffer: the object whose `detach` gives the shared buffer's file descriptor.
        memory_bytes: the memory that decoding may take.
        niceness: the niceness to run at.
    """

    channel: socket.socket
    buffer: Any
    memory_bytes: int
    niceness: int


def serve_confined(
    given: Confinement, request_bytes: int, answer: Callable[[bytes, np.ndarray], bytes]
) -> None:
    """Confine this process, and answer requests until the service closes the channel, or ends.

    Args:
        given: what the process was given.
        request_bytes: the size of a request.
        answer: makes the answer to a request, given the shared buffer, uint8.
    """
    _confine(given.memory_bytes, given.niceness)
    channel, buffer = given.channel, given.buffer
    descriptor = buffer.detach()
    mapped = np.empty(0, np.uint8)
    size = _COMMON.size + request_bytes
    while True:
        message = channel.recv(size, socket.MSG_WAITALL)
        if len(message) < size:
            return
        buffer_bytes, cpu_seconds = _unpacked(message)
        if len(mapped) != buffer_bytes:
            mapped = np.frombuffer(mmap.mmap(descriptor, buffer_bytes), np.uint8)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        reply = answer(message[_COMMON.size :], mapped)
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.sendall(reply)


def _unpacked(message: bytes) -> Tuple[int, float]:
    buffer_bytes, cpu_seconds = _COMMON.unpack_from(message)
    return buffer_bytes, cpu_seconds


def _confine(memory_bytes: int, niceness: int) -> None:
    """Give up what the process does not need, and end with the service."""
    # The service answers the frames in flight first, and then ends its processes itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(niceness)
    # Every thread of OpenCV's would take address space.
    cv2.setNumThreads(1)
    _keep_freed_memory()
    _have_algebra_take_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/self/statm"):
        _limit_memory(memory_bytes)
    # libjpeg and libpng write complaints about strangers' files to stderr, at any length.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    threading.Thread(target=_end_with_service, daemon=True).start()


def _keep_freed_memory() -> None:
    """Keep what a frame took for the next one: new pages from the kernel cost a third of the time.

    In the service's own process other allocations keep glibc from returning the memory.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _have_algebra_take_memory() -> None:
    """Have numpy's OpenBLAS, by which filters of `resize` are found, take what it works in.

    It takes 32 MiB at its first use. Where it cannot have them, it asks without end, or ends the
    process; so it has to be used before memory is limited.
    """
    np.linalg.lstsq(np.eye(2), np.ones(2), rcond=None)


def _limit_memory(memory_bytes: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        present_bytes = int(file.read().split()[0]) * resource.getpagesize()
    limit = present_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # If the machine runs out of memory all the same, the kernel should end this process first.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _end_with_service() -> None:
    service = parent_process()
    if service is not None:
        wait([service.sentinel])
        os._exit(0)
