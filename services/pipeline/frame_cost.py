"""How much memory a frame takes while a stage works on it."""

from __future__ import annotations

from common.bundle import Manifest
from common.domain.placement import Stage
from common.server.budget import FrameCost
from services.pipeline.shapes import largest_input_bytes, largest_latent_count

# A stage holds a message as it arrived, its payload, and what it decodes from that.
_COPIES_HELD = 3
# As the engine takes or gives it, as it is kept to be coded again, its level, and for each level
# whether it changed.
_BYTES_OF_A_LATENT = 4 + 2 + 2 + 1


def frame_cost(manifest: Manifest, stage: Stage, max_batch: int) -> FrameCost:
    """What a frame of a bundle takes.

    Args:
        manifest: of the bundle.
        stage: which half is served.
        max_batch: how many frames may be executed together.
    """
    # Frames are copied to be executed together.
    inputs = 2 if max_batch > 1 else 1
    return FrameCost(
        _COPIES_HELD,
        inputs * largest_input_bytes(manifest, stage)
        + _BYTES_OF_A_LATENT * largest_latent_count(manifest),
    )
