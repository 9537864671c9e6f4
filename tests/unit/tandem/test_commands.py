import subprocess
import sys
import textwrap

import pytest
import typer
import typer.main

from common.domain.errors import ConfigurationError
from tandem.cli.commands import LazyCommand, is_present


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
    run(LazyCommand("greet", name, "train", "Greets."), "edge", "--loud")
    assert capsys.readouterr().out == "EDGE\n"


def test_what_is_missing_is_told_with_the_remedy(module):
    name = module("lazy_example_torch", "import surely_not_installed")
    command = LazyCommand("greet", name, "train", "Greets.")
    with pytest.raises(ConfigurationError, match=r"needs surely_not_installed.*\[train\]"):
        run(command)


def test_an_error_inside_of_the_module_is_not_taken_for_a_missing_package(module):
    name = module("lazy_example_broken", "raise ValueError('broken')")
    with pytest.raises(ValueError, match="broken"):
        run(LazyCommand("greet", name, "train", "Greets."))


@pytest.mark.parametrize(
    ("name", "expected"),
    [("tandem.cli.commands", True), ("tandem.nothing", False), ("no_such_package.module", False)],
)
def test_is_present(name, expected):
    assert is_present(name) is expected


def test_the_command_line_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None;"
        "from tandem.cli.app import run_command; run_command(['--help']);"
        "assert not [name for name in sys.modules if name.startswith('detr')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
