"""`/v1/vision/detection` and what belongs to it, as DeepStack and CodeProject.AI Server have them.

Sources: DeepStack's server (`server/server.go`, `server/middlewares`), CodeProject.AI's API
reference, and what reads their answers: Frigate's `deepstack` detector, Blue Iris, Agent DVR and
Home Assistant's integrations.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import tandem
from common.domain.detections import Detection, DetectionOptions
from common.domain.errors import AccessDeniedError, InvalidInputError, TandemError
from common.domain.frames import EncodedImage
from common.vision.headers import peek_size
from common.vision.limits import ImageSize
from common.wire.errors import public_message
from services.gateway.callers import USERS, Callers, UnknownCallerError
from services.gateway.detection_api.schemas import FORM, VisionAnswer, VisionError
from services.gateway.detection_api.uploads import Upload, count_of, number_of, read_upload
from services.gateway.detection_pool import DetectionPool
from services.gateway.http_answers import http_status, while_connected
from tandem.results import FrameResult

DEFAULT_MIN_CONFIDENCE = 0.4
"""What DeepStack and CodeProject.AI suppose."""

MODULE = "Tandem"


def vision_routes(pool: DetectionPool, callers: Callers, model_name: str) -> APIRouter:
    """The routes of the API.

    Args:
        pool: serves pictures.
        callers: knows them by the form's field `api_key`, or by a header.
        model_name: under which the model is listed as a custom one.
    """
    router = APIRouter(prefix="/v1", tags=["DeepStack and CodeProject.AI"])
    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": VisionAnswer},
        400: {"model": VisionError},
        401: {"model": VisionError},
        503: {"model": VisionError},
    }

    @router.post("/vision/detection", responses=answers, openapi_extra=FORM)
    async def detection(request: Request) -> Response:
        """Objects in a picture."""
        return await _detect(request, pool, callers)

    @router.post("/vision/custom/list")
    async def models() -> Response:
        """Names under which a model can be asked for."""
        told = {"success": True, "models": [model_name], "command": "list-custom"}
        return JSONResponse({**told, "moduleId": MODULE, "moduleName": MODULE, "code": 200})

    @router.post("/vision/custom/{name}", responses=answers, openapi_extra=FORM)
    async def custom_detection(name: str, request: Request) -> Response:
        """Objects in a picture, by the model of this name."""
        if name != model_name:
            return refusal(404, f"there is no model {name[:64]!r}; the model is {model_name!r}")
        return await _detect(request, pool, callers)

    @router.get("/status/ping")
    async def ping() -> Response:
        """Whether the gateway runs."""
        return JSONResponse({"success": True})

    @router.get("/status/version")
    async def version() -> Response:
        """Tandem's version."""
        return JSONResponse({"success": True, "message": tandem.__version__, "version": _version()})

    @router.get("/status/updateavailable")
    async def update_available() -> Response:
        """Blue Iris asks this; nothing updates itself here."""
        told = {"success": True, "message": "", "updateAvailable": False}
        return JSONResponse({**told, "current": _version(), "latest": _version()})

    return router


def refusal(status: int, sentence: str) -> Response:
    """An error in the API's words."""
    told = {"success": False, "error": sentence, "code": status, "duration": 0}
    return JSONResponse(told, status)


async def _detect(request: Request, pool: DetectionPool, callers: Callers) -> Response:
    began_at = time.perf_counter()
    try:
        upload = await read_upload(request)
        _check_caller(request, upload, callers)
        picture, wanted = _wanted(upload)
        result = await while_connected(request, pool.detect(EncodedImage(picture), wanted))
        if result.error is not None:
            raise result.error
    except UnknownCallerError:
        return refusal(401, "Incorrect api key")
    except AccessDeniedError as error:
        return refusal(403, str(error))
    except TandemError as error:
        return refusal(http_status(error), public_message(error))
    return JSONResponse(_answer(result, peek_size(picture), time.perf_counter() - began_at))


def _check_caller(request: Request, upload: Upload, callers: Callers) -> None:
    """Check who calls: programs that know no headers send a token as the field `api_key`.

    Raises:
        AccessDeniedError: nobody who may.
    """
    header = request.headers.get("authorization", "")
    if header:
        callers.of_header(header, USERS)
    else:
        callers.of_token(upload.fields.get("api_key", ""), USERS)


def _wanted(upload: Upload) -> tuple[bytes, DetectionOptions]:
    """The picture, and which detections of it."""
    if not upload.picture:
        raise InvalidInputError("No valid image file found")
    text = upload.fields.get("min_confidence", "")
    try:
        confidence = number_of(text) if text else DEFAULT_MIN_CONFIDENCE
    except ValueError:
        raise InvalidInputError("Invalid value for min_confidence") from None
    if confidence > 1:
        raise InvalidInputError("min_confidence cannot be greater than 1")
    try:
        most = count_of(upload.fields.get("max_detections", "0"))
    except ValueError:
        raise InvalidInputError("Invalid value for max_detections") from None
    # Below 0 everything is found, as with DeepStack.
    return upload.picture, DetectionOptions(max(confidence, 0.0), most)


def _answer(result: FrameResult, size: ImageSize | None, seconds: float) -> dict[str, Any]:
    predictions = predictions_of(result.detections, size)
    stages = (result.timing.backbone, result.timing.transformer)
    inference_seconds = sum(each.execute_seconds for each in stages if each is not None)
    labels = ", ".join(dict.fromkeys(each.category_name for each in result.detections))
    return {
        "success": True,
        "predictions": predictions,
        "count": len(predictions),
        "message": f"Found {labels}" if labels else "No objects found",
        "command": "detect",
        "moduleId": MODULE,
        "moduleName": MODULE,
        "executionProvider": result.node_pair.name if result.node_pair else "",
        "canUseGPU": False,
        "inferenceMs": round(inference_seconds * 1000),
        "processMs": round(result.timing.total_seconds * 1000),
        "analysisRoundTripMs": round(seconds * 1000),
        "duration": round(seconds, 4),
        "code": 200,
    }


def predictions_of(detections: Sequence[Detection], size: ImageSize | None) -> list[dict[str, Any]]:
    """Detections as the API has them, the highest confidence first.

    Args:
        detections: the highest score first.
        size: of the picture, within which boxes end; None if it is not known.
    """
    width, height = (size.width, size.height) if size else (None, None)
    return [
        {
            "confidence": round(each.score, 6),
            "label": each.category_name,
            "y_min": _pixel(each.box.y_min, height),
            "x_min": _pixel(each.box.x_min, width),
            "y_max": _pixel(each.box.y_max, height),
            "x_max": _pixel(each.box.x_max, width),
        }
        for each in detections
    ]


def _pixel(position: float, most: int | None) -> int:
    pixel = max(round(position), 0)
    return pixel if most is None else min(pixel, most)


def _version() -> dict[str, Any]:
    numbers = [int(each) for each in tandem.__version__.split(".")[:3] if each.isdecimal()]
    names = ("major", "minor", "patch")
    return {**dict.fromkeys(names, 0), **dict(zip(names, numbers, strict=False))}
