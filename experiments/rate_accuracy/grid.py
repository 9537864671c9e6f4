"""What is compared: ways to get a frame's content across the link."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from common.bundle import InputPolicy, Manifest
from common.domain.codec import LATENT_CODECS, Codec
from common.domain.placement import Placement
from experiments.rate_accuracy.video import VideoCodec, VideoQuality
from tandem.evaluation.run import EvaluationPlan
from tandem.evaluation.sending import JpegSending

# Of frames as they are, and of frames at the network's size, which need more quality.
JPEG_QUALITIES = (80, 40, 20, 15, 10, 5)
REDUCED_JPEG_QUALITIES = (95, 80, 60, 40, 25, 15)
CLIP_JPEG_QUALITIES, REDUCED_CLIP_JPEG_QUALITIES = (80, 30, 10), (90, 60, 25)
CLIP_CODECS = (Codec.FP32, Codec.INT8, Codec.Q5, Codec.Q4, Codec.Q3, Codec.Q2)
# Beyond their ends AP does not rise, or is far below that of the features.
CRFS = {VideoCodec.H264: (18, 23, 28, 33), VideoCodec.H265: (23, 28, 33, 38)}
REDUCED_CRFS = {VideoCodec.H264: (14, 18, 23, 28), VideoCodec.H265: (14, 18, 23, 28, 33)}


class Series(StrEnum):
    """A line of the plot."""

    FEATURES = "features"
    LATENTS = "latents"
    JPEG = "jpeg"
    REDUCED_JPEG = "jpeg, reduced"
    H264 = "h264"
    REDUCED_H264 = "h264, reduced"
    H265 = "h265"
    REDUCED_H265 = "h265, reduced"


_VIDEO_SERIES = {
    VideoCodec.H264: (Series.H264, Series.REDUCED_H264),
    VideoCodec.H265: (Series.H265, Series.REDUCED_H265),
}


@dataclass(frozen=True)
class VideoSending:
    """Encode a clip as video.

    Attributes:
        quality: and codec.
        policy: reduce its frames first to the size that a model of this input policy sees; None:
            leave their size.
    """

    quality: VideoQuality
    policy: InputPolicy | None


@dataclass(frozen=True)
class Setting:
    """One point of the plot.

    Attributes:
        series: its line.
        name: of the codec, or `q` and JPEG's quality, or `crf` and the video's.
        plan: how the pictures go through the system.
        video: how a clip is encoded before; None: its frames go one by one.
    """

    series: Series
    name: str
    plan: EvaluationPlan
    video: VideoSending | None = None

    @property
    def key(self) -> str:
        """A name for files, different for every setting."""
        return f"{self.series.name.lower().replace('_', '-')}-{self.name}"

    @property
    def over_time(self) -> bool:
        """Whether a frame's bytes depend on the frames before it in its stream."""
        return self.video is not None or self.series is Series.LATENTS


def picture_settings(manifest: Manifest) -> list[Setting]:
    """Every codec, and every quality of JPEG both as clients send it and reduced beforehand.

    A client that knows the model's input size loses nothing but bytes by reducing the frame
    itself; so that is the baseline that the features have to beat.

    Args:
        manifest: of the model; without a bottleneck it has no latents.
    """
    plain = [codec for codec in Codec if codec not in LATENT_CODECS]
    return [
        *_features(plain),
        *_latents(manifest),
        *_jpegs(Series.REDUCED_JPEG, REDUCED_JPEG_QUALITIES, manifest.input),
        *_jpegs(Series.JPEG, JPEG_QUALITIES, None),
    ]


def clip_settings(manifest: Manifest) -> list[Setting]:
    """The codecs, some JPEGs, and videos of both sizes."""
    found = [
        *_features(CLIP_CODECS),
        *_latents(manifest),
        *_jpegs(Series.REDUCED_JPEG, REDUCED_CLIP_JPEG_QUALITIES, manifest.input),
        *_jpegs(Series.JPEG, CLIP_JPEG_QUALITIES, None),
    ]
    for codec, (full, reduced) in _VIDEO_SERIES.items():
        found += _videos(full, codec, CRFS[codec], None)
        found += _videos(reduced, codec, REDUCED_CRFS[codec], manifest.input)
    return found


def _features(codecs: Sequence[Codec]) -> list[Setting]:
    return [
        Setting(Series.FEATURES, codec.value, EvaluationPlan(Placement.BACKBONE, codec))
        for codec in codecs
    ]


def _latents(manifest: Manifest) -> list[Setting]:
    if manifest.bottleneck is None:
        return []
    return [
        Setting(Series.LATENTS, codec.value, EvaluationPlan(Placement.BACKBONE, codec))
        for codec in LATENT_CODECS
    ]


def _jpegs(series: Series, qualities: Sequence[int], size: InputPolicy | None) -> list[Setting]:
    return [
        Setting(series, f"q{quality}", _workstation(JpegSending(quality, size)))
        for quality in qualities
    ]


def _videos(
    series: Series, codec: VideoCodec, crfs: Sequence[int], size: InputPolicy | None
) -> list[Setting]:
    return [
        Setting(series, f"crf{crf}", _workstation(), VideoSending(VideoQuality(codec, crf), size))
        for crf in crfs
    ]


def _workstation(jpeg: JpegSending | None = None) -> EvaluationPlan:
    # The features do not cross the link, so they need no codec.
    return EvaluationPlan(Placement.WORKSTATION, Codec.FP32, jpeg)
