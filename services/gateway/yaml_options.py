"""Options that a person wrote into a YAML file, as a pydantic model has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import BaseModel, ValidationError

from common.domain.errors import ConfigurationError
from common.validation import reason
from common.yaml_files import line_of, parse_yaml, read_text

Options = TypeVar("Options", bound=BaseModel)


@dataclass(frozen=True)
class OptionsFile(Generic[Options]):
    """What a YAML file holds.

    Attributes:
        path: of the file.
        text: that stands in it.
        options: that it tells.
    """

    path: Path
    text: str
    options: Options

    @classmethod
    def read(cls, path: Path, kind: type[Options]) -> OptionsFile[Options]:
        """Read a file.

        Raises:
            ConfigurationError: it cannot be read, or makes no sense; the sentence tells the lines,
                and shows no value, since it may be secret.
        """
        text = read_text(path)
        try:
            return cls(path, text, kind.model_validate(parse_yaml(text, str(path))))
        except ValidationError as error:
            told = "; ".join(
                f"{_line(text, each['loc'])}{'.'.join(map(str, each['loc'])) or 'content'}: "
                f"{reason(each)}"
                for each in error.errors()
            )
            # Not `from error`: a traceback would show the values.
            raise ConfigurationError(f"{path}: {told}") from None

    def refuse_same_names(self, what: str, names: Sequence[str]) -> None:
        """Make sure that each has a name of its own, which capitals alone do not make.

        Topics, and the file systems of many machines, know no capitals.

        Args:
            what: they are, in the plural: the key of their list.
            names: of all of them, in its order.

        Raises:
            ConfigurationError: two of them have the same.
        """
        known: dict[str, str] = {}
        for index, name in enumerate(names):
            first = known.get(name.casefold())
            if first is None:
                known[name.casefold()] = name
                continue
            where = f"{self.path}: {_line(self.text, (what, index, 'name'))}"
            if first == name:
                raise ConfigurationError(f"{where}two {what} are called {name!r}")
            raise ConfigurationError(
                f"{where}{name!r} and {first!r} differ only in capitals: give one of them another "
                "name"
            )


def _line(text: str, place: Sequence[int | str]) -> str:
    line = line_of(text, place)
    return "" if line is None else f"line {line}: "
