from google.protobuf import duration_pb2 as _duration_pb2
from protos.tandem.v1 import detector_pb2 as _detector_pb2
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
    __slots__ = ("placement",)
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    placement: _detector_pb2.Placement
    def __init__(self, placement: _Optional[_Union[_detector_pb2.Placement, str]] = ...) -> None: ...

class SystemStatus(_message.Message):
    __slots__ = ("placement_setting", "placement", "stages", "placements", "sessions", "uptime_seconds", "draining")
    PLACEMENT_SETTING_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    UPTIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    placement_setting: _detector_pb2.Placement
    placement: _detector_pb2.Placement
    stages: _containers.RepeatedCompositeFieldContainer[StageStatus]
    placements: _containers.RepeatedCompositeFieldContainer[PlacementStatus]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionStatus]
    uptime_seconds: float
    draining: bool
    def __init__(self, placement_setting: _Optional[_Union[_detector_pb2.Placement, str]] = ..., placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., stages: _Optional[_Iterable[_Union[StageStatus, _Mapping]]] = ..., placements: _Optional[_Iterable[_Union[PlacementStatus, _Mapping]]] = ..., sessions: _Optional[_Iterable[_Union[SessionStatus, _Mapping]]] = ..., uptime_seconds: _Optional[float] = ..., draining: bool = ...) -> None: ...

class StageStatus(_message.Message):
    __slots__ = ("node", "stage", "address", "healthy", "reason")
    NODE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node: str
    stage: str
    address: str
    healthy: bool
    reason: str
    def __init__(self, node: _Optional[str] = ..., stage: _Optional[str] = ..., address: _Optional[str] = ..., healthy: bool = ..., reason: _Optional[str] = ...) -> None: ...

class PlacementStatus(_message.Message):
    __slots__ = ("placement", "available", "reason", "frames", "frames_per_second")
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    FRAMES_FIELD_NUMBER: _ClassVar[int]
    FRAMES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    placement: _detector_pb2.Placement
    available: bool
    reason: str
    frames: int
    frames_per_second: float
    def __init__(self, placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., available: bool = ..., reason: _Optional[str] = ..., frames: _Optional[int] = ..., frames_per_second: _Optional[float] = ...) -> None: ...

class SessionStatus(_message.Message):
    __slots__ = ("session_id", "placement", "frames_answered", "frames_in_flight")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    FRAMES_ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FRAMES_IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    placement: _detector_pb2.Placement
    frames_answered: int
    frames_in_flight: int
    def __init__(self, session_id: _Optional[str] = ..., placement: _Optional[_Union[_detector_pb2.Placement, str]] = ..., frames_answered: _Optional[int] = ..., frames_in_flight: _Optional[int] = ...) -> None: ...
