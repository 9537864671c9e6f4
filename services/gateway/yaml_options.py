"""Options that a person wrote into a YAML file, as a pydantic model has them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from common.domain.errors import ConfigurationError
from common.yaml_files import read_yaml

Options = TypeVar("Options", bound=BaseModel)


def read_options(path: Path, kind: type[Options]) -> Options:
    """What a YAML file holds.

    Raises:
        ConfigurationError: it cannot be read, or makes no sense; the sentence shows no value, since
            it may be secret.
    """
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, each['loc'])) or 'content'}: {each['msg']}"
            for each in error.errors()
        )
        # Not `from error`: a traceback would show the values.
        raise ConfigurationError(f"{path}: {told}") from None


def refuse_same_names(path: Path, what: str, names: Sequence[str]) -> None:
    """Make sure that each has a name of its own.

    Args:
        path: of the file that they are in.
        what: they are, in the plural.
        names: of all of them.

    Raises:
        ConfigurationError: two of them have the same.
    """
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"{path}: two {what} are called {twice[0]!r}")
