"""Latents as a bottleneck's encoder gives them, and tables for them."""

import functools

import numpy as np

from common.bundle import Bottleneck, LatentRate
from common.codec.latent import LatentCoder
from common.codec.latent_calibration import calibrate_latents
from common.codec.latent_contexts import KINDS
from common.domain.codec import LATENT_CODECS, Codec

CHANNELS = 8
STEP = 16


def clip(frames, channels=CHANNELS, rows=9, columns=12, seed=0):
    """float32 [frames,channels,rows,columns], integers: smooth pictures that move, and noise."""
    random = np.random.default_rng(seed)
    picture = random.laplace(0, 20, (channels, rows + 2, columns + frames + 2))
    smooth = sum(
        picture[:, down : down + rows, right : right + columns + frames]
        for down in range(3)
        for right in range(3)
    )
    scale = np.linspace(0.3, 1, channels)[:, None, None]
    shown = [
        smooth[..., at // 3 : at // 3 + columns] * scale
        + random.normal(0, 2, (channels, rows, columns))
        for at in range(frames)
    ]
    return np.rint(np.stack(shown)).astype(np.float32)


@functools.lru_cache(maxsize=16)
def calibrated(channels=CHANNELS, keep_within=0):
    """Tables made from three clips."""
    rate = LatentRate(step=STEP, keep_within=keep_within)
    bottleneck = Bottleneck(channels=channels, rates={codec.value: rate for codec in LATENT_CODECS})
    clips = [clip(16, channels, seed=seed) for seed in (1, 2, 3)]
    return rate, calibrate_latents(bottleneck, clips).of(Codec.LATENT)


def coder(channels=CHANNELS, keep_within=0):
    return LatentCoder(*calibrated(channels, keep_within))


def invented(channels):
    """Tables by a formula, so that they are the same everywhere and touch every code."""
    tables = {}
    for number, (kind, of_kind) in enumerate(KINDS.items()):
        tables[kind] = {
            name: tuple(
                (53 * entry + 29 * number + 17 * place) % 79 - 50
                for entry in range(size.entries(channels))
            )
            for place, (name, size) in enumerate(of_kind.items())
        }
    return tables
