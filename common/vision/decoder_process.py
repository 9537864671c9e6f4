"""A process that decodes pictures, and can be killed when one takes too long.

A thread that is in libjpeg or libpng cannot be stopped; a process can, by the kernel and to the
CPU second. It is forked from a server process of `multiprocessing`'s that holds the libraries
already, so that another is there within milliseconds, and never from the service itself, whose
threads and gRPC do not bear it.
"""

from __future__ import annotations

import atexit
import mmap
import multiprocessing
import os
import signal
import socket
import struct
import tempfile
import threading
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any, Optional, Tuple

import numpy as np

from common.domain.errors import ConfigurationError, InvalidInputError, UnavailableError
from common.vision import decoder_child
from common.vision.decode import copy_needed
from common.vision.decoder_child import REPLY, REQUEST, Reply, Request, picture_offset
from common.vision.headers import ImageHeader
from common.vision.limits import ImageSize

# Kept between frames; a larger frame's buffer is given back after it.
_KEPT_BUFFER_BYTES = 8 << 20
_END_SECONDS = 1.0
# What multiprocessing gives where the server of decoders, which would know it, is no more either.
_UNKNOWN_EXIT_CODE = 255

# multiprocessing keeps a set of all processes and looks at every one when it starts another.
_multiprocessing_lock = threading.Lock()


class CpuTimeError(Exception):
    """Decoding took more CPU time than it was given; the process is no more."""


@dataclass(frozen=True)
class Decoded:
    """A picture at the size asked for.

    Attributes:
        rgb: uint8 [height,width,3], in the shared buffer: overwritten by the next picture.
        decode_cpu_seconds: that decoding took.
        resize_seconds: that resizing took.
    """

    rgb: np.ndarray
    decode_cpu_seconds: float
    resize_seconds: float


def start_server() -> None:
    """Start the process that decoders are forked from; best before gRPC and threads are.

    Raises:
        ConfigurationError: it cannot be started, as without a folder for temporary files.
    """
    with _multiprocessing_lock:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([decoder_child.__name__])
        try:
            forkserver.ensure_running()
        except OSError as error:
            raise ConfigurationError(f"cannot start the decoders' process: {error}") from error


class DecoderProcess:
    """One process; one thread at a time may use it, any may close it."""

    def __init__(self, memory_bytes: int, niceness: int = 0) -> None:
        """Prepare; the process starts with `start`, or the first picture.

        Args:
            memory_bytes: that decoding may take.
            niceness: that the process runs at.
        """
        self._memory_bytes = memory_bytes
        self._niceness = niceness
        self._lock = threading.Lock()
        self._use_lock = threading.Lock()
        self._process: Optional[BaseProcess] = None
        self._channel: Optional[socket.socket] = None
        self._is_closed = False
        self._descriptor = _anonymous_file()
        self._buffer = np.empty(0, np.uint8)
        # Before multiprocessing's own, which would wait for a process that SIGTERM does not end.
        atexit.register(self.close)

    def start(self) -> None:
        """Start the process unless it runs.

        Raises:
            UnavailableError: this was closed, or the machine lets no process be started.
        """
        with self._lock:
            if self._is_closed:
                raise UnavailableError("the stage is shutting down")
            if self._process is None:
                self._process, self._channel = self._started()

    def decode(
        self,
        data: bytes,
        header: ImageHeader,
        size: ImageSize,
        cpu_seconds: float,
        wall_seconds: float,
    ) -> Decoded:
        """Decode a file and resize the picture.

        Args:
            data: the file.
            header: what was read of it.
            size: that the picture is wanted in.
            cpu_seconds: that it may take.
            wall_seconds: how long to wait for that on a busy machine.

        Raises:
            InvalidInputError: it cannot be decoded, or crashes the decoder.
            CpuTimeError: it took more than `cpu_seconds`.
            UnavailableError: this was closed, or the machine gives the process no time or memory.
        """
        with self._use_lock:
            self.start()
            return self._decode(data, header, size, cpu_seconds, wall_seconds)

    def close(self) -> None:
        """Kill the process at once, whatever it does; from any thread."""
        if self._is_closed:
            return
        self._is_closed = True
        # Waits for a start under way, so that none comes after; not for one that hangs.
        is_locked = self._lock.acquire(timeout=_END_SECONDS)
        process = self._process
        if is_locked:
            self._lock.release()
        atexit.unregister(self.close)
        if process is not None:
            process.kill()
        # Whoever decodes notices at once.
        if self._use_lock.acquire(timeout=_END_SECONDS):
            self._end()
            os.close(self._descriptor)
            self._use_lock.release()

    def _started(self) -> Tuple[BaseProcess, socket.socket]:
        context = multiprocessing.get_context("forkserver")
        ours, theirs = socket.socketpair()
        process = context.Process(
            target=decoder_child.serve,
            args=(theirs, _Inherited(self._descriptor), self._memory_bytes, self._niceness),
            name="tandem-decoder",
        )
        try:
            with theirs, _multiprocessing_lock:
                process.start()
        except (OSError, EOFError) as error:
            ours.close()
            raise UnavailableError(f"no process can be started to decode: {error}") from error
        return process, ours

    def _decode(
        self,
        data: bytes,
        header: ImageHeader,
        size: ImageSize,
        cpu_seconds: float,
        wall_seconds: float,
    ) -> Decoded:
        file_bytes = header.needed_bytes
        begin = picture_offset(file_bytes)
        end = begin + size.height * size.width * 3
        self._resize_buffer(end)
        copy_needed(data, header, self._buffer[:file_bytes])
        request = Request(len(self._buffer), file_bytes, *header.size, *size, cpu_seconds)
        reply = self._ask(request, wall_seconds)
        if reply.status == decoder_child.UNDECODABLE:
            raise InvalidInputError("the image cannot be decoded")
        if reply.status == decoder_child.OUT_OF_MEMORY:
            raise InvalidInputError(
                "decoding the image takes more memory than the limit of "
                f"{self._memory_bytes >> 20} MiB"
            )
        rgb = self._buffer[begin:end].reshape(size.height, size.width, 3)
        return Decoded(rgb, reply.decode_cpu_seconds, reply.resize_seconds)

    def _ask(self, request: Request, wall_seconds: float) -> Reply:
        channel = self._channel
        if channel is None:
            raise UnavailableError("the decoder does not run")
        try:
            # Unlike `settimeout`, without a system call more for each of these.
            timeout = struct.pack("@ll", int(wall_seconds), int(wall_seconds % 1 * 1e6))
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            channel.sendall(REQUEST.pack(*request))
            answer = channel.recv(REPLY.size)
        except BlockingIOError:
            self._end()
            raise UnavailableError(
                f"decoding the image was given up after {wall_seconds:.0f} s: "
                "the machine is too busy"
            ) from None
        except OSError:
            answer = b""
        if len(answer) == REPLY.size:
            return Reply(*REPLY.unpack(answer))
        raise self._reason(self._end())

    def _end(self) -> Optional[int]:
        """Make sure that the process has ended; its exit code, if that can be found out."""
        with self._lock:
            process, self._process = self._process, None
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
        if process is None:
            return None
        with _multiprocessing_lock:
            process.join(_END_SECONDS)
            if process.exitcode is None:
                process.kill()
                process.join(_END_SECONDS)
            return process.exitcode

    def _reason(self, exit_code: Optional[int]) -> Exception:
        """What the end of a process says of the picture that it decoded."""
        if self._is_closed:
            return UnavailableError("the stage is shutting down")
        if exit_code == -signal.SIGPROF:
            return CpuTimeError()
        # The kernel, for want of memory, or an operator.
        if exit_code in (None, _UNKNOWN_EXIT_CODE, -signal.SIGKILL):
            return UnavailableError("the process that decoded the image was killed")
        return InvalidInputError(f"the image crashes the decoder (exit code {exit_code})")

    def _resize_buffer(self, needed_bytes: int) -> None:
        size = max(needed_bytes, _KEPT_BUFFER_BYTES)
        if size != len(self._buffer):
            os.ftruncate(self._descriptor, size)
            self._buffer = np.frombuffer(mmap.mmap(self._descriptor, size), np.uint8)


class _Inherited:
    """A file descriptor as an argument of a process, which `detach`es it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> Tuple[Any, ...]:
        return _same, (DupFd(self._descriptor),)


def _same(descriptor: object) -> object:
    return descriptor


def _anonymous_file() -> int:
    """A file descriptor of memory that has no name. Docker's /dev/shm would be too small."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tandem-frame")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
