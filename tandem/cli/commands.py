"""Commands that live elsewhere and need more than `tandem` itself does, such as torch.

Their modules are imported when they are run, not when `tandem --help` lists them.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import typer.main
from typer.core import TyperCommand

from common.domain.errors import ConfigurationError


class LazyCommand(TyperCommand):
    """Stands for a command of another module's Typer application until it is run."""

    def __init__(self, name: str, module: str, extra: str, summary: str) -> None:
        """Name what to import.

        Args:
            name: of the command, here and there.
            module: has the application, as `app`.
            extra: the optional dependencies that it needs.
            summary: for the list of commands.
        """
        super().__init__(name, help=summary, short_help=summary)
        self._command = name
        self._module = module
        self._extra = extra

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> Any:
        """Hand over to the real command, which parses its own command line."""
        return self._load().make_context(info_name, args, *rest, **more)

    def _load(self) -> Any:
        try:
            app = importlib.import_module(self._module).app
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"this command needs {error.name}, which is not installed: run "
                f"pip install -e '.[{self._extra}]' in Tandem's folder"
            ) from error
        return typer.main.get_group(app).commands[self._command]


def is_present(module: str) -> bool:
    """Whether a module's file is here, without importing its packages."""
    package, *rest = module.split(".")
    spec = importlib.util.find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    return any(Path(folder, *rest).with_suffix(".py").is_file() for folder in folders or ())
