"""A trained model on the disk: a folder with `model.json` and `weights.safetensors`.

Never a pickle, which could run code when it is read. The weights are written first and named in
`model.json` by size and checksum: a folder is a model from the moment that the latter is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tomodask.errors import FormatError, InputError, MissingInputError, OutputExistsError
from tomodask.learn.options import Strategy
from tomodask.shards import remove_partials, swap_in, sync_folder

FORMAT_VERSION = 1
CARD, WEIGHTS = "model.json", "weights.safetensors"
KINDS = ("noise2inverse", "noise2filter")
PICKLES = (".pt", ".pth", ".pkl", ".ckpt")


@dataclass(frozen=True, eq=False)
class Model:
    """Weights and all that is needed to apply them.

    network : {name: parameters}; of learned filters their parameters.
    slices, depth : neighbours that a 2D network sees, rows of a 3D network's patches (1 in 2D).
    strategy, num_splits : of its training, and so of what its inputs are to be like.
    shift, scale : a network's values are (volume - shift) / scale; value_unit : of the volume.
    radius, stride : the receptive field (z, y, x); equivariant : whether tiles can be exact.
    training, data : what it was trained for and on; versions : by which packages.
    """

    kind: str
    network: Mapping[str, Any]
    weights: Mapping[str, np.ndarray] = field(repr=False)
    slices: int = 1
    depth: int = 1
    strategy: Strategy = "X:1"
    num_splits: int = 4
    shift: float = 0.0
    scale: float = 1.0
    value_unit: str = "1/pixel"
    pixel_size_um: float | None = None
    radius: tuple[int, int, int] = (0, 0, 0)
    stride: tuple[int, int, int] = (1, 1, 1)
    equivariant: bool = True
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)

    def card(self) -> dict[str, Any]:
        """All but the weights."""
        tree = {name: value for name, value in vars(self).items() if name != "weights"}
        return {key: dict(v) if isinstance(v, Mapping) else v for key, v in tree.items()}


def save_model(path: Path, model: Model, *, overwrite: bool = False) -> str:
    """Write a model, durable on return; the checksum of its weights.

    Killed in the middle it leaves the model before, or a folder that the next call goes on with.

    Raises
    ------
    OutputExistsError : something else is at the path, or a model and `overwrite` is not set.
    OSError : no space; a model that was there is kept.
    """
    path = Path(path)
    known = {CARD, WEIGHTS}
    if path.exists() and not path.is_dir():
        raise OutputExistsError(f"{path} is a file: a model is a folder, choose another path")
    if path.is_dir():
        remove_partials(path)
        strangers = sorted(entry.name for entry in path.iterdir() if not _is_ours(entry.name))
        if strangers and not known & {entry.name for entry in path.iterdir()}:
            raise OutputExistsError(
                f"{path} holds {strangers[0]}, not a model: choose another path"
            )
        if (path / CARD).exists() and not overwrite:
            raise OutputExistsError(
                f"{path} holds a model already: choose another path, or give --overwrite"
            )
    path.mkdir(exist_ok=True)
    content = save(
        {name: np.require(array, requirements="C") for name, array in model.weights.items()}
    )
    digest = hashlib.sha256(content).hexdigest()
    name = f"weights-{digest[:16]}.safetensors" if (path / CARD).exists() else WEIGHTS
    card = {"format_version": FORMAT_VERSION, **model.card()}
    card["weights"] = {"file": name, "sha256": digest, "size": len(content)}
    swap_in(path / name, content)
    sync_folder(path)
    swap_in(path / CARD, json.dumps(card, indent=2).encode())
    sync_folder(path)
    for entry in path.iterdir():
        if entry.suffix == ".safetensors" and entry.name != name:
            entry.unlink()  # of the model that was replaced
    return digest


def load_model(path: Path | str) -> Model:
    """Read a model whole, and check it.

    Raises
    ------
    MissingInputError : there is nothing at the path.
    FormatError : no model, one of a newer version, or its weights are damaged.
    """
    path = Path(path)
    card = dict(model_card(path))
    named = card.pop("weights")
    try:
        content = (path / named["file"]).read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: its weights {named['file']} can't be read: {error}") from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != named["sha256"]:
        raise FormatError(
            f"{path}: {named['file']} has the checksum {digest[:16]}..., {CARD} says "
            f"{named['sha256'][:16]}...: it is damaged or was replaced, copy or train it again"
        )
    try:
        weights = load(content)
        for name in ("radius", "stride"):
            card[name] = tuple(card[name])
        del card["format_version"]
        return Model(weights=weights, **card)
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path} is damaged: {error}") from error


def model_card(path: Path | str) -> dict[str, Any]:
    """What `model.json` says, the weights' file and checksum included.

    Raises MissingInputError and FormatError as `load_model` does.
    """
    path = Path(path)
    look = f"a model is a folder with {CARD} and {WEIGHTS}, as `tomodask train` makes it"
    if path.suffix in PICKLES:
        raise FormatError(f"{path} is a pickle, which could run code when it is read: {look}")
    if not path.exists():
        raise MissingInputError(f"there is no model {path}: {look}")
    try:
        card = json.loads((path / CARD).read_bytes())
        version = int(card["format_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is no model ({error}): {look}") from error
    if version > FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {version}, this tomodask reads up to {FORMAT_VERSION}: "
            "update tomodask"
        )
    if card.get("kind") not in KINDS:
        raise FormatError(f"{path} is of kind {card.get('kind')!r}: one of {KINDS} is expected")
    return dict(card)


def check_fits(model: Model, value_unit: str, where: Path | str) -> None:
    """Refuse a volume whose values are not those that a model was trained on.

    Raises
    ------
    InputError : another unit, in which the same numbers mean something else.
    """
    if model.value_unit != value_unit:
        raise InputError(
            f"the model was trained on values in {model.value_unit}, {where} has {value_unit}: "
            "give the scan the pixel size that it was trained with, or train anew"
        )


def weights_file(path: Path | str) -> Path:
    """The safetensors file of a model, whose folder says which one it is."""
    return Path(path) / str(model_card(path)["weights"]["file"])


def _is_ours(name: str) -> bool:
    return name == CARD or (name.startswith("weights") and name.endswith(".safetensors"))
