"""Feature codecs: a float32 tensor becomes bytes, and back. `docs/codecs.md` has the layouts."""

from common.codec.cut_codec import CutCodec
from common.codec.feature_codec import FeatureCodec, codec_named
from common.codec.latent import LatentCoder
from common.codec.latent_levels import CodedLevels
from common.codec.latent_streams import KeyReason, LatentCoders, LatentDecoder, LatentEncoder
from common.codec.latent_tables import LatentTables, RateTables, read_latent_tables

__all__ = [
    "CodedLevels",
    "CutCodec",
    "FeatureCodec",
    "KeyReason",
    "LatentCoder",
    "LatentCoders",
    "LatentDecoder",
    "LatentEncoder",
    "LatentTables",
    "RateTables",
    "codec_named",
    "read_latent_tables",
]
