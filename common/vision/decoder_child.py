"""What runs in a process that decodes: nothing but the C libraries that touch strangers' bytes.

The service and the process share a buffer: the file goes in at its start, the resized picture
comes out behind it. What the two tell each other is a struct each way over a socket.
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
import time
from multiprocessing import parent_process
from multiprocessing.connection import wait
from typing import Any, NamedTuple

import cv2
import numpy as np

from common.domain.errors import InvalidInputError
from common.vision.decode import decode_file
from common.vision.limits import ImageSize
from common.vision.resize import resize_bilinear

DECODED, UNDECODABLE, OUT_OF_MEMORY = range(3)

_ALIGNMENT_BYTES = 64
# As mallopt(3) numbers them.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 64 << 20
_LARGEST_MMAP_THRESHOLD_BYTES = 32 << 20


class Request(NamedTuple):
    """One frame to decode.

    Attributes:
        buffer_bytes: of the shared buffer by now.
        file_bytes: of the file, at the buffer's start.
        frame_width: pixels that the file's header promises.
        frame_height: the same.
        width: of the picture that is wanted, pixels.
        height: the same.
        cpu_seconds: after which the kernel ends the process.
    """

    buffer_bytes: int
    file_bytes: int
    frame_width: int
    frame_height: int
    width: int
    height: int
    cpu_seconds: float


class Reply(NamedTuple):
    """How it went: a status, the CPU seconds of decoding, and the seconds that resizing took."""

    status: int
    decode_cpu_seconds: float = 0.0
    resize_seconds: float = 0.0


REQUEST = struct.Struct("=QQIIIId")
REPLY = struct.Struct("=Bdd")


def picture_offset(file_bytes: int) -> int:
    """Where in the buffer the resized picture begins."""
    return -(-file_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def serve(channel: socket.socket, buffer: Any, memory_bytes: int, niceness: int) -> None:
    """Decode until the service closes its end of the channel, or ends itself.

    Args:
        channel: to the service.
        buffer: what to `detach` the shared buffer's file descriptor from.
        memory_bytes: that decoding may take.
        niceness: to run at.
    """
    _confine(memory_bytes, niceness)
    descriptor = buffer.detach()
    mapped = np.empty(0, np.uint8)
    while True:
        message = channel.recv(REQUEST.size, socket.MSG_WAITALL)
        if len(message) < REQUEST.size:
            return
        request = Request(*REQUEST.unpack(message))
        if len(mapped) != request.buffer_bytes:
            mapped = np.frombuffer(mmap.mmap(descriptor, request.buffer_bytes), np.uint8)
        signal.setitimer(signal.ITIMER_PROF, request.cpu_seconds)
        reply = _decode(request, mapped)
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.sendall(REPLY.pack(*reply))


def _decode(request: Request, buffer: np.ndarray) -> Reply:
    started = time.process_time()
    size = ImageSize(request.frame_width, request.frame_height)
    begin = picture_offset(request.file_bytes)
    shape = (request.height, request.width, 3)
    target = buffer[begin : begin + request.height * request.width * 3].reshape(shape)
    try:
        rgb = decode_file(buffer[: request.file_bytes], size)
        cpu_seconds, decoded = time.process_time() - started, time.perf_counter()
        resize_bilinear(rgb, request.height, request.width, target)
    except InvalidInputError:
        return Reply(UNDECODABLE)
    except (MemoryError, cv2.error):
        return Reply(OUT_OF_MEMORY)
    return Reply(DECODED, cpu_seconds, time.perf_counter() - decoded)


def _confine(memory_bytes: int, niceness: int) -> None:
    """Give up what the process does not need; it ends when the service does."""
    # The service ends its processes itself; frames in flight are answered before.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(niceness)
    # Threads would take address space by the core.
    cv2.setNumThreads(1)
    _keep_freed_memory()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.path.exists("/proc/self/statm"):
        _limit_memory(memory_bytes)
    # libjpeg and libpng complain here of every stranger's file, and of some at any length.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 2)
    threading.Thread(target=_end_with_service, daemon=True).start()


def _keep_freed_memory() -> None:
    """What a frame took serves the next one: pages anew from the kernel cost a third of the time.

    In the service's own process other allocations keep glibc from giving it back.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)


def _limit_memory(memory_bytes: int) -> None:
    with open("/proc/self/statm", encoding="ascii") as file:
        present_bytes = int(file.read().split()[0]) * resource.getpagesize()
    limit = present_bytes + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    # If the machine runs out of memory all the same, this is what it can do without.
    with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")


def _end_with_service() -> None:
    service = parent_process()
    if service is not None:
        wait([service.sentinel])
        os._exit(0)
