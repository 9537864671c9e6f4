"""Encoding and mask computed in numpy against the model's own, in torch."""

from __future__ import annotations

import numpy as np
import pytest

from common.domain.frames import FrameGeometry
from common.vision.position import PADDING_SCORE, transformer_inputs


def geometry(input_size: tuple[int, int], valid: tuple[int, int]) -> FrameGeometry:
    return FrameGeometry(1, 1, *input_size, *valid)


@pytest.mark.parametrize("hidden_dim", [64, 256])
@pytest.mark.parametrize(
    ("input_size", "valid", "grid"),
    [
        ((800, 1066), (800, 1066), (25, 34)),
        ((320, 320), (240, 320), (10, 10)),
        ((320, 320), (320, 181), (20, 20)),
        ((97, 131), (50, 90), (4, 5)),
        ((800, 1333), (799, 1), (25, 42)),
    ],
)
def test_equals_the_model(
    input_size: tuple[int, int], valid: tuple[int, int], grid: tuple[int, int], hidden_dim: int
) -> None:
    torch = pytest.importorskip("torch")
    from detr.model.backbone import PositionEmbeddingSine, resize_padding

    padding = torch.ones(1, *input_size, dtype=torch.bool)
    padding[:, : valid[0], : valid[1]] = False
    padding = resize_padding(padding, *grid)
    pos, mask = transformer_inputs(geometry(input_size, valid), grid, hidden_dim)
    assert pos.dtype == mask.dtype == np.float32
    np.testing.assert_array_equal(mask, (padding.float() * PADDING_SCORE).numpy())
    expected = PositionEmbeddingSine(hidden_dim)(padding).numpy()
    np.testing.assert_allclose(pos, expected, atol=2e-6, rtol=0)


def test_every_padding_resizes_as_torch_does() -> None:
    torch = pytest.importorskip("torch")
    from detr.model.backbone import resize_padding

    for total in range(33, 300, 7):
        cells = -(-total // 32)
        for valid in range(1, total + 1):
            padding = torch.ones(1, total, 4, dtype=torch.bool)
            padding[:, :valid] = False
            expected = resize_padding(padding, cells, 1)[0, :, 0].numpy()
            _, mask = transformer_inputs(geometry((total, 32), (valid, 32)), (cells, 1), 4)
            np.testing.assert_array_equal(mask[0, :, 0] < 0, expected)


def test_a_shape_is_computed_once_and_cannot_be_spoilt() -> None:
    one, same = (
        transformer_inputs(FrameGeometry(h, h, 320, 320, 240, 320), (10, 10), 32) for h in (5, 6)
    )
    assert one[0] is same[0]
    assert one[1] is same[1]
    for array in one:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
