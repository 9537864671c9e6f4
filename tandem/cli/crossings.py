"""What crosses the link in the demo, side by side: JPEGs, video, `int8` features and latents."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from common.bundle import Bundle
from common.domain.codec import Codec
from common.domain.placement import Placement
from tandem.bench import link_bytes
from tandem.results import FrameResult
from tandem.shipped import Tally

JPEGS = "each frame as JPEG"
VIDEO = "the camera's H.264 as it is"


@dataclass(frozen=True)
class Crossing:
    """One way of sending the clip.

    Attributes:
        name: what crosses.
        kilobytes: of a frame, mean.
        clip: what was found in it; None if the model's boxes mean nothing.
    """

    name: str
    kilobytes: float
    clip: Tally | None


def compared_codecs(bundle: Bundle) -> list[Codec]:
    """The codecs that stand beside JPEGs and video."""
    return [Codec.INT8] if bundle.manifest.bottleneck is None else [Codec.INT8, Codec.LATENT]


def crossing_name(codec: Codec) -> str:
    """What crosses, in words."""
    what = "latents, codec" if codec is Codec.LATENT else "features, codec"
    return f"{what} {codec.value}"


def crossing(
    name: str, placement: Placement, results: Sequence[FrameResult], clip: Tally | None
) -> Crossing:
    """Sum up a run of the clip."""
    sizes = [link_bytes(placement, one.timing) for one in results]
    return Crossing(name, statistics.fmean(sizes) / 1000, clip)


def crossings_table(crossings: Sequence[Crossing]) -> Table:
    """A table for people."""
    table = Table("what crosses the link")
    for name in ("kB/frame", "objects found", "invented"):
        table.add_column(name, justify="right")
    for one in crossings:
        found = ("", "")
        if one.clip is not None:
            found = (f"{one.clip.found} of {one.clip.objects}", str(one.clip.invented))
        # Latents take a fraction of a kilobyte.
        table.add_row(one.name, f"{one.kilobytes:.{1 if one.kilobytes >= 1 else 2}f}", *found)
    return table
