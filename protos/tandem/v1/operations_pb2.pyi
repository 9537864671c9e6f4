from google.protobuf import duration_pb2 as _duration_pb2
from protos.tandem.v1 import detector_pb2 as _detector_pb2
from protos.tandem.v1 import tensor_pb2 as _tensor_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchStatusRequest(_message.Message):
    __slots__ = ("interval",)
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    interval: _duration_pb2.Duration
    def __init__(self, interval: _Optional[_Union[_duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class SetPlacementRequest(_message.Message):
    __slots__ = ("placement", "backbone_node", "transformer_node")
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    BACKBONE_NODE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMER_NODE_FIELD_NUMBER: _ClassVar[int]
    placement: _detector_pb2.Placement
    backbone_node: str
    transformer_node: str
    def __init__(self, placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., backbone_node: _Optional[str] = ..., transformer_node: _Optional[str] = ...) -> None: ...

class DeployBundleRequest(_message.Message):
    __slots__ = ("bundle", "bundle_digest", "model")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    bundle: str
    bundle_digest: str
    model: str
    def __init__(self, bundle: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class SystemStatus(_message.Message):
    __slots__ = ("placement_setting", "placement", "stages", "placements", "sessions", "uptime_seconds", "draining", "setting", "current", "links", "explanation", "objective", "events", "warnings", "models")
    PLACEMENT_SETTING_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    SETTING_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    placement_setting: _detector_pb2.Placement
    placement: _detector_pb2.Placement
    stages: _containers.RepeatedCompositeFieldContainer[StageStatus]
    placements: _containers.RepeatedCompositeFieldContainer[PlacementStatus]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionStatus]
    uptime_seconds: float
    draining: bool
    setting: NodePair
    current: NodePair
    links: _containers.RepeatedCompositeFieldContainer[LinkStatus]
    explanation: _containers.RepeatedScalarFieldContainer[str]
    objective: str
    events: EventCounts
    warnings: _containers.RepeatedScalarFieldContainer[str]
    models: _containers.RepeatedCompositeFieldContainer[ModelChoice]
    def __init__(self, placement_setting: _Optional[_Union[_detector_pb2.Placement, str]] = ..., placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., stages: _Optional[_Iterable[_Union[StageStatus, _Mapping]]] = ..., placements: _Optional[_Iterable[_Union[PlacementStatus, _Mapping]]] = ..., sessions: _Optional[_Iterable[_Union[SessionStatus, _Mapping]]] = ..., uptime_seconds: _Optional[float] = ..., draining: bool = ..., setting: _Optional[_Union[NodePair, _Mapping]] = ..., current: _Optional[_Union[NodePair, _Mapping]] = ..., links: _Optional[_Iterable[_Union[LinkStatus, _Mapping]]] = ..., explanation: _Optional[_Iterable[str]] = ..., objective: _Optional[str] = ..., events: _Optional[_Union[EventCounts, _Mapping]] = ..., warnings: _Optional[_Iterable[str]] = ..., models: _Optional[_Iterable[_Union[ModelChoice, _Mapping]]] = ...) -> None: ...

class ModelChoice(_message.Message):
    __slots__ = ("name", "current", "placements", "explanation")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    name: str
    current: NodePair
    placements: _containers.RepeatedCompositeFieldContainer[PlacementStatus]
    explanation: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., current: _Optional[_Union[NodePair, _Mapping]] = ..., placements: _Optional[_Iterable[_Union[PlacementStatus, _Mapping]]] = ..., explanation: _Optional[_Iterable[str]] = ...) -> None: ...

class NodePair(_message.Message):
    __slots__ = ("backbone", "transformer")
    BACKBONE_FIELD_NUMBER: _ClassVar[int]
    TRANSFORMER_FIELD_NUMBER: _ClassVar[int]
    backbone: str
    transformer: str
    def __init__(self, backbone: _Optional[str] = ..., transformer: _Optional[str] = ...) -> None: ...

class StageStatus(_message.Message):
    __slots__ = ("node", "stage", "address", "healthy", "reason", "replica", "frames_in_flight", "estimate", "frames_of_others", "models")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REPLICA_FIELD_NUMBER: _ClassVar[int]
    FRAMES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    FRAMES_OF_OTHERS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    node: str
    stage: str
    address: str
    healthy: bool
    reason: str
    replica: int
    frames_in_flight: int
    estimate: ServiceEstimate
    frames_of_others: int
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    def __init__(self, node: _Optional[str] = ..., stage: _Optional[str] = ..., address: _Optional[str] = ..., healthy: bool = ..., reason: _Optional[str] = ..., replica: _Optional[int] = ..., frames_in_flight: _Optional[int] = ..., estimate: _Optional[_Union[ServiceEstimate, _Mapping]] = ..., frames_of_others: _Optional[int] = ..., models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("name", "bundle_name", "bundle_digest", "note", "estimate")
    NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_NAME_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    NOTE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    bundle_name: str
    bundle_digest: str
    note: str
    estimate: ServiceEstimate
    def __init__(self, name: _Optional[str] = ..., bundle_name: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., note: _Optional[str] = ..., estimate: _Optional[_Union[ServiceEstimate, _Mapping]] = ...) -> None: ...

class ServiceEstimate(_message.Message):
    __slots__ = ("execute_seconds", "compute_seconds", "age_seconds")
    EXECUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    execute_seconds: float
    compute_seconds: float
    age_seconds: float
    def __init__(self, execute_seconds: _Optional[float] = ..., compute_seconds: _Optional[float] = ..., age_seconds: _Optional[float] = ...) -> None: ...

class LinkStatus(_message.Message):
    __slots__ = ("source", "destination", "bytes_per_second", "latency_seconds", "age_seconds")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LATENCY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    AGE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    source: str
    destination: str
    bytes_per_second: float
    latency_seconds: float
    age_seconds: float
    def __init__(self, source: _Optional[str] = ..., destination: _Optional[str] = ..., bytes_per_second: _Optional[float] = ..., latency_seconds: _Optional[float] = ..., age_seconds: _Optional[float] = ...) -> None: ...

class PlacementStatus(_message.Message):
    __slots__ = ("placement", "available", "reason", "frames", "frames_per_second", "nodes", "prediction")
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    PREDICTION_FIELD_NUMBER: _ClassVar[int]
    placement: _detector_pb2.Placement
    available: bool
    reason: str
    frames: int
    frames_per_second: float
    nodes: NodePair
    prediction: Prediction
    def __init__(self, placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., available: bool = ..., reason: _Optional[str] = ..., frames: _Optional[int] = ..., frames_per_second: _Optional[float] = ..., nodes: _Optional[_Union[NodePair, _Mapping]] = ..., prediction: _Optional[_Union[Prediction, _Mapping]] = ...) -> None: ...

class Prediction(_message.Message):
    __slots__ = ("frames_per_second", "latency_seconds", "bytes_per_frame", "energy_joules", "bottleneck", "codec")
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    LATENCY_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_FRAME_FIELD_NUMBER: _ClassVar[int]
    ENERGY_JOULES_FIELD_NUMBER: _ClassVar[int]
    BOTTLENECK_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    frames_per_second: float
    latency_seconds: float
    bytes_per_frame: float
    energy_joules: float
    bottleneck: str
    codec: _tensor_pb2.Codec
    def __init__(self, frames_per_second: _Optional[float] = ..., latency_seconds: _Optional[float] = ..., bytes_per_frame: _Optional[float] = ..., energy_joules: _Optional[float] = ..., bottleneck: _Optional[str] = ..., codec: _Optional[_Union[_tensor_pb2.Codec, str]] = ...) -> None: ...

class SessionStatus(_message.Message):
    __slots__ = ("session_id", "placement", "frames_answered", "frames_in_flight", "nodes", "codec", "codec_reason", "model")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    NODES_FIELD_NUMBER: _ClassVar[int]
    CODEC_FIELD_NUMBER: _ClassVar[int]
    CODEC_REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    placement: _detector_pb2.Placement
    frames_answered: int
    frames_in_flight: int
    nodes: NodePair
    codec: _tensor_pb2.Codec
    codec_reason: str
    model: str
    def __init__(self, session_id: _Optional[str] = ..., placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., frames_answered: _Optional[int] = ..., frames_in_flight: _Optional[int] = ..., nodes: _Optional[_Union[NodePair, _Mapping]] = ..., codec: _Optional[_Union[_tensor_pb2.Codec, str]] = ..., codec_reason: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class EventCounts(_message.Message):
    __slots__ = ("switches", "failovers", "replayed_frames", "probe_frames")
    class SwitchesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class FailoversEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    SWITCHES_FIELD_NUMBER: _ClassVar[int]
    FAILOVERS_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FRAMES_FIELD_NUMBER: _ClassVar[int]
    PROBE_FRAMES_FIELD_NUMBER: _ClassVar[int]
    switches: _containers.ScalarMap[str, int]
    failovers: _containers.ScalarMap[str, int]
    replayed_frames: int
    probe_frames: int
    def __init__(self, switches: _Optional[_Mapping[str, int]] = ..., failovers: _Optional[_Mapping[str, int]] = ..., replayed_frames: _Optional[int] = ..., probe_frames: _Optional[int] = ...) -> None: ...
