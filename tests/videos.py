"""Video for tests: access units that real encoders make, and bitstreams that no encoder makes."""

from __future__ import annotations

from fractions import Fraction
from typing import Dict, List, Sequence

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from common.domain.video import AccessUnit, VideoCodec

KEY_INTERVAL = 5

_ENCODERS = {VideoCodec.H264: "libx264", VideoCodec.H265: "libx265"}
_DECODERS = {VideoCodec.H264: "h264", VideoCodec.H265: "hevc"}


def moving_pictures(
    count: int, height: int = 120, width: int = 160, seed: int = 0, noise: int = 0
) -> np.ndarray:
    """Soft spots that move to the right: uint8 [count,height,width,3], RGB.

    Args:
        count: how many pictures.
        height: of each, pixels.
        width: of each, pixels.
        seed: of spots and noise.
        noise: the largest difference that it makes; it makes access units large.
    """
    spots = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), np.uint8)
    ground = cv2.resize(spots, (width, height), interpolation=cv2.INTER_CUBIC)
    pictures = np.stack([np.roll(ground, 3 * index, 1) for index in range(count)])
    added = np.random.default_rng(seed).integers(-noise, noise + 1, pictures.shape)
    return np.clip(pictures + added, 0, 255).astype(np.uint8)


def encoded(
    pictures: Sequence[np.ndarray],
    codec: VideoCodec = VideoCodec.H264,
    pixels: str = "yuv420p",
    b_frames: int = 0,
    **parameters: object,
) -> List[AccessUnit]:
    """Access units of pictures, with parameter sets in front of each key frame.

    Args:
        pictures: uint8 [height,width,3] each, RGB.
        codec: whose.
        pixels: FFmpeg's name of their format.
        b_frames: how many follow each other at most.
        parameters: of x264 or x265, with underscores for hyphens.
    """
    name = _ENCODERS[codec]
    height, width = pictures[0].shape[:2]
    context = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = width, height, pixels
    context.time_base, context.framerate = Fraction(1, 25), Fraction(25, 1)
    chosen = {
        "keyint": KEY_INTERVAL,
        "bframes": b_frames,
        "scenecut": 0,
        "repeat-headers": 1,
        **({"log-level": "none"} if codec is VideoCodec.H265 else {}),
        **{key.replace("_", "-"): value for key, value in parameters.items()},
    }
    text = ":".join(f"{key}={value}" for key, value in chosen.items())
    context.options = {"bf": str(b_frames), "preset": "veryfast", f"{name[3:]}-params": text}
    packets = []
    for index, picture in enumerate(pictures):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
        frame.pts = index
        packets += context.encode(frame)
    packets += context.encode(None)
    return [AccessUnit(bytes(packet), packet.is_keyframe) for packet in packets]


def decoded(units: Sequence[AccessUnit], codec: VideoCodec = VideoCodec.H264) -> List[np.ndarray]:
    """Pictures as FFmpeg decodes them in one go, in the order of display: uint8 RGB."""
    context = av.CodecContext.create(_DECODERS[codec], "r")
    reformatter = VideoReformatter()
    frames = []
    for unit in units:
        frames += context.decode(av.Packet(unit.data))
    frames += context.decode(None)
    return [reformatter.reformat(frame, format="rgb24").to_ndarray() for frame in frames]


def nal_units(data: bytes) -> List[bytes]:
    """The NAL units of a byte stream, without start codes."""
    return [part.rstrip(b"\0") for part in data.split(b"\0\0\1")[1:]]


def byte_stream(units: Sequence[bytes]) -> bytes:
    """NAL units with start codes."""
    return b"".join(b"\0\0\0\1" + unit for unit in units)


def without(unit: AccessUnit, kinds: Sequence[int], codec: VideoCodec) -> AccessUnit:
    """An access unit without its NAL units of these kinds."""
    kept = [each for each in nal_units(unit.data) if nal_kind(each, codec) not in kinds]
    return AccessUnit(byte_stream(kept), unit.key_frame)


def nal_kind(unit: bytes, codec: VideoCodec) -> int:
    """The `nal_unit_type` of a NAL unit."""
    return unit[0] & 0x1F if codec is VideoCodec.H264 else (unit[0] >> 1) & 0x3F


def cut(unit: AccessUnit, share: float) -> AccessUnit:
    """The first part of an access unit."""
    return AccessUnit(unit.data[: int(share * len(unit.data))], unit.key_frame)


class BitWriter:
    """Writes headers that no encoder would."""

    def __init__(self) -> None:
        """Begin empty."""
        self._bits = ""

    def put(self, value: int, count: int) -> BitWriter:
        """An unsigned number of so many bits."""
        self._bits += f"{value:0{count}b}"
        return self

    def unsigned(self, *values: int) -> BitWriter:
        """Exp-Golomb numbers."""
        for value in values:
            digits = f"{value + 1:b}"
            self._bits += "0" * (len(digits) - 1) + digits
        return self

    def payload(self) -> bytes:
        """All bits, with the stop bit, and with bytes of emulation prevention."""
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        plain = int(bits, 2).to_bytes(len(bits) // 8, "big")
        escaped = bytearray()
        for byte in plain:
            if escaped[-2:] == b"\0\0" and byte <= 3:
                escaped.append(3)
            escaped.append(byte)
        return bytes(escaped)


def h264_sps(width: int, height: int, **fields: int) -> bytes:
    """The NAL unit of a Main profile SPS of whole blocks.

    Args:
        width: pixels.
        height: pixels.
        fields: `references`, `reordered` (with usability information), `interlaced`.
    """
    values: Dict[str, int] = {"references": 1, "interlaced": 0, **fields}
    bits = BitWriter().put(77, 8).put(0, 8).put(40, 8)
    # The id, bits of frame_num less 4, order of kind 0, its bits less 4, references.
    bits.unsigned(0, 0, 0, 0, values["references"]).put(0, 1)
    rows = height // 16 // (2 if values["interlaced"] else 1)
    bits.unsigned(width // 16 - 1, rows - 1).put(1 - values["interlaced"], 1)
    if values["interlaced"]:
        bits.put(0, 1)
    bits.put(1, 1).put(0, 1)
    if "reordered" not in values:
        return b"\x67" + bits.put(0, 1).payload()
    # No part of the usability information but the last.
    bits.put(1, 1).put(0, 8).put(1, 1).put(1, 1).unsigned(0, 0, 0, 0)
    bits.unsigned(values["reordered"], max(values["references"], values["reordered"]))
    return b"\x67" + bits.payload()


def h264_pps() -> bytes:
    """The NAL unit of a PPS for it."""
    return b"\x68" + BitWriter().unsigned(0, 0).put(0, 2).unsigned(0, 0, 0).put(0, 8).payload()


def h264_slice(number: int, order: int, kind: int = 5) -> bytes:
    """The beginning of a P slice's NAL unit, and nothing behind; it looks whole to a reader."""
    is_idr = kind == 5
    bits = BitWriter().unsigned(0, 7 if is_idr else 5, 0).put(number % 16, 4)
    if is_idr:
        bits.unsigned(0)
    return bytes([0x60 | kind]) + bits.put(order % 16, 4).put(0x155, 20).payload()
