"""Feature codecs: a float32 tensor becomes bytes, and back."""

from common.codec.registry import codec_named, decode, encode

__all__ = ["codec_named", "decode", "encode"]
