"""What pydantic found wrong in settings, manifests and recipes, told in a line."""

from typing import TYPE_CHECKING, Optional

from pydantic import ValidationError
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# In front of what a validator of ours says.
_THEIR_WORDS = "Value error, "
_NUMBERS = (int, float, Optional[int], Optional[float])


def problems(error: ValidationError, whole: str = "") -> str:
    """Every key that is wrong, with why; without the values, which may be secret.

    Args:
        error: that pydantic raised.
        whole: what is named where no single key is wrong.
    """
    told = ((".".join(map(str, item["loc"])) or whole, reason(item)) for item in error.errors())
    return "; ".join(f"{place}: {why}" if place else why for place, why in told)


def reason(problem: "ErrorDetails") -> str:
    """Why a value is wrong, without pydantic's own words in front of ours or names of classes."""
    if problem["type"] == "model_type":
        return "keys with their values are expected here"
    if problem["type"] == "path_type":
        return "a path is expected here"
    message = problem["msg"]
    return message[len(_THEIR_WORDS) :] if message.startswith(_THEIR_WORDS) else message


def refuse_switch(value: object, field: FieldInfo) -> None:
    """Refuse a truth for a number: YAML reads `on` and `yes` as true, which would count as 1.

    Args:
        value: as it was read.
        field: that it is for, which may be of any type.

    Raises:
        ValueError: it is one, for a validator of pydantic to pass on.
    """
    if isinstance(value, bool) and field.annotation in _NUMBERS:
        raise ValueError("a number is expected here")
