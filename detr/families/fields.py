"""Which fields of `config.json` a family honours, which do not matter, and which it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from detr.errors import WeightsError
from detr.importing.known_fields import ABSENT, COMMON, TEXT, TRAINING
from detr.importing.reading import CONFIG_NAME
from detr.importing.stated import shown


@dataclass(frozen=True)
class Fields:
    """The fields of a configuration that a family knows.

    Attributes:
        honoured: those that the model is built by.
        only: those of which it takes these values alone.
        irrelevant: those that change no detection, beside `COMMON`, `TRAINING` and `TEXT`.
        inner: configurations that stand in this one, by their `model_type`.
    """

    honoured: frozenset[str]
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    irrelevant: frozenset[str] = frozenset()
    inner: Mapping[str, Mapping[str, Fields]] = field(default_factory=dict)

    @property
    def known(self) -> frozenset[str]:
        """Every field that is on one of the lists."""
        irrelevant = COMMON | TRAINING | TEXT | self.irrelevant
        return self.honoured | irrelevant | {*self.only, *self.inner}

    def checked(self, config: Mapping[str, Any], source: str = CONFIG_NAME) -> Mapping[str, Any]:
        """Return a configuration in which everything is honoured.

        Raises:
            WeightsError: a field changes what is computed, or may, and is not honoured.
        """
        for name, value in config.items():
            if name in self.only and not any(_same(value, one) for one in self.only[name]):
                choice = " or ".join(repr(one) for one in self.only[name])
                raise WeightsError(
                    f"{source}: {name} is {shown(value)}, and Tandem takes only {choice} there."
                )
            if name not in self.known and value not in ABSENT:
                raise WeightsError(
                    f"{source}: {name} is {shown(value)}, and Tandem cannot tell what it changes."
                )
        for name, kinds in self.inner.items():
            inner = config.get(name)
            if inner is not None:
                _fields_of(inner, kinds, f"{source}, {name}").checked(inner, f"{source}, {name}")
        return config

    def stated(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What of a whole configuration determines the graphs."""
        told: dict[str, Any] = {"model_type": config.get("model_type")}
        for name in sorted(self.honoured.union(self.only, self.inner)):
            value = config.get(name)
            if name in self.inner and value is not None:
                told[name] = self.inner[name][value["model_type"]].stated(value)
            elif value is not None:
                told[name] = value
        return told


def _same(value: Any, one: Any) -> bool:
    return bool(value == one) and type(value) is type(one)


def _fields_of(inner: Any, kinds: Mapping[str, Fields], source: str) -> Fields:
    if not isinstance(inner, dict):
        raise WeightsError(f"{source} is {shown(inner)}, not an object.")
    kind = inner.get("model_type")
    if not isinstance(kind, str) or kind not in kinds:
        raise WeightsError(
            f"{source}: model_type is {shown(kind)}, and Tandem takes only "
            f"{' or '.join(repr(each) for each in kinds)} there."
        )
    return kinds[kind]
