"""Engines that installed packages add, found as an installer leaves them on disk."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Callable

import pytest

from common.domain.errors import ConfigurationError
from common.engines.registry import engine_module, engine_modules

Installer = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installer:
    """Installs a package that names engines."""

    def put(**engines: str) -> None:
        folder = tmp_path / "some_engines-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            "Metadata-Version: 2.1\nName: some-engines\nVersion: 1.0\n"
        )
        lines = [f"{name} = {module}" for name, module in engines.items()]
        (folder / "entry_points.txt").write_text("\n".join(["[tandem.engines]", *lines]))
        monkeypatch.syspath_prepend(str(tmp_path))

    return put


def test_an_installed_package_adds_an_engine(install: Installer, tmp_path: Path) -> None:
    (tmp_path / "abacus.py").write_text(
        "DEVICES = ('cpu',)\nHALF_PRECISION_DEVICES = frozenset()\nload = print\n"
    )
    install(abacus="abacus")
    assert engine_module("abacus").__name__ == "abacus"
    sys.modules.pop("abacus")


def test_no_package_replaces_a_built_in_engine(install: Installer) -> None:
    install(onnxruntime="json")
    assert engine_modules()["onnxruntime"] == "common.engines.onnxruntime"


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        ("no_such_module", "'other' is not installed here: No module named 'no_such_module'"),
        ("json", "'other' cannot be used: json has no DEVICES, HALF_PRECISION_DEVICES$"),
    ],
)
def test_an_engine_that_cannot_be_used_is_a_sentence(
    install: Installer, module: str, reason: str
) -> None:
    install(other=module)
    with pytest.raises(ConfigurationError, match=reason):
        engine_module("other")
