"""Settings that both stage services have."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, Optional

from pydantic import Field, field_validator, model_validator
from typing_extensions import Literal

from common.domain.errors import InvalidInputError
from common.domain.models import MODEL_NAME_RULE, MOST_MODELS, is_model_name
from common.engines.base import Device
from common.server.settings import ENVELOPE_BYTES, ServerSettings
from services.pipeline.precision import PrecisionWishes
from services.pipeline.waiting_frames import BatchLimits


class StageSettings(ServerSettings):
    """Settings of both stage services."""

    @property
    def max_message_bytes(self) -> int:
        """`max_message_mebibytes` in bytes, and what a service adds to a client's frame."""
        return super().max_message_bytes + ENVELOPE_BYTES

    bundle: Path = Field(
        description="folder of the model of streams that name none, with bundle.json; SIGHUP has "
        "it and those of `models` read anew while frames go on"
    )
    models: Dict[str, Path] = Field(
        {},
        description="folders of further models, by the names under which streams choose them, such "
        "as fast=models/demo-dfine; they are served beside that of `bundle`, and each takes the "
        "memory of its half",
    )
    bundles: Optional[Path] = Field(
        None,
        description="folder whose folders are bundles that `tandem model deploy` may name; without "
        "it nothing can be deployed here",
    )
    deployed: Optional[Path] = Field(
        None,
        description="file that keeps what was deployed, so that a restart serves it again; by "
        "default a hidden file in `bundles`",
    )
    require_signature: Optional[Path] = Field(
        None,
        description="file of the public key by which the bundle has to be signed; see "
        "`tandem model sign`",
    )
    node: str = Field(min_length=1, description="name of the device that this stage runs on")
    engine: str = Field(
        "onnxruntime",
        description="what executes the half: onnxruntime, openvino, tensorrt or torch",
    )
    device: Optional[Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]] = Field(
        None,
        description="where the engine computes: ONNX Runtime on any of these; auto takes the first "
        "of cuda, openvino and cpu that works. The CPU if left out, for engine tensorrt the GPU",
    )
    engine_threads: int = Field(
        0, ge=0, description="CPU threads of one execution; 0 lets the engine choose"
    )
    engine_precision: str = Field(
        "auto",
        description="what TensorRT computes in, as an engine or as ONNX Runtime's device; all "
        "others take fp32 only. auto is what the model recommends, where the engine can, and "
        "otherwise fp32; auto-or-fp16 is fp16 where the model recommends nothing; fp32 or fp16 is "
        "obeyed or refused. Or by half, so that both stages can be told the same: "
        "backbone=fp16,transformer=fp32",
    )
    engine_cache: Optional[Path] = Field(
        None,
        description="folder for what TensorRT has compiled; ~/.cache/tandem/engines by default",
    )
    max_batch: int = Field(
        1,
        ge=1,
        le=64,
        description="most frames of different streams to execute together, if warming up shows "
        "that it gives more frames a second; 1 executes each frame alone",
    )
    batch_wait_milliseconds: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="how long a frame may wait for frames of other streams to be executed with; 0 "
        "executes only frames together that are ready at the same moment",
    )
    paced_milliseconds: float = Field(
        0.0, ge=0, description="simulate a device that takes so long for an execution; 0 means off"
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
        "take turns on it. By default each stage has its own",
    )
    max_sessions: int = Field(
        2400,
        gt=0,
        description="streams served at a time; two for each session of the orchestrator, which "
        "holds two while it changes its route",
    )
    max_silence_seconds: float = Field(
        600.0,
        ge=0,
        description="end a stream when nothing comes on it, or its answers are not taken, for so "
        "long; 0 means never. Keep it longer than the orchestrator's, which then ends first",
    )
    max_frames_in_flight: int = Field(
        32,
        gt=0,
        description="frames of one stream that are held at a time; others wait in the transport",
    )

    @field_validator("models", mode="before")
    @classmethod
    def _have_folders(cls, value: object) -> object:
        # An empty one would be the folder in which the service was started.
        for name, folder in value.items() if isinstance(value, dict) else ():
            if folder == "":
                raise ValueError(f"a path is expected for the model {name!r}")
        return value

    @field_validator("models")
    @classmethod
    def _are_models(cls, value: Dict[str, Path]) -> Dict[str, Path]:
        for name in value:
            if not is_model_name(name):
                raise ValueError(f"{name!r} is no model's name: {MODEL_NAME_RULE}")
        if len(value) > MOST_MODELS:
            raise ValueError(f"there are {len(value)} models; there may be {MOST_MODELS}")
        return value

    @field_validator("engine_precision")
    @classmethod
    def _is_a_precision(cls, value: str) -> str:
        try:
            PrecisionWishes.parse(value)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error
        return value

    @property
    def precision_wishes(self) -> PrecisionWishes:
        """`engine_precision` for both halves."""
        return PrecisionWishes.parse(self.engine_precision)

    @property
    def engine_device(self) -> Optional[Device]:
        """`device` as the engines name it."""
        return None if self.device is None else Device(self.device)

    @model_validator(mode="after")
    def _check_pace(self) -> StageSettings:
        if self.paced_device is not None and self.paced_milliseconds == 0:
            raise ValueError(
                "paced_device needs paced_milliseconds: only simulated devices are shared"
            )
        return self

    @model_validator(mode="after")
    def _check_paced_batch(self) -> StageSettings:
        if self.paced_batch and self.paced_milliseconds == 0:
            raise ValueError("paced_batch needs paced_milliseconds, the time of one frame")
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
