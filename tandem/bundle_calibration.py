"""Measures a bundle's features and latents on real frames, for the codecs that need them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from common.bundle import (
    BottleneckPart,
    Bundle,
    Calibration,
    CodecDefaults,
    Graph,
    Manifest,
    load_bundle,
    write_bundle,
)
from common.bundle.folder import LATENT_TABLES_NAME
from common.codec import CutCodec
from common.codec.cut_statistics import CutStatistics, without_padding
from common.codec.latent_calibration import calibrate_latents, measure_latents
from common.domain.codec import FEATURE_CODECS, Codec
from common.domain.errors import InvalidInputError
from common.domain.frames import FrameGeometry
from common.domain.placement import Stage
from common.engines.base import Engine, Precision
from common.engines.registry import load_engine
from common.files import replace_text
from common.vision.decode import decode_image
from common.vision.limits import DEFAULT_MAX_PIXELS
from common.vision.preprocess import preprocess
from services.pipeline.shapes import compile_options
from tandem.sources import Source, SourceFrame
from tandem.sources.base import SourceKind

# Frames that every codec is tried on at the end.
_FRAMES_TRIED = 8
# Frames of a video that are looked at one after the other, to see how latents change.
_RUN_FRAMES = 30


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
    """Measure a bundle's features, and write its calibration into `bundle.json`.

    If it has a bottleneck and the source is a video, the tables of its latents are made as well,
    from short runs of frames that follow each other, and each rate's bytes are measured. A folder
    of pictures leaves the tables as they are.

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
        InvalidInputError: there are no frames, one cannot be decoded, the features are not
            finite, or there are only pictures for a bottleneck that has no tables yet.
    """
    bundle = load_bundle(folder)
    # Their digests are written anew below, and must not bless a changed file.
    bundle.check_files()
    seen = _look(bundle, source, frames, engine, advance)
    calibration = seen.statistics.calibration()
    manifest = _with_calibration(bundle.manifest, calibration, default)
    if seen.sequences and manifest.bottleneck is not None:
        tables = calibrate_latents(manifest.bottleneck, seen.sequences)
        bottleneck = measure_latents(manifest.bottleneck, tables, seen.sequences)
        files = {**manifest.files, LATENT_TABLES_NAME: ""}
        manifest = manifest.model_copy(update={"bottleneck": bottleneck, "files": files})
        replace_text(folder / LATENT_TABLES_NAME, tables.model_dump_json() + "\n")
    return CalibratedBundle(
        write_bundle(folder, manifest), try_codecs(manifest, calibration, seen.tried)
    )


@dataclass(frozen=True)
class _Seen:
    """What was seen of a source.

    Attributes:
        statistics: of the features of frames that are spread over it.
        tried: some of these frames' features, float32 [1,channels,rows,columns] by name.
        sequences: the latents of frames that follow each other, float32
            [frames,channels,rows,columns]; none without a bottleneck or of a folder of pictures.
    """

    statistics: CutStatistics
    tried: list[dict[str, np.ndarray]]
    sequences: list[np.ndarray]


def _look(
    bundle: Bundle, source: Source, frames: int, engine: str, advance: Callable[[], None]
) -> _Seen:
    count = source.info.frame_count
    runs: list[range] = []
    if bundle.manifest.bottleneck is not None:
        if source.info.kind in (SourceKind.VIDEO, SourceKind.LIVE):
            runs = runs_of(count, frames)
        elif LATENT_TABLES_NAME not in bundle.manifest.files:
            raise InvalidInputError(
                "the bundle's bottleneck is calibrated on frames that follow each other: give a "
                "video"
            )
    every = max(1, (count or 0) // frames)
    spread = range(0, every * frames, every)
    tried_every = every * max(1, frames // _FRAMES_TRIED)
    seen = _Seen(CutStatistics(bundle.manifest), [], [])
    latents: dict[range, list[np.ndarray]] = {run: [] for run in runs}
    last = max(run.stop for run in [spread, *runs])
    with ExitStack() as stack:
        backbone = stack.enter_context(_engine(bundle, Stage.BACKBONE, engine))
        encoder = (
            stack.enter_context(_engine(bundle, BottleneckPart.ENCODER, engine)) if runs else None
        )
        for index, frame in enumerate(islice(source, last)):
            followed = [run for run in runs if index in run]
            if index not in spread and not followed:
                continue
            features, geometry = _features(backbone, bundle.manifest, frame)
            if index in spread:
                on_picture = without_padding(bundle.manifest, features, geometry)
                seen.statistics.add(on_picture)
                if index % tried_every == 0:
                    seen.tried.append(on_picture)
                advance()
            if encoder is not None and followed:
                latents[followed[0]].append(encoder.run(features)["latents"][0])
    seen.sequences.extend(np.stack(run) for run in latents.values() if run)
    return seen


def runs_of(count: int | None, frames: int) -> list[range]:
    """Which frames of a video to look at one after the other: at most so many, in short runs.

    Args:
        count: how many frames the video has; of unknown length, its beginning is taken.
        frames: how many to look at.
    """
    if count is None or count <= frames:
        return [range(frames)]
    number = max(1, frames // _RUN_FRAMES)
    starts = (count * index // number for index in range(number))
    return [range(start, start + frames // number) for start in starts]


@contextmanager
def _engine(bundle: Bundle, graph: Graph, engine: str) -> Iterator[Engine]:
    options = compile_options(bundle.manifest, graph, Precision.FP32, None)
    path = bundle.onnx_path(graph)
    with closing(load_engine(engine, path, 0, options, sha256=bundle.sha256(path.name))) as loaded:
        yield loaded


def evenly_spread(source: Source, frames: int) -> Iterator[SourceFrame]:
    """At most so many frames: of the whole source, or, of unknown length, of its beginning."""
    every = max(1, (source.info.frame_count or 0) // frames)
    return islice(islice(source, 0, None, every), frames)


def try_codecs(
    manifest: Manifest, calibration: Calibration, frames: list[dict[str, np.ndarray]]
) -> list[CodecTrial]:
    """What every codec of features makes of a calibrated bundle's.

    Args:
        manifest: of the bundle, with its calibration.
        calibration: that of the manifest.
        frames: the features of each, float32 [1,channels,rows,columns] by name.
    """
    codecs = CutCodec(manifest)
    parts = calibration.of_tensors([tensor.channels for tensor in manifest.cut])
    means = {
        tensor.name: np.array(part.mean)[:, None, None]
        for tensor, part in zip(manifest.cut, parts, strict=True)
    }
    power = sum(_squares(values, means) for values in frames)
    trials = []
    for codec in FEATURE_CODECS:
        encoded = [codecs.encode(values, codec) for values in frames]
        error = sum(
            _squares(codecs.decode(one), values)
            for one, values in zip(encoded, frames, strict=True)
        )
        sizes = [len(tensor.data) for tensors in encoded for tensor in tensors]
        trials.append(
            CodecTrial(
                codec=codec,
                clip=calibration.clip.get(codec.value),
                bytes_per_frame=sum(sizes) / len(encoded),
                relative_error=(error / power) ** 0.5 if power else 0.0,
            )
        )
    return trials


def _squares(values: Mapping[str, np.ndarray], others: Mapping[str, np.ndarray]) -> float:
    """The sum of the squared differences, over all tensors."""
    return sum(
        float(np.square(values[name] - other, dtype=np.float64).sum())
        for name, other in others.items()
    )


def _features(
    backbone: Engine, manifest: Manifest, frame: SourceFrame
) -> tuple[dict[str, np.ndarray], FrameGeometry]:
    """Of one frame: float32 [1,channels,h,w] by name, and its sizes."""
    try:
        rgb = decode_image(frame.image, DEFAULT_MAX_PIXELS)
    except InvalidInputError as error:
        raise InvalidInputError(f"{frame.name}: {error}") from error
    pixels, geometry = preprocess(rgb, manifest.input, manifest.normalization)
    return backbone.run({"pixels": pixels}), geometry


def _with_calibration(
    manifest: Manifest, calibration: Calibration, default: Codec | None
) -> Manifest:
    name = default.value if default else manifest.codec.default
    codec = CodecDefaults(default=name, calibration=calibration)
    changed = manifest.model_copy(update={"codec": codec})
    # A copy is not validated, and what does not fit must not be written.
    return type(changed).model_validate(changed.model_dump())
