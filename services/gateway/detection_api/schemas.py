"""What the page tells of requests and answers; the answers themselves are plain JSON."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

_PICTURE = {"type": "string", "format": "binary", "description": "a JPEG or PNG file"}

FORM: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": _PICTURE,
                        "min_confidence": {
                            "type": "number",
                            "minimum": 0,
                            "maximum": 1,
                            "default": 0.4,
                            "description": "predictions below it are left out",
                        },
                        "max_detections": {
                            "type": "integer",
                            "minimum": 0,
                            "default": 0,
                            "description": "at most so many, the most certain ones; 0: all. May "
                            "stand in the address instead",
                        },
                        "api_key": {
                            "type": "string",
                            "description": "a token, where the gateway asks for one",
                        },
                    },
                }
            }
        },
    }
}

BODY_OR_FORM: dict[str, Any] = {
    "parameters": [
        {
            "name": "threshold",
            "in": "query",
            "description": "detections with a lower score are left out",
            "schema": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.7},
        },
        {
            "name": "max_detections",
            "in": "query",
            "description": "at most so many, the highest scores first; 0: all",
            "schema": {"type": "integer", "minimum": 0, "default": 0},
        },
    ],
    "requestBody": {
        "required": True,
        "content": {
            "image/jpeg": {"schema": _PICTURE},
            "image/png": {"schema": _PICTURE},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": _PICTURE},
                }
            },
        },
    },
}


class Prediction(BaseModel):
    """One object."""

    label: str
    confidence: float
    x_min: int = Field(description="pixels of the picture, from its left side")
    y_min: int = Field(description="pixels of the picture, from its top")
    x_max: int
    y_max: int


class VisionAnswer(BaseModel):
    """A picture's answer, as DeepStack and CodeProject.AI have it."""

    success: bool = True
    predictions: list[Prediction]
    count: int
    message: str
    inferenceMs: int = Field(description="in the engines of both stages")  # noqa: N815
    processMs: int = Field(description="in Tandem")  # noqa: N815
    analysisRoundTripMs: int = Field(description="in the gateway and Tandem")  # noqa: N815
    duration: float = Field(description="the same, seconds")
    executionProvider: str = Field(description="the placement that served it")  # noqa: N815
    code: int = 200


class VisionError(BaseModel):
    """Why there is none."""

    success: bool = False
    error: str
    code: int
    duration: float = 0


class DetectedObject(BaseModel):
    """One object."""

    category_id: int = Field(description="COCO category id")
    category_name: str
    score: float
    box: list[float] = Field(
        min_length=4, max_length=4, description="x_min, y_min, x_max, y_max in pixels, not clipped"
    )


class DetectAnswer(BaseModel):
    """A picture's answer: a line of `tandem detect --json`."""

    frame_id: int
    placement: str | None
    detections: list[DetectedObject]
    error: None = None
    dropped: bool = False
    timing: dict[str, Any]


class ErrorWords(BaseModel):
    """Why there is none."""

    code: str = Field(description="name of the gRPC status")
    message: str


class DetectError(BaseModel):
    """Why there is none."""

    error: ErrorWords
