"""The latent rates of a bundle, as a stage tells them when a stream opens."""

from __future__ import annotations

from typing import List

from common.bundle import Manifest
from common.domain.codec import LATENT_CODECS
from common.wire.frames import codec_to_wire
from protos.tandem.v1 import stage_pb2


def latent_rates_to_wire(manifest: Manifest) -> List[stage_pb2.LatentRate]:
    """What each of a bundle's rates costs and keeps, the finest first; those not measured lack."""
    if manifest.bottleneck is None:
        return []
    rates = []
    for codec in LATENT_CODECS:
        measured = manifest.bottleneck.rates[codec.value].measured
        if measured is not None:
            rates.append(
                stage_pb2.LatentRate(
                    codec=codec_to_wire(codec),
                    average_precision=measured.average_precision,
                    bytes_per_frame=measured.bytes_per_frame,
                    bytes_per_key_frame=measured.bytes_per_key_frame,
                )
            )
    return rates
