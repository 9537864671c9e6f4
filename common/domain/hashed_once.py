"""Keys that every frame looks up several times."""

from __future__ import annotations

from typing import Any, Type, TypeVar

T = TypeVar("T")


def hashed_once(key: Type[T]) -> Type[T]:
    """Have each object of a frozen dataclass keep its hash: many lookups take less than two do."""
    hash_of = key.__hash__

    def kept_hash(self: Any) -> int:
        kept = self.__dict__
        if "_hash" not in kept:
            kept["_hash"] = hash_of(self)
        return kept["_hash"]  # type: ignore[no-any-return]

    key.__hash__ = kept_hash  # type: ignore[method-assign]
    return key
