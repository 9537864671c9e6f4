"""Gateways as child processes, with cameras of a test's own; and a browser to look at them."""

import asyncio
import json
import os
import shutil
import urllib.error
import urllib.request
from contextlib import asynccontextmanager, contextmanager

import pytest
import yaml
from websockets.asyncio.client import connect

from tests.harness import ServiceProcess
from tests.waiting import PATIENCE_SECONDS

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed here (Debian: apt-get install chromium)"
)


@contextmanager
def gateway(orchestrator, folder, cameras=(), *arguments):
    """A gateway with the live view, on free ports; cameras are as the YAML file has them."""
    path = folder / "cameras.yml"
    path.write_text(yaml.safe_dump({"cameras": list(cameras)}))
    process = ServiceProcess(
        "services.gateway",
        *("--orchestrator", orchestrator, "--cameras", str(path), "--live-view"),
        *("--port", "0", "--metrics-port", "0", "--http-port", "0", *arguments),
    )
    try:
        process.announcement  # noqa: B018 - waits until it is healthy
        yield process
    finally:
        process.close()


def url_of(process):
    return str(process.announcement["http"])


def fetch(url, method="GET", data=None, **headers):
    """The status, the headers and the body of an answer, whatever it is."""
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


class Page:
    """What the page's scripts do, without a browser: reads states and frames."""

    def __init__(self, socket, shows=False):
        """A page that `shows` frames says so of each."""
        self._socket = socket
        self._shows = shows
        self.state = None
        self.frames = []

    async def until(self, condition, seconds=PATIENCE_SECONDS):
        """Read until something holds of this page."""
        async with asyncio.timeout(seconds):
            while not condition(self):
                await self._read()

    async def states(self, count):
        """Read until so many more states have come."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while count:
                count -= await self._read()

    async def see(self, camera):
        """Tell the gateway that a frame has been shown."""
        await self._socket.send(json.dumps({"seen": camera}))

    async def say(self, text):
        """Send anything."""
        await self._socket.send(text)

    async def _read(self):
        message = await self._socket.recv()
        if isinstance(message, str):
            self.state = json.loads(message)
            return True
        length = int.from_bytes(message[:4], "big")
        head = json.loads(message[4 : 4 + length])
        self.frames.append((head, message[4 + length :]))
        if self._shows:
            await self.see(head["camera"])
        return False


@asynccontextmanager
async def page(process, token="", shows=False, decodes=(), **more):
    """Connect as the page does, and say who looks, and which video is decoded."""
    url = url_of(process).replace("http", "ws", 1) + "/live/socket"
    async with connect(url, **more) as socket:
        await socket.send(json.dumps({"token": token, "decodes": list(decodes)}))
        yield Page(socket, shows)


@contextmanager
def browser():
    """Headless Chromium, the system's."""
    from playwright.sync_api import sync_playwright

    # Root has no sandbox to go into.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=CHROMIUM, args=arguments, timeout=1000 * PATIENCE_SECONDS
        )
        try:
            yield chromium
        finally:
            chromium.close()
