"""`POST /detect`: a picture in, and what `tandem detect --json` writes out."""

from __future__ import annotations

from typing import Any

import grpc
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from common.domain.detections import DEFAULT_SCORE_THRESHOLD, DetectionOptions
from common.domain.errors import InvalidInputError, TandemError
from common.domain.frames import EncodedImage
from common.wire.errors import grpc_status, public_message
from services.gateway.detection_api.schemas import BODY_OR_FORM, DetectAnswer, DetectError
from services.gateway.detection_api.uploads import Upload, count_of, number_of, read_upload
from services.gateway.detection_pool import DetectionPool
from services.gateway.http_answers import http_status, while_connected
from tandem.sinks.base import result_to_json

_CODE_OF_STATUS = {
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


def plain_routes(pool: DetectionPool) -> APIRouter:
    """The route of `/detect`, which `pool` serves."""
    router = APIRouter(tags=["Tandem"])
    answers: dict[int | str, dict[str, Any]] = {
        200: {"model": DetectAnswer},
        400: {"model": DetectError},
        503: {"model": DetectError},
    }

    @router.post("/detect", responses=answers, openapi_extra=BODY_OR_FORM)
    async def detect(request: Request) -> Response:
        """Objects in a picture, sent as the body or as the part `image` of a form."""
        try:
            upload = await read_upload(request)
            if not upload.picture:
                raise InvalidInputError("the request holds no picture")
            image, wanted = EncodedImage(upload.picture), _wanted(upload)
            result = await while_connected(request, pool.detect(image, wanted))
            if result.error is not None:
                raise result.error
        except TandemError as error:
            return _told(http_status(error), grpc_status(error), public_message(error))
        return JSONResponse(result_to_json(result))

    return router


def refusal(status: int, sentence: str) -> Response:
    """An error that the request met before its picture was looked at."""
    return _told(status, _CODE_OF_STATUS.get(status, grpc.StatusCode.INTERNAL), sentence)


def _told(status: int, code: grpc.StatusCode, sentence: str) -> Response:
    return JSONResponse({"error": {"code": code.name, "message": sentence}}, status)


def _wanted(upload: Upload) -> DetectionOptions:
    text = upload.fields.get("threshold", "")
    try:
        threshold = number_of(text) if text else DEFAULT_SCORE_THRESHOLD
    except ValueError:
        raise InvalidInputError("threshold has to be a number from 0 to 1") from None
    try:
        most = count_of(upload.fields.get("max_detections", "0"))
    except ValueError:
        raise InvalidInputError("max_detections has to be a whole number, 0 or more") from None
    return DetectionOptions(threshold, most)
