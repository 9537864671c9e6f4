"""Every setting of a material, through running services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.bundle import Bundle
from common.domain.errors import ConfigurationError
from common.domain.frames import PixelFormat, RawImage
from experiments.rate_accuracy import video
from experiments.rate_accuracy.grid import Series, Setting, VideoSending
from experiments.rate_accuracy.material import Clip, Material
from experiments.rate_accuracy.messages import (
    features_message_bytes,
    image_message_bytes,
    predicted_message_bytes,
)
from experiments.rate_accuracy.tradeoff import Point
from tandem.cli.console import frame_progress
from tandem.client import DetectorClient
from tandem.evaluation.answers import Answer, AnswerFile
from tandem.evaluation.run import Supply, judge, stream_supplies
from tandem.evaluation.sending import JpegSending, SentPicture, as_jpeg, load, reduced

Pixels = NDArray[np.uint8]
Send = Callable[..., Awaitable[None]]
"""`stream_supplies` of one system, set and plan."""


@dataclass(frozen=True)
class Unit:
    """What goes through one stream, or may go on in another where frames do not depend on others.

    Attributes:
        name: for the file of its answers.
        image_ids: of its frames, in order.
        supplies: makes what is sent; takes a while.
        alone: every frame gets a stream of its own.
    """

    name: str
    image_ids: tuple[int, ...]
    supplies: Callable[[], list[Supply]]
    alone: bool = False


async def measure(
    client: DetectorClient, material: Material, setting: Setting, bundle: Bundle, folder: Path
) -> Point:
    """Send what has no answer yet, and judge all answers.

    Args:
        client: of the system that runs the bundle.
        material: to send.
        setting: how.
        bundle: the model.
        folder: keeps the answers; a run that was stopped goes on with them.

    Raises:
        ConfigurationError: answers in the folder are of something else.
        TandemError: see `stream_supplies`.
    """
    identity = {"setting": setting.key, "bundle": bundle.digest, **material.identity}
    send = partial(stream_supplies, client, material.pictures, setting.plan)
    answers: list[Answer] = []
    total, crossed = len(material.pictures.pictures), 0
    with frame_progress(f"{material.name}: {setting.key}", total) as advance:
        for unit in units(material, setting):
            path = folder / setting.key / f"{unit.name}.jsonl"
            if setting.over_time and not unit.alone:
                _drop_part(path, identity, len(unit.image_ids))
            with AnswerFile(path, identity) as file:
                await _answer(send, unit, file, advance)
            answers += file.answers
            crossed += sum(sent_bytes(file.answers, unit, material, setting, bundle))
    evaluation = judge(material.pictures, answers)
    if evaluation.bytes_per_frame is None:
        raise ConfigurationError(f"{setting.key}: the server did not tell the placement of a frame")
    return Point(
        series=setting.series,
        name=setting.name,
        bytes_per_frame=crossed / evaluation.frames,
        payload_bytes=evaluation.bytes_per_frame,
        figures=evaluation.scores.figures,
        frames=evaluation.frames,
        fps=evaluation.fps,
    )


def _drop_part(path: Path, identity: Mapping[str, Any], total: int) -> None:
    """Delete the answers of a clip that are not all.

    The next frame would begin the stream anew, and cost what a first frame costs.
    """
    if not path.exists():
        return
    with AnswerFile(path, identity) as file:
        complete = file.resumed == total
    if not complete:
        file.remove()


async def _answer(send: Send, unit: Unit, file: AnswerFile, advance: Callable[[], None]) -> None:
    """Let the file have every answer of a unit."""
    for _ in range(file.resumed):
        advance()
    if file.resumed == len(unit.image_ids):
        return
    supplies = unit.supplies()
    for stream in [[one] for one in supplies] if unit.alone else [supplies]:
        await send(stream, file, advance=advance)


def units(material: Material, setting: Setting) -> Iterator[Unit]:
    """What goes through a stream each."""
    if not material.clips:
        pictures = material.pictures
        supplies = [
            Supply(one.image_id, one.path.name, partial(load, one, setting.plan.jpeg))
            for one in pictures.pictures
        ]
        yield Unit("pictures", tuple(pictures.image_ids), lambda: supplies, setting.over_time)
        return
    for clip in material.clips:
        yield Unit(
            f"clip-{clip.number:03d}", clip.image_ids, partial(_clip_supplies, clip, setting)
        )


def sent_bytes(
    answers: list[Answer], unit: Unit, material: Material, setting: Setting, bundle: Bundle
) -> Iterator[int]:
    """What was sent for each frame of a unit, the message included; in order of the stream."""
    by_id = {answer.image_id: answer for answer in answers}
    manifest, codec = bundle.manifest, setting.plan.codec
    for position, image_id in enumerate(unit.image_ids):
        payload = by_id[image_id].link_bytes or 0
        frame_id = 0 if unit.alone else position
        if setting.video is not None:
            yield payload
        elif setting.series in (Series.JPEG, Series.REDUCED_JPEG) or codec is None:
            yield image_message_bytes(payload, frame_id)
        elif setting.series is Series.LATENTS and frame_id > 0:
            yield predicted_message_bytes(payload)
        else:
            size = material.sizes[image_id]
            yield features_message_bytes(payload, frame_id, size, manifest, codec)


def _clip_supplies(clip: Clip, setting: Setting) -> list[Supply]:
    frames = clip.frames()
    if setting.video is not None:
        pictures = list(video_pictures(frames, setting.video))
        makers = [partial(_as_it_is, picture) for picture in pictures]
    elif setting.plan.jpeg is not None:
        makers = [partial(_jpeg, pixels, setting.plan.jpeg) for pixels in frames]
    else:
        makers = [partial(_raw, pixels) for pixels in frames]
    return [
        Supply(image_id, f"frame {position} of {clip.path}", make)
        for position, (image_id, make) in enumerate(zip(clip.image_ids, makers, strict=True))
    ]


def video_pictures(frames: list[Pixels], sending: VideoSending) -> Iterator[SentPicture]:
    """Frames as they come out of a video, each with the bytes of its packet.

    Args:
        frames: RGB uint8, [H,W,3].
        sending: how they are encoded.
    """
    smaller = [reduced(pixels, sending.policy) for pixels in frames]
    packets = video.encode(smaller, sending.quality)
    height, width = smaller[0].shape[:2]
    decoded = video.decode(packets, sending.quality.codec, (height, width))
    for pixels, packet in zip(decoded, packets, strict=True):
        yield SentPicture(
            _image(pixels),
            scale_x=frames[0].shape[1] / width,
            scale_y=frames[0].shape[0] / height,
            link_bytes=len(packet),
        )


def _as_it_is(picture: SentPicture) -> SentPicture:
    return picture


def _jpeg(pixels: Pixels, jpeg: JpegSending) -> SentPicture:
    return as_jpeg(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), jpeg)


def _raw(pixels: Pixels) -> SentPicture:
    return SentPicture(_image(pixels))


def _image(pixels: Pixels) -> RawImage:
    height, width = pixels.shape[:2]
    return RawImage(width, height, PixelFormat.RGB8, pixels.tobytes())
