"""Where a recipe's settings come from: files, variables, key=value and flags, one layer each.

Later layers win: built-in default, user file, TOMODASK_* variables, recipe, key=value, flag. Where
each value came from is kept, for `tomodask run --explain`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tomodask.errors import MissingInputError, RecipeError, nearest
from tomodask.preprocess import CORRECTIONS
from tomodask.recipe import (
    DEFAULT_ALGORITHM,
    DEFAULT_CORRECTIONS,
    Recipe,
    Tree,
    name_and_parameters,
    validation_text,
)

ENVIRONMENT_PREFIX = "TOMODASK_"
CHOSEN = "chosen"  # stands for the algorithm that an earlier layer chose
# names the measured scans of the tests; tells a worker the threads of a block
NOT_SETTINGS = {"TOMODASK_DATA", "TOMODASK_THREADS"}


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers: in 1.1, `rows: 10:20` would be a number to the base 60, and 1e-3 a text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if not tag.endswith((":int", ":float"))]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def parse_yaml(text: str) -> Any:
    """The values in a YAML text; no tags, no objects."""
    return yaml.load(text, Loader=_Loader)


@dataclass(frozen=True)
class Layer:
    """Settings from one place."""

    origin: str
    settings: Tree


def recipe_file(path: str | Path) -> Layer:
    """A YAML file as a layer.

    Raises
    ------
    MissingInputError, RecipeError : no such file; not a YAML mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingInputError(f"there is no recipe {path}: write one with `tomodask init {path}`")
    try:
        content = parse_yaml(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise RecipeError(f"{path} should hold `key: value` lines, and holds {content!r:.60}")
    return Layer(str(path), content)


def environment_layer(environment: Mapping[str, str] = os.environ) -> Layer:
    """TOMODASK_CLUSTER__WORKERS=4 sets cluster.workers."""
    tree: Tree = {}
    for name, text in environment.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS:
            path = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
            set_path(tree, path, parse_yaml(text))
    return Layer("environment", tree)


def user_layer() -> Layer:
    """~/.config/tomodask/recipe.yaml, where it exists."""
    base = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    path = base / "tomodask" / "recipe.yaml"
    return recipe_file(path) if path.is_file() else Layer(str(path), {})


def assignments(texts: Iterable[str]) -> Layer:
    """`key.sub=value` arguments as a layer; values are read as YAML."""
    tree: Tree = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise RecipeError(f"{text!r}: an override is key=value, such as volume.chunk_rows=16")
        set_path(tree, key.split("."), parse_yaml(value))
    return Layer("key=value", tree)


def set_path(tree: Tree, path: list[str], value: Any) -> None:
    """Set a nested value, making the folders on the way."""
    for name in path[:-1]:
        step = tree.setdefault(name, {})
        if not isinstance(step, dict):
            step = tree[name] = {}
        tree = step
    tree[path[-1]] = value


def resolve(layers: Iterable[Layer]) -> tuple[Recipe, dict[str, str]]:
    """One recipe from layers, the later ones winning, and where each value came from.

    Raises
    ------
    RecipeError : an unknown key (the nearest known one is named) or a value out of range.
    """
    merged: Tree = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _merge(merged, layer.settings, layer.origin, origins)
    try:
        return Recipe.model_validate(merged), origins
    except ValidationError as error:
        raise RecipeError(validation_text(error, "", origins)) from error


def _merge(into: Tree, settings: Tree, origin: str, origins: dict[str, str], at: str = "") -> None:
    for key, value in settings.items():
        path = f"{at}.{key}" if at else str(key)
        if path == "corrections" and isinstance(value, dict):
            value = _with_corrections(into.get("corrections"), value)
        elif path == "cluster" and isinstance(value, str):
            value = {"kind": value}
            _merge(into, {key: value}, origin, origins, at)
            continue
        elif path == "algorithm":
            value = _with_algorithm(into.get("algorithm"), value)
        elif isinstance(value, dict):
            step = into.get(key)
            into[key] = dict(step) if isinstance(step, dict) else {}
            _merge(into[key], value, origin, origins, path)
            continue
        into[key] = value
        origins[path] = origin


def _with_corrections(listed: Any, changes: Tree) -> list[Tree]:
    """Change parameters of corrections by name; one that isn't listed takes its usual place.

    `{"stripes": {"size": 31}}` changes or adds, `{"stripes": None}` adds, `{"stripes": False}`
    leaves it out.
    """
    chosen = [name_and_parameters("corrections", c) for c in listed or DEFAULT_CORRECTIONS]
    order = list(CORRECTIONS)
    for name, change in changes.items():
        if name not in CORRECTIONS:
            raise RecipeError(f"corrections {name!r} is unknown: {nearest(name, CORRECTIONS)}")
        names = [n for n, _ in chosen]
        if change is False:
            chosen = [(n, p) for n, p in chosen if n != name]
            continue
        more = change if isinstance(change, dict) else {}
        if name in names:
            chosen = [(n, {**p, **more} if n == name else p) for n, p in chosen]
        else:
            later = [i for i, n in enumerate(names) if order.index(n) > order.index(name)]
            chosen.insert(later[0] if later else len(chosen), (name, more))
    return [{name: dict(parameters)} for name, parameters in chosen]


def _with_algorithm(before: Any, choice: Any) -> Tree:
    """The same algorithm keeps the parameters that were set before; CHOSEN is whichever it is."""
    name, parameters = name_and_parameters("algorithm", choice)
    old, kept = name_and_parameters("algorithm", before or DEFAULT_ALGORITHM)
    if name in (old, CHOSEN):
        name, parameters = old, {**kept, **parameters}
    return {name: dict(parameters)}
