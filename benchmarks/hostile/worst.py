"""Single messages of at most 64 MiB that cost as much as we could think of."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import zstandard

from benchmarks.hostile import calls
from benchmarks.hostile.honest import Honest
from benchmarks.hostile.mutations import nested
from protos.tandem.v1 import detector_pb2, stage_pb2, tensor_pb2
from tests import poison
from tests.attacks import delimited

_MEBIBYTE = 1 << 20
# With what is around them they are just below 64 MiB.
_LARGE_BYTES = 64 * _MEBIBYTE - 4096
_GRAY = detector_pb2.PIXEL_FORMAT_GRAY8
_RGB = detector_pb2.PIXEL_FORMAT_RGB8

TO_BARE = "/bare/Anything"
"""The method of what is sent to the bare server, to compare with."""

Make = Callable[[], bytes]


@dataclass(frozen=True)
class WorstMessage:
    """One message.

    Attributes:
        name: what it is.
        method: that it is sent to.
        make: the message; made when it is sent, since it is large.
        opening: sent before.
    """

    name: str
    method: str
    make: Make
    opening: tuple[bytes, ...] = field(default=())


def worst_messages(honest: Honest) -> Iterator[WorstMessage]:
    """All of them, after one to compare with."""
    yield WorstMessage("64 MiB to a bare gRPC server", TO_BARE, lambda: bytes(_LARGE_BYTES))
    to_backbone = (honest.backbone_opening().SerializeToString(),)
    to_transformer = (honest.transformer_opening().SerializeToString(),)
    for name, make_picture in _pictures().items():
        yield WorstMessage(name, calls.DETECT, _framed(make_picture))
    for name, make_raw in _raw_images().items():
        yield WorstMessage(name, calls.DETECT, make_raw)
    large_raw = _raw(5000, 4400, _RGB)
    yield WorstMessage(
        "the same, to the backbone",
        calls.BACKBONE,
        lambda: _to_backbone(large_raw()),
        to_backbone,
    )
    for name, make in _malformed().items():
        yield WorstMessage(name, calls.DETECT, make)
    for name, make in _features(honest).items():
        yield WorstMessage(name, calls.TRANSFORMER, make, to_transformer)
    large_name = delimited(1, b"n" * _LARGE_BYTES)
    for name, method in (
        ("health of a service with a name of 64 MiB", calls.HEALTH_CHECK),
        ("placement on a node with a name of 64 MiB", calls.SET_PLACEMENT),
        ("reflection of a name of 64 MiB", calls.REFLECTION),
    ):
        yield WorstMessage(name, method, lambda: large_name)


def _pictures() -> dict[str, Make]:
    def segments(content: bytes) -> Make:
        repeated = poison.segment(0xE1, content)
        return lambda: b"\xff\xd8" + repeated * (_LARGE_BYTES // len(repeated))

    def chunks(kind: bytes, content: bytes = b"") -> Make:
        repeated = poison.chunk(kind, content)
        start = poison.png(8, 8)[:33]
        return lambda: start + repeated * (_LARGE_BYTES // len(repeated))

    huge_text = poison.chunk(b"tEXt", b"a\0" + bytes(_LARGE_BYTES - 4096))
    return {
        "JPEG 7000 x 7000, 30,000 scans": lambda: poison.jpeg_of_empty_scans(7000, 7000, 30_000),
        "JPEG 7000 x 7000, 16 scans (allowed)": lambda: poison.jpeg_of_empty_scans(7000, 7000, 16),
        "JPEG 3500 x 3500, 64 scans (allowed)": lambda: poison.jpeg_of_empty_scans(3500, 3500, 64),
        "JPEG, 16 million empty markers": segments(b""),
        "JPEG, 64 MiB of segments": segments(bytes(65_000)),
        "JPEG, 64 MiB of 0xFF": lambda: b"\xff\xd8" + b"\xff" * _LARGE_BYTES,
        "JPEG, 64 MiB of 0xFF00": lambda: (
            poison.jpeg_start(5000, 5000, 0xC0) + b"\xff\0" * (_LARGE_BYTES // 2) + b"\xff\xd9"
        ),
        "JPEG, 64 MiB of restart markers": lambda: (
            poison.jpeg_start(5000, 5000, 0xC0) + b"\xff\xd0" * (_LARGE_BYTES // 2) + b"\xff\xd9"
        ),
        "PNG 1 x 1,000,000": lambda: poison.png(1, 1_000_000),
        "PNG 10 x 10, then 60 GB of zeros": lambda: poison.endless_png(60_000 * _MEBIBYTE),
        "PNG 880 x 55,000 (allowed)": lambda: poison.png(880, 55_000, colour_type=6, depth=16),
        "PNG 7000 x 7000, 16 bits, interlaced": lambda: poison.png(
            7000, 7000, colour_type=6, depth=16, is_interlaced=True
        ),
        "PNG, honest, 48 megapixels": poison.large_png,
        "PNG, 5 million empty chunks": chunks(b"teXt"),
        "PNG, 5 million empty chunks of pixels": chunks(b"IDAT"),
        "PNG, 1000 texts of 8 MB": lambda: poison.png(8, 8, extra=poison.zeros_in_text() * 1000),
        "PNG, one text of 64 MiB": lambda: poison.png(8, 8, extra=huge_text),
        "no picture, 64 MiB of zeros": lambda: bytes(_LARGE_BYTES),
    }


def _raw_images() -> dict[str, Make]:
    return {
        "raw, 1 x 50,000,000": _raw(1, 50_000_000, _GRAY),
        "raw, 880 x 55,000, grey (allowed)": _raw(880, 55_000, _GRAY),
        "raw, 8000 x 6000, grey (allowed)": _raw(8000, 6000, _GRAY),
        "raw, 63 MiB, RGB (allowed)": _raw(5000, 4400, _RGB),
        "raw, 63 MiB, of another size": _raw(16, 16, _RGB, 63 * _MEBIBYTE),
    }


def _malformed() -> dict[str, Make]:
    return {
        "32 million empty sub-messages": lambda: b"\x12\x00" * (_LARGE_BYTES // 2),
        "the same within a frame": lambda: delimited(2, b"\x22\x00" * (_LARGE_BYTES // 2)),
        "32 million unknown fields": lambda: b"\x78\x01" * (_LARGE_BYTES // 2),
        "32 million groups": lambda: b"\x7b\x7c" * (_LARGE_BYTES // 2),
        "20,000 messages within one another": lambda: nested(2, 20_000),
        "a node name of 10 MiB": lambda: delimited(1, delimited(6, b"n" * (10 * _MEBIBYTE))),
        "a node name of 64 MiB": lambda: delimited(1, delimited(6, b"n" * _LARGE_BYTES)),
        "64 MiB of noise": lambda: np.random.default_rng(0).bytes(_LARGE_BYTES),
    }


def _features(honest: Honest) -> dict[str, Make]:
    def with_data(codec: tensor_pb2.Codec, data: bytes) -> bytes:
        tensor = tensor_pb2.Tensor(shape=honest.feature_shape, codec=codec, data=data)
        return _to_transformer(honest.features_like(tensor))

    def with_shape(*shape: int) -> bytes:
        tensor = tensor_pb2.Tensor(
            shape=shape, codec=tensor_pb2.CODEC_FP32, data=bytes(63 * _MEBIBYTE)
        )
        return _to_transformer(honest.features_like(tensor))

    def bomb() -> bytes:
        return zstandard.ZstdCompressor().compress(bytes(1 << 30))

    return {
        "a shape of 60 million dimensions": lambda: delimited(
            2, delimited(3, delimited(1, b"\x01" * 60_000_000))
        ),
        "the same, unpacked": lambda: delimited(2, delimited(3, b"\x08\x01" * 30_000_000)),
        "features of 63 MiB, of another shape": lambda: with_shape(1, 8, 1376, 1500),
        "features of 63 MiB, of a huge shape": lambda: with_shape(*[2**32 - 1] * 8),
        "1 GiB of features in 64 kB": lambda: with_data(tensor_pb2.CODEC_INT8, bomb()),
        "features of 64 MiB of noise": lambda: with_data(
            tensor_pb2.CODEC_INT8, np.random.default_rng(0).bytes(63 * _MEBIBYTE)
        ),
    }


def _framed(make_picture: Make) -> Make:
    return lambda: detector_pb2.DetectRequest(
        frame=detector_pb2.Frame(frame_id=1, encoded=make_picture())
    ).SerializeToString()


def _raw(
    width: int, height: int, pixel_format: detector_pb2.PixelFormat, data_bytes: int | None = None
) -> Make:
    if data_bytes is None:
        data_bytes = width * height * (1 if pixel_format == _GRAY else 3)

    def make() -> bytes:
        raw = detector_pb2.RawImage(
            width=width, height=height, pixel_format=pixel_format, data=bytes(data_bytes)
        )
        frame = detector_pb2.Frame(frame_id=1, raw=raw)
        return detector_pb2.DetectRequest(frame=frame).SerializeToString()

    return make


def _to_backbone(request: bytes) -> bytes:
    """The frame of a request to the orchestrator, which has the same field."""
    return stage_pb2.BackboneRequest.FromString(request).SerializeToString()


def _to_transformer(features: stage_pb2.Features) -> bytes:
    features.frame_id = 1
    return stage_pb2.TransformerRequest(features=features).SerializeToString()
