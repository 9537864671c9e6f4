"""What runs inside a decoding process: only the C libraries that touch strangers' bytes.

The service and the process share a buffer. The service writes the file at its start, and the
process writes the resized picture behind it. For each frame they exchange one struct each way over
a socket.
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
        buffer_bytes: the present size of the shared buffer.
        file_bytes: the size of the file at the buffer's start.
        frame_width: the width that the file's header promises, pixels.
        frame_height: the height that the file's header promises, pixels.
        width: the width of the picture that is wanted, pixels.
        height: the height of the picture that is wanted, pixels.
        cpu_seconds: the CPU time after which the kernel ends the process.
    """

    buffer_bytes: int
    file_bytes: int
    frame_width: int
    frame_height: int
    width: int
    height: int
    cpu_seconds: float


class Reply(NamedTuple):
    """The outcome: a status, the CPU time of decoding, and the time that resizing took."""

    status: int
    decode_cpu_seconds: float = 0.0
    resize_seconds: float = 0.0


REQUEST = struct.Struct("=QQIIIId")
REPLY = struct.Struct("=Bdd")


def picture_offset(file_bytes: int) -> int:
    """The offset in the buffer at which the resized picture begins."""
    return -(-file_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def serve(channel: socket.socket, buffer: Any, memory_bytes: int, niceness: int) -> None:
    """Decode frames until the service closes its end of the channel, or ends.

    Args:
        channel: the socket to the service.
        buffer: the object whose `detach` gives the shared buffer's file descriptor.
        memory_bytes: the memory that decoding may take.
        niceness: the niceness to run at.
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
    """Give up what the process does not need, and end with the service."""
    # The service answers the frames in flight first, and then ends its processes itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(niceness)
    # Every thread of OpenCV's would take address space.
    cv2.setNumThreads(1)
    _keep_freed_memory()
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
