"""A process that decodes what strangers send, and can be killed when that takes too long.

Nothing can stop a thread that is inside a decoder, but the kernel can end a process after an exact
amount of CPU time. The process is forked from the fork server of `multiprocessing`, which has
already loaded the libraries, so that a new one is ready within milliseconds. It is never forked
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
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any, Callable, Optional, Tuple

import numpy as np

from common.domain.errors import ConfigurationError, InvalidInputError, UnavailableError
from common.vision.confinement import Confinement, packed

# This much buffer is kept between frames; what a larger frame needed is given back after it.
_KEPT_BUFFER_BYTES = 8 << 20
_END_SECONDS = 1.0
# What multiprocessing reports when the fork server, which would know the exit code, has ended too.
_UNKNOWN_EXIT_CODE = 255
# What runs inside the processes, loaded once by the fork server.
_CHILDREN = [
    "common.vision.decoder_child",
    "common.vision.video.decoder_child",
    "common.vision.video.encoder_child",
]

# multiprocessing keeps a set of all processes and looks at every one when it starts another.
_multiprocessing_lock = threading.Lock()


class CpuTimeError(Exception):
    """Decoding took more CPU time than it was given, so that the kernel ended the process."""


def start_server() -> None:
    """Start the fork server that decoders come from; best before gRPC and any threads start.

    Raises:
        ConfigurationError: it cannot be started, for instance without a folder for temporary files.
    """
    with _multiprocessing_lock:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_CHILDREN)
        try:
            forkserver.ensure_running()
        except OSError as error:
            raise ConfigurationError(f"cannot start the decoders' process: {error}") from error


class ConfinedProcess:
    """One decoding process. One thread at a time may use it, and any thread may close it.

    Attributes:
        memory_bytes: the memory that decoding may take.
        buffer: uint8, shared with the process.
    """

    def __init__(
        self, serve: Callable[..., None], what: str, memory_bytes: int, niceness: int = 0
    ) -> None:
        """Prepare to decode; the process starts with `start`, or with the first request.

        Args:
            serve: what it runs, given a `Confinement`.
            what: what it decodes, for messages.
            memory_bytes: the memory that decoding may take.
            niceness: the niceness that the process runs at.
        """
        self.memory_bytes = memory_bytes
        self._serve = serve
        self._what = what
        self._niceness = niceness
        self._lock = threading.Lock()
        self._use_lock = threading.Lock()
        self._close_lock = threading.Lock()
        self._process: Optional[BaseProcess] = None
        self._channel: Optional[socket.socket] = None
        self._is_closed = False
        self._descriptor = _anonymous_file()
        self.buffer = np.empty(0, np.uint8)
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

    def ask(
        self,
        request: bytes,
        reply_bytes: int,
        fill: Callable[[np.ndarray], None],
        *,
        buffer_bytes: int,
        cpu_seconds: float,
        wall_seconds: float,
    ) -> bytes:
        """Have the process decode something, and start it if it does not run.

        Args:
            request: what it is asked.
            reply_bytes: the size of its reply.
            fill: writes what is to be decoded to the shared buffer.
            buffer_bytes: the size that the shared buffer has to have.
            cpu_seconds: the CPU time that it may take.
            wall_seconds: how long to wait for that on a busy machine.

        Raises:
            InvalidInputError: it crashes the decoder.
            CpuTimeError: it took more than `cpu_seconds`.
            UnavailableError: this was closed, or the machine gives the process no time or memory.
        """
        with self._use_lock:
            self.start()
            self._resize_buffer(buffer_bytes)
            fill(self.buffer)
            message = packed(len(self.buffer), cpu_seconds, request)
            return self._asked(message, reply_bytes, wall_seconds)

    def close(self) -> None:
        """Kill the process at once, whatever it is doing; any thread may call this."""
        with self._close_lock:
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
            target=self._serve,
            args=(
                Confinement(
                    theirs, _Inherited(self._descriptor), self.memory_bytes, self._niceness
                ),
            ),
            name="tandem-decoder",
        )
        try:
            with theirs, _multiprocessing_lock:
                process.start()
        except (OSError, EOFError) as error:
            ours.close()
            raise UnavailableError(f"no process can be started to decode: {error}") from error
        return process, ours

    def _asked(self, message: bytes, reply_bytes: int, wall_seconds: float) -> bytes:
        channel = self._channel
        if channel is None:
            raise UnavailableError("the decoder does not run")
        try:
            # `settimeout` would add a system call to each of the following.
            timeout = struct.pack("@ll", int(wall_seconds), int(wall_seconds % 1 * 1e6))
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
            channel.sendall(message)
            answer = channel.recv(reply_bytes)
        except BlockingIOError:
            self._end()
            raise UnavailableError(
                f"decoding the {self._what} was given up after {wall_seconds:.0f} s: "
                "the machine is too busy"
            ) from None
        except OSError:
            answer = b""
        if len(answer) == reply_bytes:
            return answer
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
        """The error that the end of a process means for what it was decoding."""
        if self._is_closed:
            return UnavailableError("the stage is shutting down")
        if exit_code == -signal.SIGPROF:
            return CpuTimeError()
        # By the kernel, which was short of memory, or by an operator.
        if exit_code in (None, _UNKNOWN_EXIT_CODE, -signal.SIGKILL):
            return UnavailableError(f"the process that decoded the {self._what} was killed")
        return InvalidInputError(f"the {self._what} crashes the decoder (exit code {exit_code})")

    def _resize_buffer(self, needed_bytes: int) -> None:
        size = max(needed_bytes, _KEPT_BUFFER_BYTES)
        if size != len(self.buffer):
            os.ftruncate(self._descriptor, size)
            self.buffer = np.frombuffer(mmap.mmap(self._descriptor, size), np.uint8)


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
