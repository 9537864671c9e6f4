"""A client in another language works from the protos alone."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness import ROOT
from tests.streams import jpeg

NODE = Path(__file__).parent / "node"


@pytest.fixture(scope="module")
def node_client():
    """The Node.js client, its packages installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js on this machine")
    if not (NODE / "node_modules").is_dir():
        installed = subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=NODE,
            capture_output=True,
            text=True,
        )
        if installed.returncode != 0:
            pytest.skip(f"npm cannot install the client's packages: {installed.stderr[-300:]}")
    return ["node", str(NODE / "detect.js")]


def test_twenty_frames_get_twenty_ordered_answers(cluster, node_client, tmp_path):
    for number in range(20):
        (tmp_path / f"{number:03}.jpg").write_bytes(jpeg(number))
    ran = subprocess.run(
        [*node_client, cluster.address, str(ROOT / "protos"), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NODE_NO_WARNINGS": "1"},
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    responses = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [each["frameId"] for each in responses] == list(range(20))
    assert {each["result"] for each in responses} == {"detections"}
    assert {each["placement"] for each in responses} == {"PLACEMENT_BACKBONE"}
    found = [each["detections"]["detections"] for each in responses]
    assert [len(each) for each in found] == [5] * 20
    assert len({json.dumps(each) for each in found}) == 20
