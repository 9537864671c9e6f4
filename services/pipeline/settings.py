"""Settings that both stage services have."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from pydantic import Field, model_validator
from typing_extensions import Literal

from common.engines.base import Device
from common.server.settings import ENVELOPE_BYTES, ServerSettings


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
    paced_milliseconds: float = Field(
        0.0, ge=0, description="simulate a device that takes this long an execution; 0: off"
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
