"""Turns RGB pixels into the backbone's input."""

from __future__ import annotations

import functools
from typing import Optional, Tuple

import cv2
import numpy as np

from common.bundle import FixedInput, InputPolicy, Normalization, StretchInput
from common.domain.frames import FrameGeometry
from common.vision.resize import resize_bilinear


def preprocess(
    rgb: np.ndarray, policy: InputPolicy, normalization: Normalization
) -> Tuple[np.ndarray, FrameGeometry]:
    """Resize, normalise and (for a fixed input) pad one frame.

    The normalised values are bit for bit those of torchvision's `to_tensor` and `normalize`; the
    resize is PIL's within the bounds that `common.vision.resize` states. Padding is 0 after
    normalisation, on the right and below, as in DETR's batches.

    Args:
        rgb: uint8 [H,W,3].
        policy: the bundle's input size.
        normalization: the bundle's mean and standard deviation.

    Returns:
        float32 [1,3,input_height,input_width], and the sizes that the frame went through.
    """
    geometry = input_geometry(rgb.shape[0], rgb.shape[1], policy)
    resized = resize_bilinear(rgb, geometry.valid_height, geometry.valid_width)
    return normalise(resized, geometry, normalization), geometry


def input_geometry(frame_height: int, frame_width: int, policy: InputPolicy) -> FrameGeometry:
    """Compute the sizes that a frame goes through."""
    height, width = resized_size(frame_height, frame_width, policy)
    input_size = (
        (policy.height, policy.width) if isinstance(policy, FixedInput) else (height, width)
    )
    return FrameGeometry(
        frame_height=frame_height,
        frame_width=frame_width,
        input_height=input_size[0],
        input_width=input_size[1],
        valid_height=height,
        valid_width=width,
    )


def resized_size(frame_height: int, frame_width: int, policy: InputPolicy) -> Tuple[int, int]:
    """The size that a frame is scaled to, without padding; height and width, pixels."""
    if isinstance(policy, StretchInput):
        return policy.height, policy.width
    if isinstance(policy, FixedInput):
        return letterbox_size(frame_height, frame_width, policy.height, policy.width)
    return shortest_edge_size(frame_height, frame_width, policy.shortest_edge, policy.longest_edge)


def shortest_edge_size(
    height: int, width: int, shortest_edge: int, longest_edge: Optional[int]
) -> Tuple[int, int]:
    """The size that DETR's resize gives a picture: `get_size_with_aspect_ratio`, as it rounds.

    Source: `datasets/transforms.py` of the official code. Where that yields 0, for a picture that
    is thousands of times longer than wide, the result here is 1.

    Returns:
        Height and width, pixels.
    """
    if longest_edge is not None:
        short, long = float(min(height, width)), float(max(height, width))
        if long / short * shortest_edge > longest_edge:
            shortest_edge = max(1, round(longest_edge * short / long))
    if width < height:
        return int(shortest_edge * height / width), shortest_edge
    return shortest_edge, int(shortest_edge * width / height)


def letterbox_size(height: int, width: int, input_height: int, input_width: int) -> Tuple[int, int]:
    """The largest size of a frame's shape that fits into the input; height and width, pixels."""
    scale = min(input_height / height, input_width / width)
    return (
        min(input_height, max(1, round(height * scale))),
        min(input_width, max(1, round(width * scale))),
    )


def normalise(rgb: np.ndarray, geometry: FrameGeometry, normalization: Normalization) -> np.ndarray:
    """Normalise and pad a resized picture to the backbone's input.

    Args:
        rgb: uint8 [valid_height,valid_width,3].
        geometry: the sizes that the frame went through.
        normalization: the bundle's mean and standard deviation.

    Returns:
        float32 [1,3,input_height,input_width], zero where there is no picture.
    """
    height, width = rgb.shape[:2]
    padded = np.empty((1, 3, geometry.input_height, geometry.input_width), np.float32)
    padded[:, :, height:] = 0
    padded[:, :, :height, width:] = 0
    # A look-up table a channel is faster than arithmetic (0.9 ms against 1.5 ms to 17 ms for
    # 800x1066 on a desktop core), and exact.
    tables = _normalisation_tables(normalization)
    for channel, table, target in zip(cv2.split(rgb), tables, padded[0]):
        cv2.LUT(channel, table, dst=target[:height, :width])
    return padded


@functools.lru_cache(maxsize=8)
def _normalisation_tables(normalization: Normalization) -> np.ndarray:
    """float32 [3,256]: the normalised number for each 8-bit value of each channel."""
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    mean = np.array(normalization.mean, np.float32)[:, None]
    std = np.array(normalization.std, np.float32)[:, None]
    return (levels - mean) / std
