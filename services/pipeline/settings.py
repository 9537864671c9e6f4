"""Settings that both stage services have."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

from pydantic import Field, model_validator
from typing_extensions import Literal

from common.engines.base import Device
from common.server.settings import ENVELOPE_BYTES, ServerSettings
from services.pipeline.waiting_frames import BatchLimits


class StageSettings(ServerSettings):
    """What a stage service can be told."""

    @property
    def max_message_bytes(self) -> int:
        """`max_message_mebibytes` in bytes, and what a service adds to a client's frame."""
        return super().max_message_bytes + ENVELOPE_BYTES

    bundle: Path = Field(description="folder of the model, with bundle.json")
    node: str = Field(min_length=1, description="name of the device that this stage runs on")
    engine: str = Field("onnxruntime", description="what executes the half: see common.engines")
    device: Optional[Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]] = Field(
        None,
        description="where the engine computes: ONNX Runtime on any of these; auto takes the first "
        "of cuda, openvino and cpu that works. The CPU if left out, for engine tensorrt the GPU",
    )
    engine_threads: int = Field(
        0, ge=0, description="CPU threads of one execution; 0 lets the engine choose"
    )
    engine_precision: Literal["fp32", "fp16"] = Field(
        "fp32",
        description="what TensorRT computes in, as an engine or as ONNX Runtime's device; all "
        "others take fp32 only",
    )
    engine_cache: Optional[Path] = Field(
        None, description="folder for what TensorRT compiled; ~/.cache/tandem/engines if left out"
    )
    max_batch: int = Field(
        1,
        ge=1,
        le=64,
        description="frames of different streams executed together at most, if that is measured to "
        "give more frames a second; 1: each is executed alone",
    )
    batch_wait_milliseconds: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="how long a frame may wait for those of other streams to be executed with; 0: "
        "only frames that are ready at the same moment are",
    )
    paced_milliseconds: float = Field(
        0.0, ge=0, description="simulate a device that takes this long an execution; 0: off"
    )
    paced_batch: Dict[int, float] = Field(
        {},
        description="milliseconds that the simulated device takes for so many frames at once, such "
        "as 8=100; between two of them it is proportional. Without, batches gain nothing on it",
    )
    paced_device: Optional[str] = Field(
        None,
        pattern=r"^[A-Za-z0-9_-]+$",
        description="name of the simulated device; stages of one machine that name the same one "
        "take turns on it. One of its own if left out",
    )
    max_sessions: int = Field(
        512,
        gt=0,
        description="streams served at a time; two for each session of the orchestrator, which "
        "holds two while it changes its route",
    )
    max_silence_seconds: float = Field(
        600.0,
        ge=0,
        description="a stream on which nothing comes for so long, or whose answers are not taken, "
        "is ended; 0: never. Longer than the orchestrator's, which then ends its streams first",
    )
    max_frames_in_flight: int = Field(
        32, gt=0, description="frames of one stream held at a time; more wait in the transport"
    )

    @property
    def engine_device(self) -> Optional[Device]:
        """`device` as the engines name it."""
        return None if self.device is None else Device(self.device)

    @model_validator(mode="after")
    def _check_pace(self) -> StageSettings:
        if self.paced_device is not None and self.paced_milliseconds == 0:
            raise ValueError(
                "paced_device needs paced_milliseconds: only a simulated one is shared"
            )
        return self

    @model_validator(mode="after")
    def _check_paced_batch(self) -> StageSettings:
        if self.paced_batch and self.paced_milliseconds == 0:
            raise ValueError("paced_batch needs paced_milliseconds: that of one frame")
        if any(
            frames < 2 or milliseconds <= 0 for frames, milliseconds in self.paced_batch.items()
        ):
            raise ValueError("paced_batch needs 2 frames or more, and positive milliseconds")
        return self

    @property
    def batch_limits(self) -> BatchLimits:
        """How many frames may be executed together, and wait for each other."""
        return BatchLimits(self.max_batch, self.batch_wait_milliseconds / 1000)

    @property
    def paced_batch_seconds(self) -> Dict[int, float]:
        """`paced_batch` in seconds."""
        return {frames: each / 1000 for frames, each in self.paced_batch.items()}
