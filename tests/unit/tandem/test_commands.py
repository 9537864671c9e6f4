import importlib
import re
import subprocess
import sys
import textwrap
from importlib.metadata import version

import pytest
import typer
import typer.main

from common.domain.errors import ConfigurationError
from tandem import __version__
from tandem.cli.commands import Command, LazyCommand, lazy_commands
from tests.harness import ROOT


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module that exists for the test's time, under a name of its own."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, source):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name

    yield write
    for name in [name for name in sys.modules if name.startswith("lazy_example")]:
        del sys.modules[name]


def lazy(module):
    return LazyCommand(
        Command("greet", "Greets.", lambda: importlib.import_module(module).app, "train")
    )


def run(command, *arguments):
    app = typer.Typer()
    app.callback()(lambda: None)
    group = typer.main.get_group(app)
    group.add_command(command)
    return group.main(args=["greet", *arguments], prog_name="tandem", standalone_mode=False)


@pytest.mark.parametrize("others", [0, 1])
def test_the_real_command_parses_and_runs(module, capsys, others):
    source = """
        import typer
        app = typer.Typer()

        @app.command("greet")
        def greet(name: str, loud: bool = False) -> None:
            print(name.upper() if loud else name)
        """
    more = '\n@app.command("other")\ndef other() -> None:\n    pass\n'
    name = module(f"lazy_example_{others}", textwrap.dedent(source) + more * others)
    run(lazy(name), "edge", "--loud")
    assert capsys.readouterr().out == "EDGE\n"


def test_what_is_missing_is_told_with_the_remedy(module):
    name = module("lazy_example_torch", "import surely_not_installed")
    command = lazy(name)
    with pytest.raises(ConfigurationError, match=r"needs surely_not_installed.*\[train\]"):
        run(command)


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("--output", "x", "--help")])
def test_help_tells_what_a_command_is_for_whose_packages_are_missing(module, capsys, arguments):
    name = module("lazy_example_help", "import surely_not_installed")
    assert run(lazy(name), *arguments) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Greets." in told
    assert "needs surely_not_installed" in told
    assert "pip install -e '.[train]'" in told


def test_an_error_inside_of_the_module_is_not_taken_for_a_missing_package(module):
    name = module("lazy_example_broken", "raise ValueError('broken')")
    with pytest.raises(ValueError, match="broken"):
        run(lazy(name))


def test_every_command_that_is_named_can_be_loaded():
    paths = [command.path for command in lazy_commands()]
    assert paths == [
        *("up", "detect", "status", "placement", "bench"),
        *("certificates init", "certificates issue", "certificates show"),
        *(
            "model info",
            "model calibrate",
            "model build",
            "model deploy",
            "model keygen",
            "model sign",
            "model verify",
        ),
        *("evaluate", "bottleneck export", "bottleneck train", "distill", "model import", "train"),
    ]
    for command in lazy_commands():
        assert command.path.split()[-1] in typer.main.get_group(command.load()).commands


def test_what_the_library_alone_lacks_is_told_with_the_remedy():
    code = "import sys; sys.modules['typer'] = None; import tandem.__main__ as m; m.main()"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (
        1,
        "tandem: the command needs typer, which is not installed: run pip install tandem-detr\n",
    )


def test_what_an_option_needs_is_told_with_the_remedy():
    """Calibrating does without pycocotools; only judging by annotations needs it."""
    arguments = ["model", "calibrate", "models/demo-r50", "--images", ".", "--annotations", "no"]
    code = (
        "import sys; sys.modules['pycocotools'] = None;"
        f"sys.argv = ['tandem', *{arguments}]; import tandem.__main__ as m; m.main()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 1
    assert "which is not installed: run pip install 'tandem-detr[evaluate]'" in ran.stderr


def test_the_list_of_commands_needs_neither_torch_nor_grpc():
    code = (
        "import sys; sys.modules['torch'] = None;"
        "from tandem.cli.app import run_command; run_command(['--help']);"
        "heavy = ('detr.cli', 'scenes', 'grpc', 'cv2', 'av', 'numpy', 'onnxruntime');"
        "assert not [name for name in sys.modules if name.startswith(heavy)]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("name", ["workstation", "edge"])
def test_the_version_stands_once(name):
    labels = re.findall(
        r"^ARG VERSION=(.+)$", (ROOT / f"docker/{name}.Dockerfile").read_text(), re.M
    )
    assert labels == [__version__] == [version("tandem-detr")]
