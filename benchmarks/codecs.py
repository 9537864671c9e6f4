"""Time and bytes of every feature codec, on a bundle's own features of real frames.

`python -m benchmarks.codecs [--bundle DIR] [--source CLIP] [--input-size 800x1066]
[--batch 2] [--frames 8] [--csv FILE]` runs the backbone over frames of the source, calibrates on
the first half of them, encodes and decodes features of the second half, and prints, for each
codec, the median time of a call on one thread, the bytes, how those compare with fp32 and with the
zeroth-order entropy (each channel of each frame by its own histogram), and the error. If the bundle
has a bottleneck, its rates follow, alone and given the frame before, on the first frames. The same
frames as JPEG, at the network's input size, stand below: what a link would carry instead.
"""

from __future__ import annotations

import argparse
import csv
import platform
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, fields
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import zstandard
from rich.table import Table

from benchmarks.codec_rows import Measurement, median_ms
from benchmarks.latents import measure_latents
from common.bundle import Bundle, FixedInput, InputPolicy, Normalization, load_bundle, require_detr
from common.bundle.folder import LATENT_TABLES_NAME
from common.codec import FeatureCodec
from common.codec.feature_statistics import FeatureStatistics
from common.domain.codec import FEATURE_CODECS, Codec
from common.domain.placement import Stage
from common.engines.registry import load_engine
from common.files import replacing
from common.vision.preprocess import preprocess
from common.vision.resize import resize_bilinear
from tandem.bundle_calibration import evenly_spread
from tandem.cli.console import show_table
from tandem.pictures import decode_picture, encode_jpeg
from tandem.shipped import shipped_bundle, shipped_clip
from tandem.sources import open_source

JPEG_QUALITIES = (95, 90, 75, 50)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="folder of the model; default: the shipped one")
    parser.add_argument("--source", help="video or folder of pictures; default: the shipped clip")
    parser.add_argument(
        "--input-size", type=_size, help="HxW instead of the bundle's, such as 800x1066"
    )
    parser.add_argument("--batch", type=int, default=1, help="frames a tensor")
    parser.add_argument("--frames", type=int, default=8, help="frames measured")
    parser.add_argument("--csv", type=Path, help="where to write the table as CSV too")
    options = parser.parse_args()
    bundle = load_bundle(options.bundle or shipped_bundle())
    require_detr(bundle.manifest, "this benchmark, which measures one tensor a frame,")
    policy = options.input_size or bundle.manifest.input
    source = options.source or str(shipped_clip())
    frames = read_frames(source, 2 * options.frames)
    features = run_backbone(bundle, policy, frames)
    half = len(frames) // 2
    tensors = batched(features[half:], options.batch)
    rows = measure_codecs(features[:half], tensors)
    if LATENT_TABLES_NAME in bundle.manifest.files:
        following = read_frames(source, options.frames + 1, spread=False)
        rows += measure_latents(bundle, run_backbone(bundle, policy, following))
    rows += measure_jpeg(frames[half:], policy, rows[0].bytes_per_frame)
    title = f"{bundle.manifest.name}, tensors {tensors[0].shape}, {tensors[0].nbytes:,} bytes fp32"
    show(rows, title)
    if options.csv:
        write_csv(rows, options.csv, bundle, tensors[0].shape)


def read_frames(source: str, count: int, *, spread: bool = True) -> list[np.ndarray]:
    """Frames spread over the source, or its first ones, uint8 [H,W,3] RGB."""
    with closing(open_source(source)) as opened:
        return [
            cv2.cvtColor(decode_picture(frame.image), cv2.COLOR_BGR2RGB)
            for frame in (evenly_spread(opened, count) if spread else islice(opened, count))
        ]


def run_backbone(
    bundle: Bundle, policy: InputPolicy, frames: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Features of each frame, float32 [1,channels,rows,columns]."""
    with closing(load_engine("onnxruntime", bundle.onnx_path(Stage.BACKBONE), 0)) as backbone:
        return [
            backbone.run({"pixels": preprocess(frame, policy, bundle.manifest.normalization)[0]})[
                "features"
            ]
            for frame in frames
        ]


def batched(features: Sequence[np.ndarray], batch: int) -> list[np.ndarray]:
    """The features, `batch` frames a tensor; what is left over is dropped."""
    whole = len(features) // batch * batch
    return [np.concatenate(features[start : start + batch]) for start in range(0, whole, batch)]


def measure_codecs(
    calibrated_on: Sequence[np.ndarray], tensors: Sequence[np.ndarray]
) -> list[Measurement]:
    """Every codec on every tensor."""
    statistics = FeatureStatistics()
    for features in calibrated_on:
        statistics.add(features[0])
    codecs = FeatureCodec(statistics.calibration())
    return [measure_codec(codecs, codec, tensors) for codec in FEATURE_CODECS]


def measure_codec(codecs: FeatureCodec, codec: Codec, tensors: Sequence[np.ndarray]) -> Measurement:
    """One codec on every tensor."""
    encoded = [codecs.encode(tensor, codec) for tensor in tensors]
    decoded = [codecs.decode(one) for one in encoded]
    frames = sum(len(tensor) for tensor in tensors)
    total_bytes = sum(len(one.data) for one in encoded)
    fp32_bytes = sum(tensor.nbytes for tensor in tensors)
    exact = np.concatenate(tensors)
    spread = exact - exact.mean(axis=(0, 2, 3), keepdims=True)
    error = np.concatenate(decoded) - exact
    entropy = sum(entropy_bytes(values) for values in decoded)
    lossy = codec not in (Codec.FP32, Codec.FP16)
    return Measurement(
        name=codec.value,
        encode_ms=median_ms(lambda tensor: codecs.encode(tensor, codec), tensors),
        decode_ms=median_ms(codecs.decode, encoded),
        bytes_per_frame=total_bytes / frames,
        share_of_fp32=total_bytes / fp32_bytes,
        over_entropy=total_bytes / entropy if lossy else None,
        bits_per_value=32 * total_bytes / fp32_bytes,
        relative_error=float(np.linalg.norm(error) / np.linalg.norm(spread)),
    )


def measure_jpeg(
    frames: Sequence[np.ndarray], policy: InputPolicy, fp32_bytes: float
) -> list[Measurement]:
    """The frames at the network's input size, at several qualities."""
    pictures = [network_picture(frame, policy) for frame in frames]
    rows = []
    for quality in JPEG_QUALITIES:
        encode = partial(encode_jpeg, quality=quality)
        encoded = [encode(picture) for picture in pictures]
        mean_bytes = sum(len(image.data) for image in encoded) / len(encoded)
        rows.append(
            Measurement(
                name=f"JPEG q{quality}",
                encode_ms=median_ms(encode, pictures),
                decode_ms=median_ms(decode_picture, encoded),
                bytes_per_frame=mean_bytes,
                share_of_fp32=mean_bytes / fp32_bytes,
            )
        )
    return rows


def network_picture(frame: np.ndarray, policy: InputPolicy) -> np.ndarray:
    """A frame as large as the network sees it, without padding; uint8 [h,w,3] BGR."""
    geometry = preprocess(frame, policy, Normalization())[1]
    resized = resize_bilinear(frame, geometry.valid_height, geometry.valid_width)
    return cv2.cvtColor(resized, cv2.COLOR_RGB2BGR)


def entropy_bytes(values: np.ndarray) -> float:
    """Zeroth-order entropy of quantised values [frames,channels,rows,columns]."""
    bits = 0.0
    for channel in values.reshape(values.shape[0] * values.shape[1], -1):
        counts = np.unique(channel, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    return bits / 8


def show(rows: Sequence[Measurement], title: str) -> None:
    """Print the table."""
    table = Table(title=title)
    for field in fields(Measurement):
        heading = field.name.replace("_", " ")
        table.add_column(heading, justify="left" if field.name == "name" else "right")
    for row in rows:
        table.add_row(
            *(row.name, f"{row.encode_ms:.2f}", f"{row.decode_ms:.2f}"),
            *(f"{row.bytes_per_frame:,.0f}", f"{row.share_of_fp32:.1%}"),
            "" if row.over_entropy is None else f"{row.over_entropy:.3f}",
            "" if row.bits_per_value is None else f"{row.bits_per_value:.2f}",
            "" if row.relative_error is None else f"{row.relative_error:.2%}",
        )
    show_table(table)


def write_csv(
    rows: Sequence[Measurement], path: Path, bundle: Bundle, shape: tuple[int, ...]
) -> None:
    """Write the table, with what it was measured on in every row."""
    measured_on = {
        "bundle": bundle.manifest.name,
        "shape": "x".join(map(str, shape)),
        "machine": platform.machine(),
        "numpy": np.__version__,
        "zstd": ".".join(map(str, zstandard.ZSTD_VERSION)),
    }
    with replacing(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        names = [*(field.name for field in fields(Measurement)), *measured_on]
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows({**asdict(row), **measured_on} for row in rows)


def _size(text: str) -> FixedInput:
    height, width = (int(side) for side in text.split("x"))
    return FixedInput(height=height, width=width)


if __name__ == "__main__":
    main()
