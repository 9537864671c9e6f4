"""The GPU through pycuda: one context, one stream and page-locked buffers, all of one thread."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Dict, Iterator, Tuple

import numpy as np
import pycuda.driver as cuda

from common.domain.errors import EngineError


class Gpu:
    """The first GPU; its primary context is current on the thread that made this object."""

    def __init__(self) -> None:
        """Take the GPU.

        Raises:
            EngineError: there is no driver or no GPU.
        """
        try:
            cuda.init()
            device = cuda.Device(0)
            self._context = device.retain_primary_context()
            self._context.push()
        except cuda.Error as error:
            raise EngineError(f"tensorrt finds no usable NVIDIA GPU: {error}") from error
        self.name: str = device.name()
        self.compute_capability = "{}.{}".format(*device.compute_capability())
        self._stream = cuda.Stream()
        self._buffers: Dict[str, _Buffer] = {}

    @property
    def stream_handle(self) -> int:
        """CUDA's handle of the stream, which is not the default stream."""
        return int(self._stream.handle)

    def upload(self, name: str, array: np.ndarray) -> int:
        """Start copying a float32 array to the GPU; returns its address there."""
        buffer = self._buffer(name, array.size)
        host = buffer.host[: array.size]
        np.copyto(host, array.reshape(-1), casting="no")
        cuda.memcpy_htod_async(buffer.device, host, self._stream)
        return int(buffer.device)

    def reserve(self, name: str, shape: Tuple[int, ...]) -> int:
        """Make room for a float32 array; returns its address on the GPU."""
        return int(self._buffer(name, int(np.prod(shape))).device)

    def start_download(self, name: str, shape: Tuple[int, ...]) -> None:
        """Start copying an array back, which is complete after `synchronize`."""
        buffer = self._buffers[name]
        cuda.memcpy_dtoh_async(buffer.host[: int(np.prod(shape))], buffer.device, self._stream)

    def downloaded(self, name: str, shape: Tuple[int, ...]) -> np.ndarray:
        """The array that was copied back; the caller owns it."""
        return self._buffers[name].host[: int(np.prod(shape))].reshape(shape).copy()

    def synchronize(self) -> None:
        """Wait for everything that was started."""
        self._stream.synchronize()

    def close(self) -> None:
        """Free everything and let go of the context, on the thread that took it."""
        for buffer in self._buffers.values():
            buffer.device.free()
        # The page-locked memory and the stream are freed with their last reference, which needs the
        # context.
        self._buffers.clear()
        del self._stream
        self._context.pop()
        del self._context

    def _buffer(self, name: str, size: int) -> _Buffer:
        buffer = self._buffers.get(name)
        if buffer is None or buffer.host.size < size:
            if buffer is not None:
                # It is forgotten first, because allocating the new one may fail.
                del self._buffers[name]
                buffer.device.free()
            buffer = self._buffers[name] = _Buffer(size)
        return buffer


class _Buffer:
    """The two ends of a copy, `size` float32 each: page-locked memory, and memory of the GPU."""

    def __init__(self, size: int) -> None:
        self.host: np.ndarray = cuda.pagelocked_empty(size, np.float32)
        self.device = cuda.mem_alloc(self.host.nbytes)


@contextmanager
def cuda_errors() -> Iterator[None]:
    """Translate CUDA's errors into the project's."""
    try:
        yield
    except cuda.MemoryError as error:
        raise EngineError(f"tensorrt ran out of GPU memory: {error}") from error
    except cuda.Error as error:
        raise EngineError(f"tensorrt failed on the GPU: {error}") from error
