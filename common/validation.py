"""What pydantic found wrong in settings, manifests and recipes, told in a line."""

from typing import TYPE_CHECKING

from pydantic import ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# In front of what a validator of ours says.
_THEIR_WORDS = "Value error, "


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
