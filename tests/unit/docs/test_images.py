"""The images' recipes hold together, those too that cannot be built without NVIDIA's registry."""

import re
import subprocess
import tomllib

import pytest
from packaging.requirements import Requirement

from tests.harness import ROOT

DOCKERFILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
IDS = [path.stem for path in DOCKERFILES]
# What sh, or Docker itself, gives a value.
GIVEN = {"PATH", "@", "#"}


def instructions(path):
    """Each instruction's keyword and text, its lines joined."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            keyword, _, text = line.strip().partition(" ")
            yield keyword, text.strip()


@pytest.mark.parametrize("path", DOCKERFILES, ids=IDS)
def test_the_commands_are_shell(path):
    for keyword, text in instructions(path):
        if keyword == "RUN":
            command = re.sub(r"--mount=\S+", "", text)
            done = subprocess.run(["sh", "-n", "-c", command], capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stderr)


@pytest.mark.parametrize("path", DOCKERFILES, ids=IDS)
def test_every_variable_is_declared_in_its_stage(path):
    everywhere, declared = set(), None
    for keyword, text in instructions(path):
        if keyword in ("ARG", "ENV"):
            names = set(re.findall(r"(\w+)=", text)) | {text.split("=")[0]}
            everywhere |= names if declared is None else set()
            declared = None if declared is None else declared | names
        used = set(re.findall(r"\$\{(\w+)", text)) | set(re.findall(r"\$(\w+)", text))
        # What is declared before the first stage is known to FROM alone.
        assert used <= (everywhere if keyword == "FROM" else declared or set()) | GIVEN, text
        if keyword == "FROM":
            declared = set()


@pytest.mark.parametrize("path", DOCKERFILES, ids=IDS)
def test_what_is_copied_is_in_the_build_context(path):
    ignored = (ROOT / ".dockerignore").read_text().split()
    kept = {line.lstrip("!") for line in ignored if line.startswith("!")}
    stages = {text.split(" AS ")[1] for keyword, text in instructions(path) if " AS " in text}
    for keyword, text in instructions(path):
        if keyword != "COPY":
            continue
        origin = re.match(r"--from=(\S+)", text)
        if origin:
            assert origin[1] in stages
            continue
        for source in text.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.split("/")[0] in kept or source in kept, source


@pytest.mark.parametrize("path", DOCKERFILES, ids=IDS)
def test_it_runs_as_nobody_and_tells_its_version(path):
    users = [text for keyword, text in instructions(path) if keyword == "USER"]
    assert users[-1] == "tandem"
    version = re.search(r'__version__ = "(.+)"', (ROOT / "tandem/__init__.py").read_text())[1]
    told = [text for keyword, text in instructions(path) if text.startswith("VERSION=")]
    assert told == [f"VERSION={version}"]


def test_the_services_packages_are_part_of_the_projects():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    lines = (ROOT / "requirements" / "services.in").read_text().splitlines()
    services = [line for line in lines if not line.startswith("#")]
    assert project[: len(services)] == services


def test_the_images_export_traces_by_what_the_extra_brings():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "requirements" / "traces.in").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == (
        project["optional-dependencies"]["traces"]
    )


@pytest.mark.parametrize(("extra", "installed"), [("", "onnxruntime"), ("gpu", "onnxruntime-gpu")])
def test_the_wheel_brings_one_onnx_runtime(extra, installed):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    more = project["optional-dependencies"].get(extra, [])
    asked = [Requirement(line) for line in (*project["dependencies"], *more)]
    wanted = [each for each in asked if not each.marker or each.marker.evaluate({"extra": extra})]
    assert [each.name for each in wanted if "onnxruntime" in each.name] == [installed]
