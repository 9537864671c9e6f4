"""A data set's categories against those of a model: by id, else by name, else not at all."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path

from common.domain.errors import ConfigurationError
from detr.coco_entries import Say

_MOST_NAMED = 10


def match_categories(
    path: Path, listed: Mapping[int, str], used: Collection[int], model: Mapping[int, str], say: Say
) -> dict[int, int]:
    """Return which of the model's categories stands for each of the data set's that it knows.

    Args:
        path: the data set's file, for messages.
        listed: its ids and names.
        used: the ids that annotations have; others count for nothing.
        model: the model's ids and names; one that an import made up (`class 7`) fits any.
        say: is told if names decide, and of categories that the model does not know at all.

    Raises:
        ConfigurationError: ids and names of a used category contradict the model's and names alone
            do not settle it, or the model knows none of them.
    """
    by_name = {_folded(name): one for one, name in model.items() if name}
    wrong = [one for one in sorted(used) if not _same(listed[one], model.get(one))]
    unknown = [one for one in wrong if _folded(listed[one]) not in by_name]
    if all(one in unknown and one not in model for one in wrong) and len(wrong) < len(used):
        if unknown:
            say(_not_known(path, unknown, listed))
        return {one: one for one, name in listed.items() if _same(name, model.get(one))}
    if unknown:
        raise ConfigurationError(_contradiction(path, wrong, unknown, listed, model))
    matched = {
        one: by_name[_folded(name)] for one, name in listed.items() if _folded(name) in by_name
    }
    if len(set(matched.values())) < len(matched):
        raise ConfigurationError(f"{path}: two categories have the name of one of the model's.")
    first = wrong[0]
    say(
        f"{path}: its category ids are not the model's, so categories are matched by name: "
        f"{first} {listed[first]!r} is the model's {matched[first]}, and so on."
    )
    return matched


def _not_known(path: Path, unknown: list[int], listed: Mapping[int, str]) -> str:
    names = ", ".join(listed[one] for one in unknown[:_MOST_NAMED])
    more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
    return f"{path}: the model does not know {names}{more}; their objects count as missed."


def _contradiction(
    path: Path,
    wrong: list[int],
    unknown: list[int],
    listed: Mapping[int, str],
    model: Mapping[int, str],
) -> str:
    one = unknown[0] if unknown[0] in wrong else wrong[0]
    has = f"the model's category {one} is {model[one]!r}" if one in model else "the model has no"
    its = has if one in model else f"{has} category {one}"
    names = sorted(name for name in model.values() if name)
    shown = ", ".join(names[:_MOST_NAMED])
    shown += f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return (
        f"{path}: category {one} is {listed[one]!r}, but {its}, and names do not settle it: the "
        f"model does not know {listed[unknown[0]]!r}; it knows {shown or 'no names'}."
    )


def same_name(name: str, other: str) -> bool:
    """Tell whether two names are one, but for case and spaces, or the other says nothing."""
    return (
        not other
        or re.fullmatch(r"class \d+", other) is not None
        or (_folded(name) == _folded(other))
    )


def _same(name: str, known: str | None) -> bool:
    return known is not None and same_name(name, known)


def _folded(name: str) -> str:
    return " ".join(name.casefold().split())
