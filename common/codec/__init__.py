"""Feature codecs: a float32 tensor becomes bytes, and back. `docs/codecs.md` has the layouts."""

from common.codec.feature_codec import FeatureCodec, codec_named

__all__ = ["FeatureCodec", "codec_named"]
