"""Preprocessing: sizes as the official code computes them, values bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest

from common.bundle import FixedInput, Normalization, ShortestEdgeInput, StretchInput
from common.domain.frames import FrameGeometry
from common.vision.preprocess import letterbox_size, preprocess, resized_size, shortest_edge_size
from common.vision.resize import resize_bilinear

if TYPE_CHECKING:
    Picture = Callable[[int, int], np.ndarray]


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        # (height, width), worked out by hand from the official get_size_with_aspect_ratio
        ((480, 640), (800, 1066)),  # int(800 * 640 / 480) = int(1066.67)
        ((640, 480), (1066, 800)),
        ((1080, 1920), (750, 1333)),  # short side round(1333 * 1080 / 1920) = 750
        ((800, 800), (800, 800)),
        ((800, 1000), (800, 1000)),
        ((800, 1333), (800, 1333)),
        ((800, 1334), (799, 1332)),  # short side round(1333 * 800 / 1334), then int(1332.3)
        ((427, 640), (800, 1199)),
        ((100, 1000), (133, 1330)),  # int(133 * 10), not 1333
        ((1000, 333), (1333, 444)),
        ((1, 100_000), (1, 100_000)),
    ],
)
def test_shortest_edge_sizes(frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert shortest_edge_size(*frame, 800, 1333) == expected


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        ((480, 640), (240, 320)),
        ((640, 480), (320, 240)),
        ((320, 320), (320, 320)),
        ((10, 1000), (3, 320)),
        ((1, 1000), (1, 320)),
        ((100, 50), (320, 160)),
    ],
)
def test_letterbox_sizes(frame: tuple[int, int], expected: tuple[int, int]) -> None:
    assert letterbox_size(*frame, 320, 320) == expected


def torchvision_normalise(rgb: np.ndarray) -> np.ndarray:
    """to_tensor, then normalize, as torchvision computes them."""
    torch = pytest.importorskip("torch")
    tensor = torch.from_numpy(rgb).permute(2, 0, 1).float().div(255)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return tensor.sub(mean[:, None, None]).div(std[:, None, None]).numpy()


def test_shortest_edge_normalises_exactly(picture: Picture) -> None:
    rgb = picture(60, 80)
    policy = ShortestEdgeInput(shortest_edge=90, longest_edge=200)
    pixels, geometry = preprocess(rgb, policy, Normalization())
    assert pixels.shape == (1, 3, 90, 120)
    assert pixels.dtype == np.float32
    assert geometry == FrameGeometry(60, 80, 90, 120, 90, 120)
    expected = torchvision_normalise(resize_bilinear(rgb, 90, 120))
    np.testing.assert_array_equal(pixels[0], expected)


@pytest.mark.parametrize(
    ("frame", "width", "valid"),
    [((60, 80), 64, (48, 64)), ((80, 60), 96, (96, 72)), ((96, 64), 64, (96, 64))],
)
def test_fixed_pads_right_and_below_with_zeros(
    picture: Picture, frame: tuple[int, int], width: int, valid: tuple[int, int]
) -> None:
    rgb = picture(*frame)
    policy = FixedInput(height=96, width=width)
    pixels, geometry = preprocess(rgb, policy, Normalization())
    assert pixels.shape == (1, 3, 96, policy.width)
    assert (geometry.valid_height, geometry.valid_width) == valid
    assert (geometry.frame_height, geometry.frame_width) == frame
    expected = np.zeros_like(pixels[0])
    expected[:, : valid[0], : valid[1]] = torchvision_normalise(resize_bilinear(rgb, *valid))
    np.testing.assert_array_equal(pixels[0], expected)


@pytest.mark.parametrize("frame", [(60, 80), (80, 60), (11, 300), (48, 40)])
def test_stretch_fills_the_input_whatever_the_frame_s_shape(
    picture: Picture, frame: tuple[int, int]
) -> None:
    rgb = picture(*frame)
    policy = StretchInput(height=48, width=40)
    assert resized_size(*frame, policy) == (48, 40)
    pixels, geometry = preprocess(rgb, policy, Normalization())
    assert geometry == FrameGeometry(*frame, 48, 40, 48, 40)
    np.testing.assert_array_equal(pixels[0], torchvision_normalise(resize_bilinear(rgb, 48, 40)))


def test_without_normalisation_pixels_are_the_exact_fractions_of_255() -> None:
    torch = pytest.importorskip("torch")
    levels = np.arange(256, dtype=np.uint8)
    rgb = np.stack([levels.reshape(16, 16)] * 3, axis=-1)
    none = Normalization(mean=(0, 0, 0), std=(1, 1, 1))
    pixels, _ = preprocess(rgb, StretchInput(height=16, width=16), none)
    exact = torch.from_numpy(levels).float().div(255).numpy()
    for channel in pixels[0]:
        np.testing.assert_array_equal(channel.ravel(), exact)


def test_a_read_only_frame_is_taken(picture: Picture) -> None:
    rgb = picture(60, 80)
    expected = torchvision_normalise(rgb)
    rgb.setflags(write=False)
    pixels, _ = preprocess(rgb, FixedInput(height=60, width=80), Normalization())
    np.testing.assert_array_equal(pixels[0], expected)
