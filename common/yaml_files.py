"""Reads YAML files; what is wrong with one is told by its place, never by its text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Match, Optional, Sequence, Set, Tuple, Union

import yaml

from common.domain.errors import ConfigurationError


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping, of which YAML's own takes the last."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it stands in the file.

        Raises:
            yaml.composer.ComposerError: a key stands in it twice.
        """
        node = super().compose_mapping_node(anchor)
        seen: Set[Tuple[str, str]] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                problem = "a key stands here for the second time"
                raise yaml.composer.ComposerError(None, None, problem, key.start_mark)
            seen.add((key.tag, key.value))
        return node


_QUOTED = re.compile(r"'([^']*)'")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; None if it is empty.

    Raises:
        ConfigurationError: it cannot be read, or is not YAML. The sentence quotes none of its
            lines, which may hold a password.
    """
    return parse_yaml(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The text of a YAML file.

    Raises:
        ConfigurationError: it cannot be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not YAML: it is no text in UTF-8") from None


def parse_yaml(text: str, name: str) -> Any:
    """The content of YAML; `name` is for errors, which are those of `read_yaml`."""
    try:
        # A safe loader, which makes nothing but plain values.
        return yaml.load(text, _Loader)  # noqa: S506
    except yaml.MarkedYAMLError as error:
        # Not `from error`: a traceback would show the line.
        raise ConfigurationError(f"{name} is not YAML: {_place(error)}") from None
    except yaml.YAMLError:
        raise ConfigurationError(f"{name} is not YAML: it has control characters") from None
    except RecursionError:
        raise ConfigurationError(f"{name} is not YAML: it nests too deeply") from None
    except ValueError:
        # Of a date or a number that there is not.
        raise ConfigurationError(f"{name} is not YAML: it has an impossible value") from None


def line_of(text: str, path: Sequence[Union[int, str]]) -> Optional[int]:
    """In which line of YAML a value begins, or the nearest that holds its place; from 1.

    Args:
        text: of the file.
        path: keys and indices that lead to the value.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError):
        return None
    for step in path:
        below = _below(node, step)
        if below is None:
            break
        node = below
    return None if node is None else node.start_mark.line + 1


def _below(node: Optional[yaml.Node], step: Union[int, str]) -> Optional[yaml.Node]:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step] if step < len(node.value) else None
    if isinstance(node, yaml.MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    return None


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    where = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}: "
    return where + _QUOTED.sub(_without_text, error.problem or "it cannot be read")


def _without_text(match: Match[str]) -> str:
    """Punctuation and what the parser calls a thing stay, such as `','` and `'<stream end>'`."""
    return match[0] if len(match[1]) <= 1 or match[1].startswith("<") else "'...'"
