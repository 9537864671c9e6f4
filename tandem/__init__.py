"""DETR object detection, in this process or by a Tandem system that runs elsewhere.

    from tandem import DetectorClient, LocalDetector

`LocalDetector` runs a model in this process; `DetectorClient` streams frames to an orchestrator.
Both give one `FrameResult` a frame, in order, and raise a `TandemError` whose text is a sentence
for the user. What they need (gRPC, an engine, OpenCV) is imported when they are first used.
"""

from typing import TYPE_CHECKING

import common  # noqa: F401 - before gRPC
from common.domain.codec import Codec
from common.domain.detections import (
    DEFAULT_SCORE_THRESHOLD,
    Box,
    Detection,
    FrameTiming,
    OverloadPolicy,
    StageTiming,
)
from common.domain.errors import (
    AccessDeniedError,
    CallerError,
    ConfigurationError,
    EngineError,
    InternalError,
    InvalidInputError,
    PreconditionError,
    ResourceExhaustedError,
    ServiceError,
    TandemError,
    UnavailableError,
)
from common.domain.frames import EncodedImage, PixelFormat, RawImage
from common.domain.placement import NodePair, Placement
from common.domain.status import SystemStatus
from common.domain.video import AccessUnit, VideoCodec, VideoFormat

if TYPE_CHECKING:
    from tandem.access import Credentials
    from tandem.client import DetectorClient
    from tandem.local_detector import LocalDetector
    from tandem.results import FrameResult, VideoResult
    from tandem.supply import TracedFrame

__version__ = "0.2.0"

__all__ = [
    "DEFAULT_SCORE_THRESHOLD",
    "AccessDeniedError",
    "AccessUnit",
    "Box",
    "CallerError",
    "Codec",
    "ConfigurationError",
    "Credentials",
    "Detection",
    "DetectorClient",
    "EncodedImage",
    "EngineError",
    "FrameResult",
    "FrameTiming",
    "InternalError",
    "InvalidInputError",
    "LocalDetector",
    "NodePair",
    "OverloadPolicy",
    "PixelFormat",
    "Placement",
    "PreconditionError",
    "RawImage",
    "ResourceExhaustedError",
    "ServiceError",
    "StageTiming",
    "SystemStatus",
    "TandemError",
    "TracedFrame",
    "UnavailableError",
    "VideoCodec",
    "VideoFormat",
    "VideoResult",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Import what needs gRPC or an engine when it is asked for."""
    if name == "Credentials":
        from tandem.access import Credentials

        return Credentials
    if name == "DetectorClient":
        from tandem.client import DetectorClient

        return DetectorClient
    if name == "LocalDetector":
        from tandem.local_detector import LocalDetector

        return LocalDetector
    if name in ("FrameResult", "VideoResult"):
        from tandem import results

        return getattr(results, name)
    if name == "TracedFrame":
        from tandem.supply import TracedFrame

        return TracedFrame
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
