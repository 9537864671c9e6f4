"""The live view's part of HTTP: its page, its WebSocket, and the change of the placement."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import structlog
from fastapi import FastAPI
from prometheus_client import Counter
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from common.domain.errors import (
    AccessDeniedError,
    InvalidInputError,
    PreconditionError,
    ServiceError,
    TandemError,
)
from common.domain.redaction import fit_to_show
from common.domain.status import SystemStatus
from common.domain.video import VideoCodec
from common.security.identity import Role
from common.security.tokens import token_of_header
from services.gateway.callers import UnknownCallerError
from services.gateway.cameras.feed import CameraFrame
from services.gateway.door import Door, Gateway
from services.gateway.live_view.frame_queue import LatestGroups
from services.gateway.live_view.messages import state_message
from services.gateway.live_view.placing import set_placement
from services.gateway.live_view.stills import Stills
from services.gateway.live_view.traffic import Traffic
from services.gateway.live_view.viewer import Shown, Viewer, message_from, message_of

log = structlog.get_logger()

_PAGE = Path(__file__).parent / "page"
_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_SIGN_IN_SECONDS = 10.0
_RETRY_SECONDS = 1.0
# Codes of a WebSocket's end: https://www.iana.org/assignments/websocket
_SIGN_IN, _NONSENSE = 4401, 1003


class LiveView(Door):
    """Shows cameras and the system to browsers."""

    name = "live_view"
    paths = ("/", "/live/")

    def __init__(self, gateway: Gateway) -> None:
        """Look at the page's files."""
        super().__init__(gateway, gateway.settings.live_view_limits)
        self._files = {
            f"/live/{path.name}": path for path in _PAGE.iterdir() if path.suffix in _KINDS
        }
        # The page asks for a token by itself, and its socket gets it in the first message.
        self.public_paths = frozenset({"/", "/live/socket", "/live/placement", *self._files})
        self._status: SystemStatus | None = None
        self._problem = "the orchestrator has not answered yet"
        self._traffic = Traffic()
        self._sent = Counter(
            "tandem_live_view_bytes",
            "Bytes of cameras' frames sent to browsers, by form (h264, h265, image).",
            ["camera", "form"],
            registry=gateway.registry,
        )
        groups = LatestGroups()
        stills = Stills(gateway.cameras, groups)
        self._shown = Shown(gateway.cameras, groups, stills, self._count_bytes)

    def add_routes(self, application: FastAPI) -> None:
        """See `Door`."""
        application.add_api_route("/", self._page)
        application.add_api_route("/live/placement", self._place, methods=["POST"])
        application.add_api_route("/live/{name}", self._file)
        application.add_api_websocket_route("/live/socket", self._socket)

    async def run(self) -> None:
        """Watch the system, and add up what the cameras' frames take of the links."""
        with self.gateway.cameras.telling(self._shown.groups):
            await asyncio.gather(self._watch_status(), self._watch_traffic())

    async def _watch_status(self) -> None:
        while True:
            try:
                async for status in self.gateway.client.watch_status():
                    self._status, self._problem = status, ""
                problem = "the orchestrator has ended the stream of its status"
            except TandemError as error:
                problem = fit_to_show(str(error))
            self._status, self._problem = None, problem
            await asyncio.sleep(_RETRY_SECONDS)

    async def _watch_traffic(self) -> None:
        with self.gateway.cameras.subscribe(most_waiting=64) as subscription:
            async for frame in subscription.frames():
                self._traffic.note(frame.result)

    async def _page(self) -> Response:
        return FileResponse(
            _PAGE / "index.html",
            media_type="text/html",
            headers={"content-security-policy": _POLICY},
        )

    async def _file(self, name: str) -> Response:
        path = self._files.get(f"/live/{name}")
        if path is None:
            return JSONResponse({"error": "there is no such file"}, 404)
        return FileResponse(path, media_type=_KINDS[path.suffix])

    async def _place(self, request: Request) -> Response:
        token = token_of_header(request.headers.get("authorization", ""))
        try:
            placement = message_of((await request.body()).decode(errors="replace")).get("placement")
            if not isinstance(placement, str):
                raise InvalidInputError("no placement is named")
            await set_placement(self.gateway, placement, token)
        except UnknownCallerError as error:
            return self.refusal(401, str(error))
        except AccessDeniedError as error:
            return self.refusal(403, str(error))
        except (InvalidInputError, PreconditionError) as error:
            return self.refusal(400, fit_to_show(str(error)))
        except ServiceError as error:
            return self.refusal(503, fit_to_show(str(error)))
        log.info("placement set", placement=placement)
        return JSONResponse({"placement": placement})

    async def _socket(self, socket: WebSocket) -> None:
        await socket.accept()
        try:
            hello = await self._hello_from(socket)
            token = _token_in(hello)
            caller = self.gateway.callers.of_token(token, self.roles)

            def check() -> None:
                # A token may end, or be taken back, while its user looks.
                if self.gateway.callers.of_token(token, self.roles) != caller:
                    raise UnknownCallerError("this token is of somebody else now")

            # As from the orchestrator, clients learn nothing of the system.
            sees_all = caller is None or caller.role is not Role.CLIENT
            state = self._state if sees_all else self._state_of_cameras
            await Viewer(socket, self._shown, _decoded_by(hello), state, check).run()
        except AccessDeniedError as error:
            await socket.close(_SIGN_IN, str(error))
        except InvalidInputError as error:
            await socket.close(_NONSENSE, str(error))
        except (WebSocketDisconnect, TimeoutError):
            pass

    async def _hello_from(self, socket: WebSocket) -> dict[str, Any]:
        """What a page sends first: its token, or an empty one, and what it decodes.

        Raises:
            InvalidInputError: it sends something else.
            TimeoutError: it sends nothing.
        """
        async with asyncio.timeout(_SIGN_IN_SECONDS):
            return await message_from(socket)

    def _count_bytes(self, frame: CameraFrame, size: int) -> None:
        form = "image" if frame.video is None else frame.video.codec.value
        self._sent.labels(frame.camera, form).inc(size)

    def _state_of_cameras(self) -> str:
        return state_message(self.gateway.cameras.states, None, (), "", True)

    def _state(self) -> str:
        return state_message(
            self.gateway.cameras.states,
            self._status,
            self._traffic.links(),
            self._problem,
            self.gateway.credentials is not None,
        )


def _token_in(hello: dict[str, Any]) -> str:
    token = hello.get("token")
    return token if isinstance(token, str) else ""


def _decoded_by(hello: dict[str, Any]) -> frozenset[VideoCodec]:
    """Which video a page decodes; a codec that we do not know is left out."""
    told = hello.get("decodes")
    names = told if isinstance(told, list) else []
    return frozenset(codec for codec in VideoCodec if codec.value in names)
