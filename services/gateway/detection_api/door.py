"""The doors that the setting `detection_api` opens: one for each of two ways to tell an error."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response

from services.gateway.detection_api import plain, vision
from services.gateway.detection_api.page import PATHS, add_page
from services.gateway.door import Door, Gateway

_STATUS = ("ping", "version", "updateavailable")
_VISION = ("detection", "custom/list")


class VisionDoor(Door):
    """Single pictures for network video recorders and home automation, as DeepStack has it.

    Its callers prove who they are by a field of their form, which is read behind this door.
    """

    name = "detection_api"
    # What these interfaces have and Tandem has not, such as plates, is told in their words.
    paths = ("/v1/",)

    def __init__(self, gateway: Gateway) -> None:
        """Prepare; see `Door`."""
        super().__init__(gateway, gateway.settings.detection_api_limits)
        self._model_name = gateway.settings.model_name
        vision_paths = (*_VISION, f"custom/{self._model_name}")
        self.public_paths = frozenset(
            (
                *(f"/v1/status/{each}" for each in _STATUS),
                *(f"/v1/vision/{each}" for each in vision_paths),
            )
        )

    def add_routes(self, application: FastAPI) -> None:
        """See `Door`."""
        application.include_router(
            vision.vision_routes(self.gateway.pool, self.gateway.callers, self._model_name)
        )

    def refusal(self, status: int, sentence: str) -> Response:
        """See `Door`."""
        return vision.refusal(status, sentence)


class DetectDoor(Door):
    """Single pictures for scripts, and the page of all that is served over HTTP."""

    name = "detection_api"
    paths = ("/detect", "/docs", "/docs/", "/openapi.json")
    public_paths = PATHS

    def __init__(self, gateway: Gateway) -> None:
        """Prepare; see `Door`."""
        super().__init__(gateway, gateway.settings.detection_api_limits)

    def add_routes(self, application: FastAPI) -> None:
        """See `Door`."""
        application.include_router(plain.plain_routes(self.gateway.pool))
        add_page(application)

    def refusal(self, status: int, sentence: str) -> Response:
        """See `Door`."""
        return plain.refusal(status, sentence)
