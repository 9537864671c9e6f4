"""The waiting of tests/system/compose.sh, with a command that fails for a moment."""

import re
import subprocess
import sys

from tests.harness import ROOT

HEALTHY = (
    '{"stages": [{"node": "workstation", "stage": "transformer", "healthy": true},'
    ' {"node": "workstation", "stage": "transformer", "healthy": false},'
    ' {"node": "edge", "stage": "transformer", "healthy": true}]}'
)


def functions(*names):
    """These functions, as the script has them."""
    text = (ROOT / "tests/system/compose.sh").read_text()
    found = [re.search(rf"^{name}\(\) {{(?:.* }}$|.*?^}}$)", text, re.M | re.S) for name in names]
    return "\n".join(each[0] for each in found)


def command(tmp_path):
    """Stands for a Python whose `tandem status` fails once, as of a server that starts."""
    path = tmp_path / "python"
    path.write_text(
        f"""#!/bin/sh
if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi
if [ -e {tmp_path}/asked ]; then echo '{HEALTHY}'; exit; fi
touch {tmp_path}/asked
echo 'tandem: no Tandem orchestrator answers' >&2
exit 1
"""
    )
    path.chmod(0o755)
    return path


def test_a_status_that_fails_for_a_moment_is_waited_for_without_a_traceback(tmp_path):
    script = (
        "set -euo pipefail\n"
        + functions("eventually", "as", "transformers", "there_are")
        + "\nSECONDS=0; HOLDERS=/nowhere; ADDRESS=127.0.0.1; die() { echo died; exit 1; }\n"
        + "eventually 60 'one transformer' there_are 1 && echo found"
    )
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": "/usr/bin:/bin", "PYTHON": str(command(tmp_path))},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "found\n"), done.stderr
    assert done.stderr == "tandem: no Tandem orchestrator answers\n"


def test_a_query_without_an_answer_is_a_sentence():
    done = subprocess.run(
        [sys.executable, "tests/system/query.py", "http://127.0.0.1:1", "up"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("query.py: no answer: ")
    assert "Traceback" not in done.stderr
