"""Takes README's picture of the live view: `python -m scripts.live_view_picture`.

Starts `tandem up --live-view` on free ports, looks at it in headless Chromium once the demo clip
runs and the placements have been measured, and writes docs/images/live-view.jpg. For figures that
are fit to be shown, nothing else should run on the machine.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/images/live-view.jpg"
SIZE = {"width": 1440, "height": 880}
QUALITY = 88
SETTLING_SECONDS = 20.0
LEAST_OBJECTS = 4


def main() -> None:
    """Start, look, write, stop."""
    command = [sys.executable, "-m", "tandem", "up", "--live-view", "--json"]
    ports = ["--port", "0", "--http-port", "0"]
    with subprocess.Popen([*command, *ports], cwd=ROOT, stdout=subprocess.PIPE) as process:
        try:
            if process.stdout is None:
                raise RuntimeError("it was started without a pipe")
            url = json.loads(process.stdout.readline())["gateway"]["http"]
            picture = cv2.imdecode(np.frombuffer(look(url), np.uint8), cv2.IMREAD_COLOR)
            cv2.imwrite(str(PICTURE), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        finally:
            process.terminate()


def look(url: str) -> bytes:
    """A screenshot, PNG."""
    # Root has no sandbox to go into.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=arguments
        )
        page = chromium.new_page(viewport=SIZE, color_scheme="light")
        page.goto(url)
        page.wait_for_selector("canvas[data-frame]", timeout=120_000)
        time.sleep(SETTLING_SECONDS)
        wait_for_objects(page)
        picture = page.screenshot()
        chromium.close()
    return picture


def wait_for_objects(page: Page) -> None:
    """Wait for a moment at which the clip shows several objects."""
    for _ in range(60):
        if len(page.inner_text(".seen").split(",")) >= LEAST_OBJECTS:
            return
        time.sleep(0.5)


if __name__ == "__main__":
    main()
