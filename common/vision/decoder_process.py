"""A process that decodes pictures, and can be killed when one takes too long.

Nothing can stop a thread that is inside libjpeg or libpng, but the kernel can end a process after
an exact amount of CPU time. The process is forked from the fork server of `multiprocessing`, which
has already loaded the libraries, so that a new one is ready within milliseconds. It is never forked
from the service itself, because forking harms a process that has threads and uses gRPC.
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

# This much buffer is kept between frames; what a larger frame needed is given back after it.
_KEPT_BUFFER_BYTES = 8 << 20
_END_SECONDS = 1.0
# What multiprocessing reports when the fork server, which would know the exit code, has ended too.
_UNKNOWN_EXIT_CODE = 255

# multiprocessing keeps a set of all processes and looks at every one when it starts another.
_multiprocessing_lock = threading.Lock()


class CpuTimeError(Exception):
    """Decoding took more CPU time than it was given, so that the kernel ended the process."""


@dataclass(frozen=True)
class Decoded:
    """A picture at the size asked for.

    Attributes:
        rgb: uint8 [height,width,3] in the shared buffer, which the next picture overwrites.
        decode_cpu_seconds: the CPU time that decoding took.
        resize_seconds: the time that resizing took.
    """

    rgb: np.ndarray
    decode_cpu_seconds: float
    resize_seconds: float


def start_server() -> None:
    """Start the fork server that decoders come from; best before gRPC and any threads start.

    Raises:
        ConfigurationError: it cannot be started, for instance without a folder for temporary files.
    """
    with _multiprocessing_lock:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([decoder_child.__name__])
        try:
            forkserver.ensure_running()
        except OSError as error:
            raise ConfigurationError(f"cannot start the decoders' process: {error}") from error


class DecoderProcess:
    """One decoding process. One thread at a time may use it, and any thread may close it."""

    def __init__(self, memory_bytes: int, niceness: int = 0) -> None:
        """Prepare to decode; the process starts with `start`, or with the first picture.

        Args:
            memory_bytes: the memory that decoding may take.
            niceness: the niceness that the process runs at.
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
            UnavailableError: this was closed, or the machine allows no further process.
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
            data: the content of the file.
            header: what was read of it.
            size: the size that the picture is resized to.
            cpu_seconds: the CPU time that it may take.
            wall_seconds: how long to wait for that on a busy machine.

        Raises:
            InvalidInputError: the file cannot be decoded, or crashes the decoder.
            CpuTimeError: decoding took more than `cpu_seconds`.
            UnavailableError: this was closed, or the machine gives the process no time or memory.
        """
        with self._use_lock:
            self.start()
            return self._decode(data, header, size, cpu_seconds, wall_seconds)

    def close(self) -> None:
        """Kill the process at once, whatever it is doing; any thread may call this."""
        if self._is_closed:
            return
        self._is_closed = True
        # Wait for a start that is under way, so that no process comes after this. One that hangs
        # is not waited for.
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
            # `settimeout` would add a system call to each of the following.
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
        """Make sure that the process has ended; returns its exit code if that is known."""
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
        """The error that the end of a process means for the picture that it was decoding."""
        if self._is_closed:
            return UnavailableError("the stage is shutting down")
        if exit_code == -signal.SIGPROF:
            return CpuTimeError()
        # By the kernel, which was short of memory, or by an operator.
        if exit_code in (None, _UNKNOWN_EXIT_CODE, -signal.SIGKILL):
            return UnavailableError("the process that decoded the image was killed")
        return InvalidInputError(f"the image crashes the decoder (exit code {exit_code})")

    def _resize_buffer(self, needed_bytes: int) -> None:
        size = max(needed_bytes, _KEPT_BUFFER_BYTES)
        if size != len(self._buffer):
            os.ftruncate(self._descriptor, size)
            self._buffer = np.frombuffer(mmap.mmap(self._descriptor, size), np.uint8)


class _Inherited:
    """Passes a file descriptor to a new process, which takes it with `detach`."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __reduce__(self) -> Tuple[Any, ...]:
        return _same, (DupFd(self._descriptor),)


def _same(descriptor: object) -> object:
    return descriptor


def _anonymous_file() -> int:
    """A file descriptor of nameless memory. Docker's /dev/shm would be too small."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("tandem-frame")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
