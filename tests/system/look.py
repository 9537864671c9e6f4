"""Looks at the live view as a browser does: its page, its frames and the system, over HTTP.

    python tests/system/look.py http://127.0.0.1:8080 [OPERATOR_TOKEN_FILE]

With a token it sets the placement to `full` and back to `auto`, after it was refused without.
"""

import asyncio
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path

from websockets.asyncio.client import connect

FRAMES = 20


def say(text: str) -> None:
    sys.stdout.write(text + "\n")


async def look(url: str) -> None:
    """Wait for frames with boxes, and for a system that is entirely healthy."""
    boxes, frames, system = 0, 0, None
    async with (
        asyncio.timeout(60),
        connect(url.replace("http", "ws", 1) + "/live/socket") as socket,
    ):
        await socket.send(json.dumps({"token": ""}))
        while frames < FRAMES or not boxes or not system:
            message = await socket.recv()
            if isinstance(message, str):
                system = json.loads(message)["system"]
                continue
            head = json.loads(message[4 : 4 + int.from_bytes(message[:4], "big")])
            frames, boxes = frames + 1, boxes + len(head["boxes"])
            await socket.send(json.dumps({"seen": head["camera"]}))
    unhealthy = [stage["node"] for stage in system["stages"] if not stage["healthy"]]
    say(f"live view: {frames} frames with {boxes} boxes; unavailable: {unhealthy or 'nothing'}")


def place(url: str, placement: str, token: str = "") -> int:
    """Set the placement; returns the status."""
    request = urllib.request.Request(
        url + "/live/placement", json.dumps({"placement": placement}).encode(), method="POST"
    )
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def main() -> None:
    url = sys.argv[1]
    with urllib.request.urlopen(url) as page:
        assert b"Tandem live view" in page.read()
    asyncio.run(look(url))
    if len(sys.argv) > 2:
        token = Path(sys.argv[2]).read_text()
        statuses = [place(url, "full"), place(url, "full", token), place(url, "auto", token)]
        say(f"placement: {statuses}")
        assert statuses == [401, 200, 200]


if __name__ == "__main__":
    main()
