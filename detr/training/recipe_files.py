"""Recipes in files: those that ship with the project, by name, and a user's own, by path."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from common.domain.errors import ConfigurationError

AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


def load_recipe_file(kind: type[AnyRecipe], package: str, name_or_file: str) -> AnyRecipe:
    """Load a recipe.

    Args:
        kind: what it is validated as.
        package: whose folder `recipes` holds those that ship.
        name_or_file: one of their names, or the path of a YAML file.

    Raises:
        ConfigurationError: there is no such recipe, or it is malformed, naming each bad key.
    """
    shipped = resources.files(package) / "recipes" / f"{name_or_file}.yaml"
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml"} and path.is_file():
        text = path.read_text(encoding="utf-8")
    elif shipped.is_file():
        text = shipped.read_text(encoding="utf-8")
    else:
        names = ", ".join(shipped_recipe_names(package))
        raise ConfigurationError(f"there is no recipe {name_or_file}; shipped recipes: {names}.")
    try:
        return kind.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"recipe {name_or_file} is not valid YAML.") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()
        )
        raise ConfigurationError(f"recipe {name_or_file}: {problems}") from error


def shipped_recipe_names(package: str) -> list[str]:
    """Return the names of the recipes that ship in a package."""
    folder = resources.files(package) / "recipes"
    return sorted(file.name.removesuffix(".yaml") for file in folder.iterdir())
