"""Every Python program on the pages runs as it stands, with the addresses of this system."""

import re
import subprocess
import sys

import pytest

from tandem.shipped import shipped_clip
from tests.harness import ROOT, clean_environment
from tests.picture_doors import gateway_of
from tests.waiting import PATIENCE_SECONDS

pytestmark = pytest.mark.slow

# Of a page: what stands before its program, what stands behind it, and what it prints.
PROGRAMS = {
    ("README.md", 0): ("", "", r"person 0\.\d+ Box\("),
    ("README.md", 1): ("", "", r"^$|\w+ 0\.\d+ Box\("),
    ("docs/getting-started.md", 0): ("", "", r"person 0\.\d+ Box\("),
    ("docs/getting-started.md", 1): (
        'from tandem import LocalDetector; detector = LocalDetector("models/demo-r50")',
        "",
        r"^0\.0 \d \(360, 480, 3\)\n0\.041",
    ),
    ("docs/getting-started.md", 2): ("", "", r"^0 \d+ None$"),
    ("docs/picture-doors.md", 0): ("", "", r"\["),
    ("docs/security.md", 0): ("", "print(client)", "DetectorClient"),
    ("docs/traces.md", 0): ("import asyncio", "print(asyncio.run(count(frames)))", r"^\[\d+\]$"),
}
# A program may await, as in an interpreter that was started by `python -m asyncio`.
RUN = """
import ast, asyncio, inspect, sys
flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
result = eval(compile(sys.argv[1], sys.argv[2], "exec", flags), {"__name__": "__main__"})
if inspect.iscoroutine(result):
    asyncio.run(result)
"""


def programs(page):
    text = (ROOT / page).read_text()
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, made):
    """What the programs find where they are started."""
    for name in ("models", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("street.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).symlink_to(ROOT / "docs/images/demo.jpg")
    (tmp_path / "trip.mp4").symlink_to(shipped_clip())
    (tmp_path / "certificates").symlink_to(made)
    return tmp_path


@pytest.fixture(scope="module")
def triton(cluster):
    with gateway_of(cluster.address, "--open-inference") as gateway:
        yield gateway.announcement["address"]


def test_every_program_is_run():
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    named = [str(page.relative_to(ROOT)) for page in pages]
    shown = {(page, index) for page in named for index in range(len(programs(page)))}
    assert shown == set(PROGRAMS)


@pytest.mark.parametrize(("page", "index"), PROGRAMS)
def test_a_program_runs_as_it_stands(cluster, triton, folder, page, index):
    before, behind, printed = PROGRAMS[page, index]
    shown = programs(page)[index]
    here = shown.replace("127.0.0.1:50050", cluster.address).replace("127.0.0.1:50053", triton)
    frames = 'frames = [open("docs/images/demo.jpg", "rb").read()]'
    ran = subprocess.run(
        [sys.executable, "-c", RUN, "\n".join((frames, before, here, behind)), page],
        cwd=folder,
        env={**clean_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert re.search(printed, ran.stdout.strip())
