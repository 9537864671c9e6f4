"""Logs hold neither secrets nor what would steer the terminal that they are read on."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.harness import ROOT, clean_environment

SECRET = "rtsp://admin:ge/heim@cam/live"
PROGRAM = f"""
import logging, pathlib, structlog
from common.telemetry.logs import configure_logs
configure_logs(FORMAT, "info")
log = structlog.get_logger()
path, names = pathlib.Path("/a\\x1b"), ["\\u202e", {SECRET!r}]
log.info("a \\x1b[2J\\nforged", url={SECRET!r}, names=names, path=path)
log.info("long", text="x" * 380 + {SECRET!r})
try:
    raise ValueError("cannot open {SECRET}: \\x1b]0;owned\\x07")
except ValueError:
    log.exception("failed", authorization="Bearer geheim-geheim-geheim")
try:
    raise OSError("no {SECRET}")
except OSError:
    logging.getLogger("library").exception("cannot read %s: \x1b[2J", {SECRET!r})
logging.getLogger("library").info("nothing of note")
"""


def written(log_format: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("FORMAT", repr(log_format))],
        cwd=str(ROOT),
        env=clean_environment(),
        stderr=subprocess.PIPE,
        check=True,
    ).stderr.decode()


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_no_secret_and_no_escape_is_written(log_format: str) -> None:
    text = written(log_format)
    assert "heim" not in text
    assert "ValueError" in text
    assert "rtsp://***@cam/live" in text
    for steering in "\x1b\x07\u202e":
        assert steering not in text
    if log_format == "json":
        first, _, last, of_library = (json.loads(line) for line in text.splitlines())
        # A program reads what was there.
        assert first["event"] == "a \x1b[2J\nforged"
        assert last["authorization"] == "Bearer ***"
        assert (of_library["logger"], of_library["level"]) == ("library", "error")
        assert of_library["event"] == "cannot read rtsp://***@cam/live: \x1b[2J"
        assert "OSError: no rtsp://***@cam/live" in of_library["exception"]
    else:
        assert r"a \x1b[2J\nforged" in text.splitlines()[0]
