from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.rpc import status_pb2 as _status_pb2
from protos.tandem.v1 import detection_pb2 as _detection_pb2
from protos.tandem.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Placement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PLACEMENT_UNSPECIFIED: _ClassVar[Placement]
    PLACEMENT_FULL: _ClassVar[Placement]
    PLACEMENT_BACKBONE: _ClassVar[Placement]
    PLACEMENT_TRANSFORMER: _ClassVar[Placement]
    PLACEMENT_WORKSTATION: _ClassVar[Placement]

class OverloadPolicy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLOAD_UNSPECIFIED: _ClassVar[OverloadPolicy]
    OVERLOAD_BLOCK: _ClassVar[OverloadPolicy]
    OVERLOAD_DROP_OLDEST: _ClassVar[OverloadPolicy]

class VideoCodec(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VIDEO_CODEC_UNSPECIFIED: _ClassVar[VideoCodec]
    VIDEO_CODEC_H264: _ClassVar[VideoCodec]
    VIDEO_CODEC_H265: _ClassVar[VideoCodec]

class PixelFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PIXEL_FORMAT_UNSPECIFIED: _ClassVar[PixelFormat]
    PIXEL_FORMAT_RGB8: _ClassVar[PixelFormat]
    PIXEL_FORMAT_BGR8: _ClassVar[PixelFormat]
    PIXEL_FORMAT_GRAY8: _ClassVar[PixelFormat]
PLACEMENT_UNSPECIFIED: Placement
PLACEMENT_FULL: Placement
PLACEMENT_BACKBONE: Placement
PLACEMENT_TRANSFORMER: Placement
PLACEMENT_WORKSTATION: Placement
OVERLOAD_UNSPECIFIED: OverloadPolicy
OVERLOAD_BLOCK: OverloadPolicy
OVERLOAD_DROP_OLDEST: OverloadPolicy
VIDEO_CODEC_UNSPECIFIED: VideoCodec
VIDEO_CODEC_H264: VideoCodec
VIDEO_CODEC_H265: VideoCodec
PIXEL_FORMAT_UNSPECIFIED: PixelFormat
PIXEL_FORMAT_RGB8: PixelFormat
PIXEL_FORMAT_BGR8: PixelFormat
PIXEL_FORMAT_GRAY8: PixelFormat

class DetectRequest(_message.Message):
    __slots__ = ("options", "frame")
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    options: StreamOptions
    frame: Frame
    def __init__(self, options: _Optional[_Union[StreamOptions, _Mapping]] = ..., frame: _Optional[_Union[Frame, _Mapping]] = ...) -> None: ...

class StreamOptions(_message.Message):
    __slots__ = ("placement", "score_threshold", "max_detections", "overload", "codec", "backbone_node", "transformer_node", "max_link_bits_per_second", "video", "track", "model")
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    OVERLOAD_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_NODE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMER_NODE_FIELD_NUMBER: _ClassVar[int]
    MAX_LINK_BITS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    TRACK_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    placement: Placement
    score_threshold: float
    max_detections: int
    overload: OverloadPolicy
    codec: _tensor_pb2.Codec
    backbone_node: str
    transformer_node: str
    max_link_bits_per_second: int
    video: VideoFormat
    track: bool
    model: str
    def __init__(self, placement: _Optional[_Union[Placement, str]] = ..., score_threshold: _Optional[float] = ..., max_detections: _Optional[int] = ..., overload: _Optional[_Union[OverloadPolicy, str]] = ..., codec: _Optional[_Union[_tensor_pb2.Codec, str]] = ..., backbone_node: _Optional[str] = ..., transformer_node: _Optional[str] = ..., max_link_bits_per_second: _Optional[int] = ..., video: _Optional[_Union[VideoFormat, _Mapping]] = ..., track: bool = ..., model: _Optional[str] = ...) -> None: ...

class VideoFormat(_message.Message):
    __slots__ = ("codec", "parameter_sets")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    PARAMETER_SETS_FIELD_NUMBER: _ClassVar[int]
    codec: VideoCodec
    parameter_sets: bytes
    def __init__(self, codec: _Optional[_Union[VideoCodec, str]] = ..., parameter_sets: _Optional[bytes] = ...) -> None: ...

class AccessUnit(_message.Message):
    __slots__ = ("data", "key_frame", "decode_only")
    DATA_FIELD_NUMBER: _ClassVar[int]
    KEY_FRAME_FIELD_NUMBER: _ClassVar[int]
    DECODE_ONLY_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    key_frame: bool
    decode_only: bool
    def __init__(self, data: _Optional[bytes] = ..., key_frame: bool = ..., decode_only: bool = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("frame_id", "captured_at", "encoded", "raw", "encoded_video", "traceparent")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_AT_FIELD_NUMBER: _ClassVar[int]
    ENCODED_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    ENCODED_VIDEO_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    captured_at: _timestamp_pb2.Timestamp
    encoded: bytes
    raw: RawImage
    encoded_video: AccessUnit
    traceparent: str
    def __init__(self, frame_id: _Optional[int] = ..., captured_at: _Optional[_Union[_timestamp_pb2.Timestamp, _Mapping]] = ..., encoded: _Optional[bytes] = ..., raw: _Optional[_Union[RawImage, _Mapping]] = ..., encoded_video: _Optional[_Union[AccessUnit, _Mapping]] = ..., traceparent: _Optional[str] = ...) -> None: ...

class RawImage(_message.Message):
    __slots__ = ("width", "height", "pixel_format", "data")
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    PIXEL_FORMAT_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    width: int
    height: int
    pixel_format: PixelFormat
    data: bytes
    def __init__(self, width: _Optional[int] = ..., height: _Optional[int] = ..., pixel_format: _Optional[_Union[PixelFormat, str]] = ..., data: _Optional[bytes] = ...) -> None: ...

class DetectResponse(_message.Message):
    __slots__ = ("frame_id", "detections", "error", "dropped", "placement", "timing")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    detections: _detection_pb2.Detections
    error: _status_pb2.Status
    dropped: Dropped
    placement: Placement
    timing: _detection_pb2.Timing
    def __init__(self, frame_id: _Optional[int] = ..., detections: _Optional[_Union[_detection_pb2.Detections, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., dropped: _Optional[_Union[Dropped, _Mapping]] = ..., placement: _Optional[_Union[Placement, str]] = ..., timing: _Optional[_Union[_detection_pb2.Timing, _Mapping]] = ...) -> None: ...

class Dropped(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
