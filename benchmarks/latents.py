"""Time and bytes of the latent codecs: each frame alone, and given the one before."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass

import numpy as np

from benchmarks.codec_rows import Measurement, median_ms
from common.bundle import BottleneckPart, Bundle
from common.codec import CodedLevels, LatentCoder, RateTables, read_latent_tables
from common.codec.latent_codes import LARGEST_ODDS, ODDS_UNIT
from common.codec.latent_order import Question, key_levels, next_levels
from common.domain.codec import LATENT_CODECS
from common.engines.base import Engine
from common.engines.registry import load_engine


@dataclass(frozen=True)
class _Coded:
    """A frame, the reference that it was coded given, and its bytes."""

    frame: CodedLevels
    reference: CodedLevels | None
    data: bytes


def measure_latents(bundle: Bundle, features: Sequence[np.ndarray]) -> list[Measurement]:
    """Every rate of a bottleneck, on features [1,C,h,w] of frames that follow each other."""
    bottleneck = bundle.manifest.bottleneck
    if bottleneck is None:
        return []
    tables = read_latent_tables(bundle.latent_tables(), bundle.manifest)
    rows = []
    with _loaded(bundle, BottleneckPart.ENCODER) as encoder:
        latents = [encoder.run({"features": each})["latents"] for each in features]
    with _loaded(bundle, BottleneckPart.DECODER) as decoder:
        for codec in LATENT_CODECS:
            coder = LatentCoder(bottleneck.rates[codec.value], tables.of(codec))
            for name, coded in _both_ways(coder, latents):
                shown = [decoder.run({"latents": coder.latents(each.frame)}) for each in coded]
                exact = np.concatenate(features[-len(coded) :])
                error = np.concatenate([each["features"] for each in shown]) - exact
                spread = exact - exact.mean(axis=(0, 2, 3), keepdims=True)
                rows.append(
                    _measurement(
                        f"{codec.value} {name}",
                        coder,
                        tables.of(codec),
                        coded,
                        4 * exact.size / len(coded),
                        float(np.linalg.norm(error) / np.linalg.norm(spread)),
                    )
                )
    return rows


@contextmanager
def _loaded(bundle: Bundle, part: BottleneckPart) -> Iterator[Engine]:
    with closing(load_engine("onnxruntime", bundle.onnx_path(part), 0)) as engine:
        yield engine


def _both_ways(
    coder: LatentCoder, latents: Sequence[np.ndarray]
) -> Iterator[tuple[str, list[_Coded]]]:
    """Each frame alone, and each but the first given the one before."""
    alone = [coder.levels(each) for each in latents]
    yield "alone", [_Coded(frame, None, coder.encode(frame)) for frame in alone]
    predicted = []
    reference = alone[0]
    for each in latents[1:]:
        frame = coder.levels(each, reference)
        predicted.append(_Coded(frame, reference, coder.encode(frame, reference)))
        reference = frame
    yield "given the frame before", predicted


def _measurement(  # noqa: PLR0917
    name: str,
    coder: LatentCoder,
    tables: RateTables,
    coded: Sequence[_Coded],
    fp32_bytes: float,
    relative_error: float,
) -> Measurement:
    mean_bytes = sum(len(each.data) for each in coded) / len(coded)
    theory = sum(theoretical_bytes(tables, each.frame, each.reference) for each in coded)
    return Measurement(
        name=name,
        encode_ms=median_ms(lambda each: coder.encode(each.frame, each.reference), coded),
        decode_ms=median_ms(
            lambda each: coder.decode(each.data, each.frame.levels.shape, each.reference), coded
        ),
        bytes_per_frame=mean_bytes,
        share_of_fp32=mean_bytes / fp32_bytes,
        over_entropy=mean_bytes * len(coded) / theory,
        bits_per_value=32 * mean_bytes / fp32_bytes,
        relative_error=relative_error,
    )


def theoretical_bytes(
    tables: RateTables, frame: CodedLevels, reference: CodedLevels | None
) -> float:
    """What an ideal coder makes of a frame by the odds of these tables."""
    ideal = _Ideal(tables)
    levels = frame.levels.astype(np.int32)
    if reference is None:
        channels, rows, columns = levels.shape
        key_levels(ideal, (channels, rows, columns), levels)
    else:
        next_levels(ideal, reference, levels)
    return ideal.nats / math.log(2) / 8


class _Ideal:
    """Answers truly, and adds up what the odds make of each answer."""

    def __init__(self, tables: RateTables) -> None:
        self._tables = tables
        self.nats = 0.0

    def ask(self, *questions: Question) -> list[np.ndarray]:
        answered = []
        for question in questions:
            answers = np.asarray(question.answers)
            tables = self._tables[question.kind].values()
            odds = np.zeros(answers.shape)
            for table, entries in zip(tables, question.entries, strict=True):
                odds = odds + np.array(table)[entries]
            odds = np.clip(odds, -LARGEST_ODDS, LARGEST_ODDS) / ODDS_UNIT
            self.nats += float(np.logaddexp(0, np.where(answers, -odds, odds)).sum())
            answered.append(answers.ravel())
        return answered

    def plain(self, bits: np.ndarray | None, count: int) -> np.ndarray:
        self.nats += count * math.log(2)
        return np.asarray(bits)
