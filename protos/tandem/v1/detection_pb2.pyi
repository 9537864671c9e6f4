from protos.tandem.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Box(_message.Message):
    __slots__ = ("x_min", "y_min", "x_max", "y_max")
    X_MIN_FIELD_NUMBER: _ClassVar[int]
    Y_MIN_FIELD_NUMBER: _ClassVar[int]
    X_MAX_FIELD_NUMBER: _ClassVar[int]
    Y_MAX_FIELD_NUMBER: _ClassVar[int]
    x_min: float
    y_min: float
    x_max: float
    y_max: float
    def __init__(self, x_min: _Optional[float] = ..., y_min: _Optional[float] = ..., x_max: _Optional[float] = ..., y_max: _Optional[float] = ...) -> None: ...

class Detection(_message.Message):
    __slots__ = ("category_id", "category_name", "score", "box", "track_id")
    CATEGORY_ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_NAME_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    BOX_FIELD_NUMBER: _ClassVar[int]
    TRACK_ID_FIELD_NUMBER: _ClassVar[int]
    category_id: int
    category_name: str
    score: float
    box: Box
    track_id: int
    def __init__(self, category_id: _Optional[int] = ..., category_name: _Optional[str] = ..., score: _Optional[float] = ..., box: _Optional[_Union[Box, _Mapping]] = ..., track_id: _Optional[int] = ...) -> None: ...

class Detections(_message.Message):
    __slots__ = ("detections",)
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    detections: _containers.RepeatedCompositeFieldContainer[Detection]
    def __init__(self, detections: _Optional[_Iterable[_Union[Detection, _Mapping]]] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("node", "decode_seconds", "preprocess_seconds", "queue_seconds", "execute_seconds", "encode_seconds", "postprocess_seconds", "held_seconds", "transfer_seconds", "request_bytes", "received_at_seconds", "execute_after_seconds", "power_watts", "codec")
    NODE_FIELD_NUMBER: _ClassVar[int]
    DECODE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PREPROCESS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXECUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENCODE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    POSTPROCESS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    HELD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EXECUTE_AFTER_SECONDS_FIELD_NUMBER: _ClassVar[int]
    POWER_WATTS_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    node: str
    decode_seconds: float
    preprocess_seconds: float
    queue_seconds: float
    execute_seconds: float
    encode_seconds: float
    postprocess_seconds: float
    held_seconds: float
    transfer_seconds: float
    request_bytes: int
    received_at_seconds: float
    execute_after_seconds: float
    power_watts: float
    codec: _tensor_pb2.Codec
    def __init__(self, node: _Optional[str] = ..., decode_seconds: _Optional[float] = ..., preprocess_seconds: _Optional[float] = ..., queue_seconds: _Optional[float] = ..., execute_seconds: _Optional[float] = ..., encode_seconds: _Optional[float] = ..., postprocess_seconds: _Optional[float] = ..., held_seconds: _Optional[float] = ..., transfer_seconds: _Optional[float] = ..., request_bytes: _Optional[int] = ..., received_at_seconds: _Optional[float] = ..., execute_after_seconds: _Optional[float] = ..., power_watts: _Optional[float] = ..., codec: _Optional[_Union[_tensor_pb2.Codec, str]] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("backbone", "transformer", "total_seconds", "received_at_seconds")
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMER_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SECONDS_FIELD_NUMBER: _ClassVar[int]
    RECEIVED_AT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    backbone: StageTiming
    transformer: StageTiming
    total_seconds: float
    received_at_seconds: float
    def __init__(self, backbone: _Optional[_Union[StageTiming, _Mapping]] = ..., transformer: _Optional[_Union[StageTiming, _Mapping]] = ..., total_seconds: _Optional[float] = ..., received_at_seconds: _Optional[float] = ...) -> None: ...
