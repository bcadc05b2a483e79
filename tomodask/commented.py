"""A recipe to begin with: every setting, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from tomodask.errors import MissingInputError, RecipeError
from tomodask.preprocess import CORRECTIONS
from tomodask.recipe import DEFAULT_CORRECTIONS, Recipe, canonical


def write_commented(path: Path, *, source: str | None = None, output: str | None = None) -> None:
    """Write a recipe with every setting, its default and what it means.

    Raises
    ------
    RecipeError : the file exists; a recipe is never overwritten.
    """
    if path.exists():
        raise RecipeError(f"{path} exists: choose another name, a recipe is never overwritten")
    if not path.resolve().parent.is_dir():
        raise MissingInputError(
            f"there is no folder {path.resolve().parent} to write {path.name} in"
        )
    named = Recipe(source=source or "scan.h5", output=output or "volume.zarr")
    lines = ["# Recipe of tomodask: edit, then `tomodask run " + path.name + "`.", ""]
    values = named.as_dict()
    for name, field in Recipe.model_fields.items():
        lines.append(f"# {field.description}")
        lines += _yaml_lines(name, values[name])
        lines.append("")
    path.write_text("\n".join(lines))


def _yaml_lines(name: str, value: Any) -> list[str]:
    if name == "corrections":
        value = [canonical(CORRECTIONS, name, choice) for choice in DEFAULT_CORRECTIONS]
    return yaml.safe_dump({name: value}, sort_keys=False).rstrip().splitlines()
