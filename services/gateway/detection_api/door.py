"""The door itself."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import Response

from services.gateway.detection_api.page import PATHS, add_page
from services.gateway.detection_api.plain import plain_routes
from services.gateway.detection_api.vision import refusal, vision_routes
from services.gateway.door import Door, Gateway


class DetectionApiDoor(Door):
    """Single pictures over HTTP, for network video recorders, home automation and scripts.

    Callers of `/v1/vision/` prove who they are by a field of their form, which is read here.
    """

    name = "detection_api"
    paths = ("/v1/vision/", "/v1/status/", "/detect", "/docs", "/docs/", "/openapi.json")

    def __init__(self, gateway: Gateway) -> None:
        """Prepare; see `Door`."""
        super().__init__(gateway, gateway.settings.detection_api_limits)
        self._model_name = gateway.settings.model_name
        status = ("ping", "version", "updateavailable")
        vision = ("detection", "custom/list", f"custom/{self._model_name}")
        self.public_paths = PATHS.union(
            (f"/v1/status/{each}" for each in status), (f"/v1/vision/{each}" for each in vision)
        )

    def add_routes(self, application: FastAPI) -> None:
        """See `Door`."""
        pool = self.gateway.pool
        application.include_router(vision_routes(pool, self.gateway.callers, self._model_name))
        application.include_router(plain_routes(pool))
        add_page(application)

    def refusal(self, status: int, sentence: str) -> Response:
        """See `Door`."""
        return refusal(status, sentence)
