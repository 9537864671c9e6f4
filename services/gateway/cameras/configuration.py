"""Which cameras the gateway reads: a YAML file.

cameras:
- name: front door
url: rtsp://user:password@192.168.1.31/stream
threshold: 0.5
- name: demo
url: clip.mp4        # begins again when it ends
placement: full
frames_per_second: 10
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from common.domain.detections import DEFAULT_SCORE_THRESHOLD
from common.domain.errors import InvalidInputError
from common.domain.placement import NodePair
from common.validation import refuse_switch
from common.wire.placements import checked_model
from services.gateway.yaml_options import OptionsFile
from tandem.asked import pair_named
from tandem.sources.urls import refuse_malformed, scheme_of

MOST_CAMERAS = 64


class Reports(StrEnum):
    """Of which frames the doors for events tell what was found in them."""

    # Those that show other objects than the frame before.
    CHANGES = "changes"
    FRAMES = "frames"
    NONE = "none"

    def tells(self, *, changed: bool) -> bool:
        """Whether a frame is told of; `changed`: it shows other objects than the one before."""
        return self is Reports.FRAMES or (self is Reports.CHANGES and changed)


class CameraOptions(BaseModel):
    """One camera."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str = Field(min_length=1, max_length=64, description="of the camera, for people")
    url: str = Field(
        min_length=1,
        description="an rtsp:// or other URL; the path of a video or a folder of pictures, which "
        "begin again when they end, seen from the YAML file; the number or path of a local camera",
    )
    threshold: float = Field(
        DEFAULT_SCORE_THRESHOLD, ge=0, le=1, description="detections below this score are left out"
    )
    placement: str = Field(
        "auto",
        description="auto leaves it to the orchestrator; full, backbone, transformer, workstation, "
        "or backbone=NODE,transformer=NODE",
    )
    model: str = Field(
        "",
        description="which of the stages' models, by its name; their default model if left out",
    )
    frames_per_second: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="at most so many frames are sent; 0: all that come, and of a folder one a "
        "second",
    )

    track: bool = Field(
        True, description="objects are numbered and followed, which events of objects need"
    )
    reports: Reports = Field(
        Reports.CHANGES,
        description="of which frames MQTT and webhooks tell all that was found: of all frames, of "
        "those that show a change, or of none",
    )

    @field_validator("url", mode="before")
    @classmethod
    def _may_be_a_number(cls, value: object) -> object:
        # YAML reads the number of a local camera as one, unless it is quoted.
        return str(value) if type(value) is int else value

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_switch(cls, value: object, info: ValidationInfo) -> object:
        refuse_switch(value, cls.model_fields[str(info.field_name)])
        return value

    @field_validator("url")
    @classmethod
    def _is_well_formed(cls, value: str) -> str:
        if "\0" in value:
            raise ValueError("no address and no path has a zero character")
        try:
            refuse_malformed(value)
        except InvalidInputError as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("name")
    @classmethod
    def _is_readable(cls, value: str) -> str:
        if not value.isprintable() or value != value.strip():
            raise ValueError("a name has printable characters, and none but these at its ends")
        return value

    @field_validator("placement")
    @classmethod
    def _is_a_placement(cls, value: str) -> str:
        try:
            pair_named(value)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error
        return value

    @field_validator("model")
    @classmethod
    def _is_a_model(cls, value: str) -> str:
        try:
            return checked_model(value)
        except InvalidInputError as error:
            raise ValueError(str(error)) from error

    @property
    def requested_pair(self) -> NodePair | None:
        """The nodes that its frames ask for; None leaves it to the orchestrator."""
        return pair_named(self.placement)


class _CameraFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    cameras: list[CameraOptions] = Field(max_length=MOST_CAMERAS)


def read_cameras(path: Path) -> tuple[CameraOptions, ...]:
    """The cameras of a YAML file; paths in it are seen from the folder of the file.

    Raises:
        ConfigurationError: it cannot be read, or makes no sense; the sentence shows no URL.
    """
    file = OptionsFile.read(path, _CameraFile)
    cameras = file.options.cameras
    file.refuse_same_names("cameras", [camera.name for camera in cameras])
    return tuple(
        camera.model_copy(update={"url": _seen_from(path.parent, camera.url)}) for camera in cameras
    )


def _seen_from(folder: Path, url: str) -> str:
    is_path = scheme_of(url) is None and not url.isdecimal()
    return str(folder / url) if is_path else url
