"""What an honest peer sends, to be mutated: pictures of every kind, openings, features."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from common.bundle import Bundle, load_bundle
from common.codec import CutCodec, LatentCoders, LatentEncoder
from common.domain.codec import FEATURE_CODECS, LATENT_CODECS, EncodedFeatures
from common.domain.frames import FrameGeometry
from common.vision.preprocess import input_geometry
from common.wire.frames import features_to_wire
from protos.tandem.v1 import detector_pb2, stage_pb2, tensor_pb2
from tests.poison import png

_HEIGHT, _WIDTH = 48, 64
_SEED = 20200526
_PIXEL_FORMATS = (
    *(detector_pb2.PIXEL_FORMAT_RGB8, detector_pb2.PIXEL_FORMAT_BGR8),
    detector_pb2.PIXEL_FORMAT_GRAY8,
)


def picture_files() -> list[bytes]:
    """Small JPEG and PNG files of every kind that is decoded, and some that are not."""
    pixels = np.random.default_rng(_SEED).integers(0, 256, (6, 8, 3), np.uint8)
    rgb = Image.fromarray(pixels).resize((_WIDTH, _HEIGHT), Image.Resampling.BICUBIC)
    files = [
        _saved(rgb, "JPEG", quality=80),
        _saved(rgb, "JPEG", quality=80, progressive=True),
        _saved(rgb, "JPEG", quality=80, restart_marker_blocks=2),
        _saved(rgb, "JPEG", quality=80, subsampling=0, comment=b"honest"),
        _saved(rgb.convert("L"), "JPEG", progressive=True),
        _saved(rgb.convert("CMYK"), "JPEG"),
        _saved(rgb.convert("CMYK"), "JPEG", progressive=True),
        _saved(rgb, "PNG"),
        _saved(rgb.convert("RGBA"), "PNG"),
        _saved(rgb.convert("L"), "PNG"),
        _saved(rgb.convert("LA"), "PNG"),
        _saved(rgb.convert("P"), "PNG", transparency=3),
        _saved(rgb.convert("1"), "PNG"),
        _saved(rgb, "GIF"),
        _saved(rgb, "BMP"),
        _saved(rgb, "WEBP"),
        _saved(rgb, "TIFF"),
    ]
    for colour_type, depth in ((0, 1), (0, 16), (2, 8), (2, 16), (3, 4), (4, 16), (6, 16)):
        for is_interlaced in (False, True):
            file = png(
                _WIDTH,
                _HEIGHT,
                depth=depth,
                colour_type=colour_type,
                is_interlaced=is_interlaced,
            )
            files.append(file)
    return files


def _saved(image: Image.Image, kind: str, **values: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **values)
    return file.getvalue()


class Honest:
    """Messages to the stages of one bundle.

    Attributes:
        pictures: see `picture_files`.
        feature_shape: of the features that it makes.
    """

    def __init__(self, bundle: Path) -> None:
        """Make features with every codec that the bundle can be served with."""
        self.pictures = picture_files()
        self._bundle = load_bundle(bundle)
        self._features = list(_features(self._bundle))
        self.feature_shape = tuple(self._features[0].tensor.shape)

    def raw_image(self, draw: random.Random) -> detector_pb2.RawImage:
        """A small raw frame."""
        height, width = draw.randint(1, 40), draw.randint(1, 40)
        pixel_format = draw.choice(_PIXEL_FORMATS)
        channels = 1 if pixel_format == detector_pb2.PIXEL_FORMAT_GRAY8 else 3
        data = draw.randbytes(height * width * channels)
        return detector_pb2.RawImage(
            width=width, height=height, pixel_format=pixel_format, data=data
        )

    def features(self, draw: random.Random) -> stage_pb2.Features:
        """One frame's, by any codec."""
        features = stage_pb2.Features()
        features.CopyFrom(draw.choice(self._features))
        return features

    def some_features(self) -> stage_pb2.Features:
        """One frame's, always the same."""
        return self._features[0]

    def features_like(self, tensor: tensor_pb2.Tensor) -> stage_pb2.Features:
        """Those of one frame, with another tensor."""
        return stage_pb2.Features(geometry=self._features[0].geometry, tensor=tensor)

    def backbone_opening(self) -> stage_pb2.BackboneRequest:
        """Opens a stream from the edge's backbone to its transformer."""
        context = stage_pb2.StreamContext(session_id="fuzz", sender="orchestrator")
        return stage_pb2.BackboneRequest(
            open=stage_pb2.BackboneOpen(context=context, downstream_node="edge")
        )

    def transformer_opening(self, sender: str = "edge") -> stage_pb2.TransformerRequest:
        """Opens a stream to a transformer."""
        context = stage_pb2.StreamContext(session_id="fuzz", sender=sender)
        opening = stage_pb2.TransformerOpen(context=context, bundle_digest=self._bundle.digest)
        return stage_pb2.TransformerRequest(open=opening)


def _features(bundle: Bundle) -> Iterator[stage_pb2.Features]:
    manifest = bundle.manifest
    geometry = input_geometry(_HEIGHT, _WIDTH, manifest.input)
    sides, draw = (geometry.input_height, geometry.input_width), np.random.default_rng(_SEED)
    values = {
        tensor.name: draw.normal(0, 1, (1, tensor.channels, *tensor.grid(*sides))).astype(
            np.float32
        )
        for tensor in manifest.cut
    }
    codec = CutCodec(manifest)
    for kind in FEATURE_CODECS:
        yield features_to_wire(EncodedFeatures(0, codec.encode(values, kind), geometry))
    if manifest.bottleneck is not None:
        grid = manifest.cut[0].grid(*sides)
        yield from _latents(bundle, manifest.bottleneck.channels, geometry, grid)


def _latents(
    bundle: Bundle, channels: int, geometry: FrameGeometry, grid: tuple[int, int]
) -> Iterator[stage_pb2.Features]:
    """A frame that is coded alone and one that refers to it, at every rate."""
    coders, draw = LatentCoders.of_bundle(bundle), np.random.default_rng(_SEED)
    for kind in LATENT_CODECS:
        encoder = LatentEncoder(kind, coders.of(kind))
        for frame_id in range(2):
            latents = draw.integers(-300, 300, (1, channels, *grid)).astype(np.float32)
            yield features_to_wire(encoder.encode(frame_id, latents, geometry))
