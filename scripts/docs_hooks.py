"""Adds to the docs site what lies outside of docs/: the README, other files, and all settings."""

import importlib
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

# By the file's path from the repository's root, its path in the site.
PUBLISHED = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "threat-model.md",
    "LICENSE": "LICENSE.txt",
    "NOTICE": "NOTICE.txt",
    "models/records/demo-r34/curve.png": "images/demo-r34-curve.png",
}
EXAMPLES = "examples.md"
SITE = {**PUBLISHED, "examples/README.md": EXAMPLES}
LANGUAGES = {".cc": "cpp", ".js": "javascript", ".py": "python", ".sh": "bash"}
# The target of a Markdown link or image that names a file and not an address or an anchor.
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)")
# A line that names a class of settings; a table of them takes its place.
SETTINGS = re.compile(r"^\[settings: ([\w.]+)\.(\w+)\]$", re.MULTILINE)
# A line that names enumerations of a module; a table of their values takes its place.
VALUES = re.compile(r"^\[values: ([\w.]+) ([\w ]+)\]$", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the published files to those of docs/."""
    root = Path(config.config_file_path).parent
    for path, uri in PUBLISHED.items():
        files.append(File.generated(config, uri, abs_src_path=str(root / path)))
    files.append(File.generated(config, EXAMPLES, content=_examples(root / "examples")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Makes links between docs/ and the published files lead to pages of the site."""
    uri = page.file.src_uri
    source = {site: path for path, site in SITE.items()}.get(uri, f"docs/{uri}")

    def in_site(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link[1]))
        target = SITE.get(target, target.removeprefix("docs/"))
        return posixpath.relpath(target, posixpath.dirname(uri) or ".")

    markdown = SETTINGS.sub(_settings_table, LINK.sub(in_site, markdown))
    return VALUES.sub(_values_table, markdown)


def _examples(folder: Path) -> str:
    """The README of the examples, whose links lead to the examples' text below it."""
    page, sections = (folder / "README.md").read_text(), []
    for name in re.findall(r"^\| \[[^]]+\]\(([^)]+)\)", page, re.MULTILINE):
        anchor = re.sub(r"\W", "-", name)
        page = page.replace(f"]({name})", f"](#{anchor})")
        language = LANGUAGES[Path(name).suffix]
        code = (folder / name).read_text()
        sections.append(f"## {name} {{#{anchor}}}\n\n```{language}\n{code}```\n")
    return "\n".join([page, *sections])


def _settings_table(directive: re.Match[str]) -> str:
    model: type[BaseModel] = getattr(importlib.import_module(directive[1]), directive[2])
    # What a class adds to the one above it; a default that it changes counts as added.
    inherited = next(
        (base.model_fields for base in model.__mro__[1:] if getattr(base, "model_fields", None)), {}
    )
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in model.model_fields.items():
        if name not in inherited or field.default != inherited[name].default:
            default = "" if field.default in (None, PydanticUndefined) else f"`{field.default}`"
            meaning = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(lines)


def _values_table(directive: re.Match[str]) -> str:
    module = importlib.import_module(directive[1])
    lines = ["| enumeration | values, in Python and as text |", "|---|---|"]
    for name in directive[2].split():
        values = ", ".join(f"`{one.name}` = `{one.value}`" for one in getattr(module, name))
        lines.append(f"| `{name}` | {values} |")
    return "\n".join(lines)
