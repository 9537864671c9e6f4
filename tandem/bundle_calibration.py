"""Measures a bundle's features on real frames, for the codecs q6 to q2."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from common.bundle import Bundle, Calibration, CodecDefaults, Manifest, load_bundle, write_bundle
from common.codec import FeatureCodec
from common.codec.feature_statistics import FeatureStatistics
from common.domain.codec import FEATURE_CODECS, Codec
from common.domain.errors import InvalidInputError
from common.domain.placement import Stage
from common.engines.base import Engine, Precision
from common.engines.registry import load_engine
from common.vision.decode import decode_image
from common.vision.limits import DEFAULT_MAX_PIXELS
from common.vision.preprocess import preprocess
from services.pipeline.shapes import compile_options
from tandem.sources import Source, SourceFrame

# Frames that every codec is tried on at the end.
_FRAMES_TRIED = 8


@dataclass(frozen=True)
class CodecTrial:
    """What a codec makes of the calibrated features.

    Attributes:
        codec: the codec that was tried.
        clip: half of its range, in standard deviations of a channel; None if it has none.
        bytes_per_frame: mean size of a frame's features.
        relative_error: root mean square error over the features' standard deviation.
    """

    codec: Codec
    clip: float | None
    bytes_per_frame: float
    relative_error: float


@dataclass(frozen=True)
class CalibratedBundle:
    """The bundle as it is now, and what each codec makes of its features."""

    bundle: Bundle
    trials: list[CodecTrial]


def calibrate_bundle(
    folder: Path,
    source: Source,
    frames: int,
    *,
    default: Codec | None = None,
    engine: str = "onnxruntime",
    advance: Callable[[], None] = lambda: None,
) -> CalibratedBundle:
    """Measure the features of a bundle and write its calibration into `bundle.json`.

    The bundle's digest changes, so every node needs the new manifest. The same frames give the
    same manifest on the same machine.

    Args:
        folder: the bundle's folder.
        source: frames like those that the bundle will see; it is read, not closed.
        frames: how many to use, evenly spread over the source if its length is known.
        default: codec that the bundle uses from now on; None: as before.
        engine: what runs the backbone.
        advance: called after each frame.

    Raises:
        ConfigurationError: the bundle or the engine is wrong.
        InvalidInputError: there are no frames, one cannot be decoded, or the features are not
            finite.
    """
    bundle = load_bundle(folder)
    # Their digests are written anew below, and must not bless a changed file.
    bundle.check_files()
    statistics = FeatureStatistics()
    tried: list[np.ndarray] = []
    every = max(1, frames // _FRAMES_TRIED)
    options = compile_options(bundle.manifest, Stage.BACKBONE, Precision.FP32, None)
    path = bundle.onnx_path(Stage.BACKBONE)
    with closing(
        load_engine(engine, path, 0, options, sha256=bundle.sha256(path.name))
    ) as backbone:
        for index, frame in enumerate(evenly_spread(source, frames)):
            features = _features(backbone, bundle.manifest, frame)
            statistics.add(features[0])
            if index % every == 0:
                tried.append(features)
            advance()
    calibration = statistics.calibration()
    calibrated = write_bundle(folder, _with_calibration(bundle.manifest, calibration, default))
    return CalibratedBundle(calibrated, try_codecs(calibration, tried))


def evenly_spread(source: Source, frames: int) -> Iterator[SourceFrame]:
    """At most so many frames: of the whole source, or, of unknown length, of its beginning."""
    every = max(1, (source.info.frame_count or 0) // frames)
    return islice(islice(source, 0, None, every), frames)


def try_codecs(calibration: Calibration, tensors: list[np.ndarray]) -> list[CodecTrial]:
    """What every codec of features makes of these, each [1,channels,rows,columns]."""
    codecs = FeatureCodec(calibration)
    mean = np.array(calibration.mean)[:, None, None]
    power = sum(float(np.square(tensor - mean).sum()) for tensor in tensors)
    trials = []
    for codec in FEATURE_CODECS:
        encoded = [codecs.encode(tensor, codec) for tensor in tensors]
        error = sum(
            float(np.square(codecs.decode(one) - tensor, dtype=np.float64).sum())
            for one, tensor in zip(encoded, tensors, strict=True)
        )
        trials.append(
            CodecTrial(
                codec=codec,
                clip=calibration.clip.get(codec.value),
                bytes_per_frame=sum(len(one.data) for one in encoded) / len(encoded),
                relative_error=(error / power) ** 0.5 if power else 0.0,
            )
        )
    return trials


def _features(backbone: Engine, manifest: Manifest, frame: SourceFrame) -> np.ndarray:
    """Of one frame: float32 [1,channels,rows,columns], only the cells that see the picture."""
    try:
        rgb = decode_image(frame.image, DEFAULT_MAX_PIXELS)
    except InvalidInputError as error:
        raise InvalidInputError(f"{frame.name}: {error}") from error
    pixels, geometry = preprocess(rgb, manifest.input, manifest.normalization)
    features = backbone.run({"pixels": pixels})["features"]
    stride = manifest.feature_stride
    rows, columns = -(-geometry.valid_height // stride), -(-geometry.valid_width // stride)
    return features[:, :, :rows, :columns]


def _with_calibration(
    manifest: Manifest, calibration: Calibration, default: Codec | None
) -> Manifest:
    name = default.value if default else manifest.codec.default
    codec = CodecDefaults(default=name, calibration=calibration)
    changed = manifest.model_copy(update={"codec": codec})
    # A copy is not validated, and what does not fit must not be written.
    return Manifest.model_validate(changed.model_dump())
