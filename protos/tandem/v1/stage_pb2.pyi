from google.rpc import status_pb2 as _status_pb2
from protos.tandem.v1 import detection_pb2 as _detection_pb2
from protos.tandem.v1 import detector_pb2 as _detector_pb2
from protos.tandem.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BackboneRequest(_message.Message):
    __slots__ = ("open", "frame", "decode_only")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    FRAME_FIELD_NUMBER: _ClassVar[int]
    DECODE_ONLY_FIELD_NUMBER: _ClassVar[int]
    open: BackboneOpen
    frame: _detector_pb2.Frame
    decode_only: _detector_pb2.Frame
    def __init__(self, open: _Optional[_Union[BackboneOpen, _Mapping]] = ..., frame: _Optional[_Union[_detector_pb2.Frame, _Mapping]] = ..., decode_only: _Optional[_Union[_detector_pb2.Frame, _Mapping]] = ...) -> None: ...

class BackboneOpen(_message.Message):
    __slots__ = ("context", "downstream_node", "codec", "downstream_replica", "video", "bundle_digest", "downstream_address")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_NODE_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_REPLICA_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DOWNSTREAM_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    context: StreamContext
    downstream_node: str
    codec: _tensor_pb2.Codec
    downstream_replica: int
    video: _detector_pb2.VideoFormat
    bundle_digest: str
    downstream_address: str
    def __init__(self, context: _Optional[_Union[StreamContext, _Mapping]] = ..., downstream_node: _Optional[str] = ..., codec: _Optional[_Union[_tensor_pb2.Codec, str]] = ..., downstream_replica: _Optional[int] = ..., video: _Optional[_Union[_detector_pb2.VideoFormat, _Mapping]] = ..., bundle_digest: _Optional[str] = ..., downstream_address: _Optional[str] = ...) -> None: ...

class TransformerRequest(_message.Message):
    __slots__ = ("open", "features", "next_latents", "skipped_frame_ids")
    OPEN_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    NEXT_LATENTS_FIELD_NUMBER: _ClassVar[int]
    SKIPPED_FRAME_IDS_FIELD_NUMBER: _ClassVar[int]
    open: TransformerOpen
    features: Features
    next_latents: bytes
    skipped_frame_ids: int
    def __init__(self, open: _Optional[_Union[TransformerOpen, _Mapping]] = ..., features: _Optional[_Union[Features, _Mapping]] = ..., next_latents: _Optional[bytes] = ..., skipped_frame_ids: _Optional[int] = ...) -> None: ...

class TransformerOpen(_message.Message):
    __slots__ = ("context", "bundle_digest", "without_category_names")
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_CATEGORY_NAMES_FIELD_NUMBER: _ClassVar[int]
    context: StreamContext
    bundle_digest: str
    without_category_names: bool
    def __init__(self, context: _Optional[_Union[StreamContext, _Mapping]] = ..., bundle_digest: _Optional[str] = ..., without_category_names: bool = ...) -> None: ...

class StreamContext(_message.Message):
    __slots__ = ("session_id", "placement", "score_threshold", "max_detections", "sender", "frames_from")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    SCORE_THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    MAX_DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    SENDER_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FROM_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    placement: _detector_pb2.Placement
    score_threshold: float
    max_detections: int
    sender: str
    frames_from: str
    def __init__(self, session_id: _Optional[str] = ..., placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., score_threshold: _Optional[float] = ..., max_detections: _Optional[int] = ..., sender: _Optional[str] = ..., frames_from: _Optional[str] = ...) -> None: ...

class Features(_message.Message):
    __slots__ = ("frame_id", "geometry", "tensor", "reference_frame_id", "traceparent", "further_tensors")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    GEOMETRY_FIELD_NUMBER: _ClassVar[int]
    TENSOR_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    FURTHER_TENSORS_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    geometry: FrameGeometry
    tensor: _tensor_pb2.Tensor
    reference_frame_id: int
    traceparent: str
    further_tensors: _containers.RepeatedCompositeFieldContainer[_tensor_pb2.Tensor]
    def __init__(self, frame_id: _Optional[int] = ..., geometry: _Optional[_Union[FrameGeometry, _Mapping]] = ..., tensor: _Optional[_Union[_tensor_pb2.Tensor, _Mapping]] = ..., reference_frame_id: _Optional[int] = ..., traceparent: _Optional[str] = ..., further_tensors: _Optional[_Iterable[_Union[_tensor_pb2.Tensor, _Mapping]]] = ...) -> None: ...

class FrameGeometry(_message.Message):
    __slots__ = ("frame_height", "frame_width", "input_height", "input_width", "valid_height", "valid_width")
    FRAME_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    FRAME_WIDTH_FIELD_NUMBER: _ClassVar[int]
    INPUT_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    INPUT_WIDTH_FIELD_NUMBER: _ClassVar[int]
    VALID_HEIGHT_FIELD_NUMBER: _ClassVar[int]
    VALID_WIDTH_FIELD_NUMBER: _ClassVar[int]
    frame_height: int
    frame_width: int
    input_height: int
    input_width: int
    valid_height: int
    valid_width: int
    def __init__(self, frame_height: _Optional[int] = ..., frame_width: _Optional[int] = ..., input_height: _Optional[int] = ..., input_width: _Optional[int] = ..., valid_height: _Optional[int] = ..., valid_width: _Optional[int] = ...) -> None: ...

class StageResponse(_message.Message):
    __slots__ = ("opened", "result")
    OPENED_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    opened: Opened
    result: FrameResult
    def __init__(self, opened: _Optional[_Union[Opened, _Mapping]] = ..., result: _Optional[_Union[FrameResult, _Mapping]] = ...) -> None: ...

class Opened(_message.Message):
    __slots__ = ("node", "bundle_digest", "latent_rates", "codec", "takes_next_latents")
    NODE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LATENT_RATES_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    TAKES_NEXT_LATENTS_FIELD_NUMBER: _ClassVar[int]
    node: str
    bundle_digest: str
    latent_rates: _containers.RepeatedCompositeFieldContainer[LatentRate]
    codec: _tensor_pb2.Codec
    takes_next_latents: bool
    def __init__(self, node: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., latent_rates: _Optional[_Iterable[_Union[LatentRate, _Mapping]]] = ..., codec: _Optional[_Union[_tensor_pb2.Codec, str]] = ..., takes_next_latents: bool = ...) -> None: ...

class LatentRate(_message.Message):
    __slots__ = ("codec", "average_precision", "bytes_per_frame", "bytes_per_key_frame")
    CODEC_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRECISION_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_FRAME_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_KEY_FRAME_FIELD_NUMBER: _ClassVar[int]
    codec: _tensor_pb2.Codec
    average_precision: float
    bytes_per_frame: float
    bytes_per_key_frame: float
    def __init__(self, codec: _Optional[_Union[_tensor_pb2.Codec, str]] = ..., average_precision: _Optional[float] = ..., bytes_per_frame: _Optional[float] = ..., bytes_per_key_frame: _Optional[float] = ...) -> None: ...

class FrameResult(_message.Message):
    __slots__ = ("frame_id", "detections", "error", "timing", "backbone_in_flight", "transformer_in_flight")
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    DETECTIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMER_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    frame_id: int
    detections: _detection_pb2.Detections
    error: _status_pb2.Status
    timing: _detection_pb2.Timing
    backbone_in_flight: int
    transformer_in_flight: int
    def __init__(self, frame_id: _Optional[int] = ..., detections: _Optional[_Union[_detection_pb2.Detections, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., timing: _Optional[_Union[_detection_pb2.Timing, _Mapping]] = ..., backbone_in_flight: _Optional[int] = ..., transformer_in_flight: _Optional[int] = ...) -> None: ...
