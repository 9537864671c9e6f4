"""Latents become levels, and back: integers only, so that both ends agree on every machine."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import Optional, Tuple

import numpy as np

from common.bundle import LatentRate
from common.domain.errors import InvalidInputError

MAX_LATENT = 32767
"""The largest magnitude of a latent that a bottleneck's encoder gives."""


@dataclass(frozen=True, eq=False)
class CodedLevels:
    """The levels of one frame, as both ends hold them to code the next frame.

    Attributes:
        levels: int16 [channels,rows,columns].
        change: int32, of the same shape: the levels less those of the frame that this one was coded
            given; 0 in a key frame.
    """

    levels: np.ndarray
    change: np.ndarray

    @classmethod
    def after(cls, reference: Optional[CodedLevels], levels: np.ndarray) -> CodedLevels:
        """The levels of a frame that is coded given a reference, or alone."""
        if reference is None:
            return cls(levels, np.zeros(levels.shape, np.int32))
        return cls(levels, levels - reference.levels.astype(np.int32))

    @cached_property
    def check(self) -> int:
        """Seven bits that tell one reference from another (CRC-32's lowest; docs/codecs.md)."""
        levels = zlib.crc32(np.ascontiguousarray(self.levels, "<i2").tobytes())
        return zlib.crc32(np.ascontiguousarray(self.change, "<i4").tobytes(), levels) & 0x7F


def largest_level(rate: LatentRate) -> int:
    """The largest magnitude of a level at this rate."""
    return (2 * MAX_LATENT + rate.step) // (2 * rate.step)


def levels_of(
    rate: LatentRate, latents: np.ndarray, reference: Optional[CodedLevels]
) -> CodedLevels:
    """Quantise one frame's latents.

    Args:
        rate: its step, and how far a latent may be from the reference's to keep that one's level.
        latents: float32 [1,channels,rows,columns] with integer values.
        reference: the frame that this one will be coded given; None for a key frame.

    Raises:
        InvalidInputError: a latent is no number or beyond `MAX_LATENT`, the shape is no single
            frame's, or the reference's shape is another.
    """
    if latents.ndim != 4 or len(latents) != 1:
        raise InvalidInputError(f"latents have the shape {latents.shape}, which is no single frame")
    # Comparing with NaN gives False.
    if latents.size and not (latents.min() >= -MAX_LATENT and latents.max() <= MAX_LATENT):
        raise InvalidInputError(f"a latent is no number or beyond {MAX_LATENT}")
    values = latents[0].astype(np.int32)
    levels = ((2 * values + rate.step) // (2 * rate.step)).astype(np.int16)
    if reference is not None:
        check_shape(reference, levels.shape)
        previous = reference.levels.astype(np.int32) * rate.step
        np.copyto(levels, reference.levels, where=np.abs(values - previous) <= rate.keep_within)
    return CodedLevels.after(reference, levels)


def latents_of(rate: LatentRate, levels: np.ndarray) -> np.ndarray:
    """The latents of levels [channels,rows,columns]: float32 [1,channels,rows,columns], exact."""
    return (levels.astype(np.int32) * rate.step).astype(np.float32)[None]


def check_shape(reference: CodedLevels, shape: Tuple[int, ...]) -> None:
    """Check that a frame of this shape may be coded given the reference.

    Raises:
        InvalidInputError: the shapes differ.
    """
    if reference.levels.shape != shape:
        raise InvalidInputError(
            f"levels of shape {shape} cannot be coded given those of shape {reference.levels.shape}"
        )
