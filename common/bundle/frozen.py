"""What the parts of a manifest have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticCustomError


class Frozen(BaseModel):
    """A value that cannot be changed, and that refuses keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def inconsistent(message: str) -> PydanticCustomError:
    """The error of values that do not fit each other."""
    return PydanticCustomError("inconsistent", message)
