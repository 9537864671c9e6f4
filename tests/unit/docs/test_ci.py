"""The public CI calls the steps of .ci/run, all of them, and only such as there are."""

import re
import subprocess
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
WORKFLOWS = [
    yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")
]


def steps_there_are():
    shown = subprocess.run([ROOT / ".ci/run", "steps"], check=True, capture_output=True, text=True)
    return set(shown.stdout.split())


def steps_called():
    for workflow in WORKFLOWS:
        for job in workflow["jobs"].values():
            matrix = job.get("strategy", {}).get("matrix", {}).get("step", [])
            for step in job["steps"]:
                for called in re.findall(r"\.ci/run (.+)", step.get("run", "")):
                    yield from matrix if "matrix.step" in called else called.split()


def test_workflows_call_every_step_and_no_other():
    assert set(steps_called()) == steps_there_are()


def test_an_unknown_step_is_refused():
    run = subprocess.run([ROOT / ".ci/run", "deploy"], capture_output=True, text=True)
    assert run.returncode == 2
    assert "there is no step 'deploy'" in run.stderr


def test_hooks_run_programs_of_the_pinned_environment():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert all(hook["entry"].startswith(".venv/bin/") for hook in hooks)
    pinned = (ROOT / "requirements/dev.txt").read_text()
    assert "\npre-commit-hooks==" in pinned
    assert "\nruff==" in pinned
