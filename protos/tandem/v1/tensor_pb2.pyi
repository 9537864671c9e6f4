from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Codec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CODEC_UNSPECIFIED: _ClassVar[Codec]
    CODEC_FP32: _ClassVar[Codec]
    CODEC_FP16: _ClassVar[Codec]
    CODEC_INT8: _ClassVar[Codec]
    CODEC_Q6: _ClassVar[Codec]
    CODEC_Q5: _ClassVar[Codec]
    CODEC_Q4: _ClassVar[Codec]
    CODEC_Q3: _ClassVar[Codec]
    CODEC_Q2: _ClassVar[Codec]
    CODEC_LATENT_FINE: _ClassVar[Codec]
    CODEC_LATENT: _ClassVar[Codec]
    CODEC_LATENT_COARSE: _ClassVar[Codec]
CODEC_UNSPECIFIED: Codec
CODEC_FP32: Codec
CODEC_FP16: Codec
CODEC_INT8: Codec
CODEC_Q6: Codec
CODEC_Q5: Codec
CODEC_Q4: Codec
CODEC_Q3: Codec
CODEC_Q2: Codec
CODEC_LATENT_FINE: Codec
CODEC_LATENT: Codec
CODEC_LATENT_COARSE: Codec

class Tensor(_message.Message):
    __slots__ = ("shape", "codec", "data")
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    shape: _containers.RepeatedScalarFieldContainer[int]
    codec: Codec
    data: bytes
    def __init__(self, shape: _Optional[_Iterable[int]] = ..., codec: _Optional[_Union[Codec, str]] = ..., data: _Optional[bytes] = ...) -> None: ...
