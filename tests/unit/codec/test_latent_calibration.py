"""Tables are made from what they are for, and cost little more than they say."""

import math

import numpy as np
import pytest

from common.bundle import Bottleneck, LatentRate, RateMeasurement
from common.codec.latent import LatentCoder
from common.codec.latent_calibration import (
    calibrate_latents,
    measure_latents,
    with_average_precision,
)
from common.codec.latent_codes import LARGEST_ODDS, ODDS_UNIT
from common.codec.latent_levels import CodedLevels
from common.codec.latent_order import key_levels, next_levels
from common.domain.codec import LATENT_CODECS, Codec
from common.domain.errors import InvalidInputError
from tests.unit.codec.latents import CHANNELS, STEP, calibrated, clip


def bottleneck(keep_within=12, measured=None):
    rate = LatentRate(step=STEP, keep_within=keep_within, measured=measured)
    return Bottleneck(channels=CHANNELS, rates={codec.value: rate for codec in LATENT_CODECS})


class Ideal:
    """Answers truly, and counts the bits that the tables make of each answer."""

    def __init__(self, tables):
        self.tables, self.bits = tables, 0.0

    def ask(self, *questions):
        for question in questions:
            entries = np.broadcast_arrays(*question.entries)
            tables = self.tables[question.kind].values()
            odds = sum(np.array(table)[entry] for table, entry in zip(tables, entries))
            odds = np.clip(odds, -LARGEST_ODDS, LARGEST_ODDS) / ODDS_UNIT
            self.bits += float(np.logaddexp(0, np.where(question.answers, -odds, odds)).sum())
        return [question.answers.ravel() for question in questions]

    def plain(self, bits, count):
        self.bits += count * math.log(2)
        return bits

    @property
    def byte_count(self):
        return self.bits / math.log(2) / 8


@pytest.mark.parametrize("keep_within", [0, 12])
@pytest.mark.parametrize("rows, columns", [(9, 12), (25, 34)])
def test_bytes_are_those_of_the_tables(keep_within, rows, columns):
    rate, tables = calibrated(keep_within=keep_within)
    one = LatentCoder(rate, tables)
    reference = None
    for frame in clip(6, rows=rows, columns=columns, seed=30):
        now = one.levels(frame[None], reference)
        ideal = Ideal(tables)
        levels = now.levels.astype(np.int32)
        if reference is None:
            key_levels(ideal, now.levels.shape, levels)
        else:
            next_levels(ideal, reference, levels)
        assert len(one.encode(now, reference)) <= 1.03 * ideal.byte_count + 16
        reference = now


def test_neighbours_save_bytes():
    """Against each channel's histogram over all frames, which no code without contexts beats."""
    one = LatentCoder(*calibrated(keep_within=12))
    frames = [one.levels(clip(1, seed=seed)[0][None]) for seed in range(40, 60)]
    coded_bytes = sum(len(one.encode(frame)) for frame in frames)
    bits = 0.0
    for channel in np.stack([frame.levels for frame in frames], axis=1):
        counts = np.unique(channel, return_counts=True)[1]
        bits -= float((counts * np.log2(counts / counts.sum())).sum())
    assert coded_bytes < 0.97 * bits / 8


def test_the_frame_before_saves_bytes():
    one = LatentCoder(*calibrated(keep_within=12))
    reference, alone, given = None, [], []
    for frame in clip(12, seed=31):
        now = one.levels(frame[None], reference)
        if reference is not None:
            alone.append(len(one.encode(CodedLevels.after(None, now.levels))))
            given.append(len(one.encode(now, reference)))
        reference = now
    assert np.mean(given) < 0.6 * np.mean(alone)


def test_tables_of_other_latents_cost_more():
    wide = [2 * clip(8, seed=seed) for seed in (1, 2)]
    fitting = calibrate_latents(bottleneck(), wide).of(Codec.LATENT)
    frame = 2 * clip(1, seed=3)[0][None]
    sizes = []
    for tables in (fitting, calibrated(keep_within=12)[1]):
        one = LatentCoder(bottleneck().rates["latent"], tables)
        sizes.append(len(one.encode(one.levels(frame))))
    assert sizes[0] < sizes[1]


def test_the_same_clips_give_the_same_tables():
    clips = [clip(4, seed=seed) for seed in (1, 2)]
    assert calibrate_latents(bottleneck(), clips) == calibrate_latents(bottleneck(), clips)


def test_single_frames_count_for_key_frames():
    clips = [clip(4, seed=1)]
    singles = [frame[None] for frame in 3 * clip(6, seed=2)]
    with_singles = calibrate_latents(bottleneck(), clips + singles).of(Codec.LATENT)
    without = calibrate_latents(bottleneck(), clips).of(Codec.LATENT)
    assert with_singles["next_changed"] == without["next_changed"]
    assert with_singles["key_some"] != without["key_some"]


def test_what_the_rates_cost_is_measured_and_what_they_keep_stays():
    before = RateMeasurement(average_precision=0.7, bytes_per_frame=1, bytes_per_key_frame=1)
    described = bottleneck(measured=before)
    clips = [clip(5, seed=5)]
    tables = calibrate_latents(described, clips)
    measured = measure_latents(described, tables, clips).rates["latent"].measured
    assert measured.average_precision == 0.7
    assert 1 < measured.bytes_per_frame < measured.bytes_per_key_frame


def test_what_the_rates_keep_is_noted_beside_what_they_cost():
    before = RateMeasurement(average_precision=0.7, bytes_per_frame=1, bytes_per_key_frame=2)
    noted = with_average_precision(bottleneck(measured=before), {Codec.LATENT: 0.612345})
    after = {name: rate.measured for name, rate in noted.rates.items()}
    assert after["latent-fine"] == after["latent-coarse"] == before
    assert after["latent"] == before.model_copy(update={"average_precision": 0.6123})
    with pytest.raises(ValueError, match="bytes of latent have not been measured"):
        with_average_precision(bottleneck(), {Codec.LATENT: 0.6})


def test_what_cannot_be_calibrated_is_refused():
    with pytest.raises(InvalidInputError, match="give a video"):
        calibrate_latents(bottleneck(), [clip(1)])
    with pytest.raises(InvalidInputError, match="not those of 8 channels"):
        calibrate_latents(bottleneck(), [clip(2, channels=3)])
