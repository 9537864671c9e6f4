"""What the docs name exists: files, modules, commands with their flags, settings with defaults."""

import ast
import contextlib
import functools
import importlib
import io
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tandem
from services.backbone.settings import BackboneSettings
from services.gateway.settings import GatewaySettings
from services.orchestrator.settings import OrchestratorSettings
from services.transformer.service import TransformerSettings
from tandem.cli.app import build_command

ROOT = Path(__file__).parents[3]
SERVICES = {
    "services.backbone": BackboneSettings,
    "services.transformer": TransformerSettings,
    "services.orchestrator": OrchestratorSettings,
    "services.gateway": GatewaySettings,
}
# Decisions and the changelog tell of the time at which they were written.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    if "decisions" not in path.parts and "images" not in path.parts
}
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+(?:\n[^`\n]+)?)`")
FOLDERS = [
    "benchmarks",
    "common",
    "deploy",
    "detr",
    "docker",
    "docs",
    "examples",
    "experiments",
    "models",
    "protos",
    "requirements",
    "scenes",
    "scripts",
    "services",
    "tandem",
    "tests",
]
# Paths that a reader or a command makes, or that another project has.
ELSEWHERE = re.compile(
    r"^models/(detr|coco)|^docker/compose$|^docker\.io$|^benchmarks/record\.jsonl$|^docs/images/experiments/NAME|^tandem/?$|^tandem/v1/|[*<>{}$]|NAME|\.\.\."
)


def code_of(text):
    """Each inline or fenced piece of code on a page; what a shell runs with its lines joined."""
    fenced = [match[3] for match in FENCE.finditer(text)]
    inline = INLINE.findall(FENCE.sub("", text))
    return [
        piece.replace("\\\n", " ") for piece in (*fenced, *(" ".join(i.split()) for i in inline))
    ]


def command_lines(text, program):
    """The words after a program's name, wherever it is run on a page."""
    start = re.compile(rf"(?:^|(?<!from)[\s/]){program}(?:\s+(.*))?$")
    for piece in code_of(text):
        for line in piece.splitlines():
            found = start.search(line.split("#")[0].split("|")[0].rstrip())
            if found:
                with contextlib.suppress(ValueError):
                    yield shlex.split(found[1] or "")


def flags_in(words):
    return {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}


@functools.cache
def help_of(*names):
    os.environ["COLUMNS"] = "300"
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        build_command().main(args=[*names, "--help"], prog_name="tandem", standalone_mode=False)
    return shown.getvalue()


def command_named(words):
    depth = 2 if words[0] in ("bottleneck", "certificates", "model") else 1
    return [word for word in words[:depth] if re.fullmatch(r"[a-z]+", word)]


@pytest.mark.parametrize("page", PAGES)
def test_paths_exist(page):
    names = {path.name for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    missing = set()
    for piece in code_of(PAGES[page]):
        for word in re.findall(r"[\w./*<>{}$-]+", piece):
            path = word.rstrip(".,:")
            if ELSEWHERE.search(path):
                continue
            if path.split("/")[0] in FOLDERS and "/" in path and not (ROOT / path).exists():
                missing.add(path)
            if re.fullmatch(r"[a-z_]+\.py", path) and path not in names:
                missing.add(path)
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_modules_exist(page):
    missing = set()
    for piece in code_of(PAGES[page]):
        for name in re.findall(
            r"(?<![\w./-])(?:" + "|".join(FOLDERS) + r")(?:\.[a-z_]+)+\b(?![/(])", piece
        ):
            if ELSEWHERE.search(name):
                continue
            parts = name.split(".")
            here = ROOT.joinpath(*parts)
            above = ROOT.joinpath(*parts[:-1])
            is_module = here.is_dir() or here.with_suffix(".py").is_file()
            is_within = above.with_suffix(".py").is_file() or (above / "__init__.py").is_file()
            if not is_module and not (
                is_within and hasattr(importlib.import_module(".".join(parts[:-1])), parts[-1])
            ):
                missing.add(name)
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_commands_have_the_flags(page):
    unknown = set()
    for words in [
        *command_lines(PAGES[page], "tandem"),
        *command_lines(PAGES[page], "tandem-client"),
    ]:
        if not words or words[0].startswith("-") or not re.fullmatch(r"[a-z]+", words[0]):
            continue
        if words[0] in ("status`", "model") and len(words) == 1:
            continue
        shown = help_of(*command_named(words))
        unknown |= {
            f"{' '.join(command_named(words))} {flag}"
            for flag in flags_in(words)
            if not re.search(rf"{flag}(?![\w-])", shown)
        }
    assert not unknown


@pytest.mark.parametrize("page", PAGES)
def test_services_have_the_flags(page):
    unknown = set()
    for service, settings in SERVICES.items():
        known = {"--" + name.replace("_", "-") for name in settings.model_fields} | {"--help"}
        for words in command_lines(PAGES[page], service):
            unknown |= {f"{service} {flag}" for flag in flags_in(words) - known}
    assert not unknown


@pytest.mark.parametrize("page", PAGES)
def test_make_has_the_targets(page):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    code = "\n".join(code_of(PAGES[page]))
    assert set(re.findall(r"^make ([a-z-]+)", code, re.MULTILINE)) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_settings_exist_and_have_the_defaults(page):
    """Of each table whose columns begin with `setting` and `default`."""
    wrong = {}
    for names, told in re.findall(
        r"^\| (`[a-z_`, ]+`) \| ([^|]*) \|", _settings_tables(PAGES[page]), re.MULTILINE
    ):
        for name in re.findall(r"`([a-z_]+)`", names):
            fields = [
                model.model_fields[name]
                for model in SERVICES.values()
                if name in model.model_fields
            ]
            defaults = {str(field.default).lower() for field in fields}
            defaults |= {default.removesuffix(".0") for default in defaults}
            values = set(re.findall(r"[\w.]+", told.lower())) - {"stages"}
            if not values <= defaults:
                wrong[name] = (told, defaults)
    assert not wrong


def _settings_tables(text):
    return "\n".join(
        re.findall(r"^\| setting \| default \|.*?(?:\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    )


@pytest.mark.parametrize("page", PAGES)
def test_environment_variables_are_settings(page):
    known = {f"TANDEM_{name.upper()}" for model in SERVICES.values() for name in model.model_fields}
    named = set(re.findall(r"`(TANDEM_[A-Z_]+)`", PAGES[page])) - {"TANDEM_"}
    # What the `tandem` command reads.
    known |= {"TANDEM_TLS_CA", "TANDEM_TLS_SERVER_NAME", "TANDEM_TOKEN"}
    # Shown as what is refused, and as what a cluster injects.
    assert named - known <= {"TANDEM_X", "TANDEM_BACKBONE_SERVICE_HOST"}


@pytest.mark.parametrize("page", PAGES)
def test_python_is_valid_and_imports_what_exists(page):
    for _, language, source in FENCE.findall(PAGES[page]):
        if language != "python":
            continue
        tree = compile(source, page, "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                module = importlib.import_module(node.module)
                assert not [alias.name for alias in node.names if not hasattr(module, alias.name)]


def test_the_passage_of_a_frame_names_classes_and_methods_that_exist():
    methods = {
        (node.name, inner.name)
        for folder in ("common", "services", "tandem")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for inner in node.body
        if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    text = PAGES["docs/architecture.md"]
    passage = text[text.index("## The passage of one frame") : text.index("### Threads")]
    named = set(re.findall(r"`([A-Z]\w+[a-z]\w*)\.(\w+)`", passage))
    assert len(named) > 15
    assert not named - methods
    classes = {name for name, _ in methods}
    assert not set(re.findall(r"`([A-Z][a-z]+[A-Z]\w+)`", passage)) - classes


def test_the_list_of_decisions_is_whole():
    decisions = ROOT / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (decisions / "README.md").read_text())
    assert set(listed) == {path.name for path in decisions.glob("0*.md")}


def test_messages_of_the_troubleshooting_page_are_in_the_code():
    """Of each quoted message, three words in a row are those of some string of the code."""
    strings = "\n".join(
        node.value
        for folder in ("common", "detr", "scenes", "services", "tandem")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    missing = []
    for cell in re.findall(r"^\| ([^|]*`[^|]*) \|", PAGES["docs/troubleshooting.md"], re.MULTILINE):
        for message in re.findall(r"`([^`]+)`", cell):
            words = message.split()
            size = 3 if len(words) > 5 else 2
            starts = range(max(len(words) - size + 1, 1))
            runs = {" ".join(words[start : start + size]) for start in starts}
            if len(words) > 2 and not any(run in strings for run in runs):
                missing.append(message)
    assert not missing


def test_the_reference_has_all_that_the_package_exports():
    listed = re.findall(r"^ +- (\w+)$", PAGES["docs/reference/tandem.md"], re.MULTILINE)
    assert sorted(listed) == sorted(set(tandem.__all__) - {"__version__"})


def test_the_first_program_of_getting_started_finds_the_objects():
    programs = [source for _, kind, source in FENCE.findall(PAGES["docs/getting-started.md"])]
    program = next(source for source in programs if "LocalDetector" in source)
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert not run.stderr
    assert {line.split()[0] for line in run.stdout.splitlines()} >= {"person", "airplane", "boat"}
