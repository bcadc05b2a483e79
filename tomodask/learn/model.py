"""A trained model on the disk: a folder with `model.json` and `weights.safetensors`.

Never a pickle, which could run code when it is read. The weights are written first and named in
`model.json` by size and checksum: a folder is a model from the moment that the latter is there.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from tomodask.errors import FormatError, InputError, MissingInputError, OutputExistsError
from tomodask.learn.options import Strategy
from tomodask.shards import PARTIAL_NAME, remove_partials, swap_in, sync_folder

FORMAT_VERSION = 1
CARD, WEIGHTS = "model.json", "weights.safetensors"
KINDS = ("noise2inverse", "noise2filter")
PICKLES = (".pt", ".pth", ".pkl", ".ckpt")
OTHER_SIZE = 1.25  # voxels so many times as large are said to be others than those trained on

_WEIGHTS_NAME = re.compile(r"weights(-[0-9a-f]{16})?\.safetensors")
_LOOK = f"a model is a folder with {CARD} and {WEIGHTS}, as `tomodask train` makes it"

log = logging.getLogger(__name__)


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

    def __post_init__(self) -> None:
        wrong = {
            "network": not isinstance(self.network, Mapping),
            "slices": not _counts(self.slices) or self.slices % 2 == 0,
            "depth": not _counts(self.depth),
            "num_splits": not _counts(self.num_splits),
            "shift": not _is_number(self.shift),
            "scale": not _is_number(self.scale) or self.scale <= 0,
            "radius": len(self.radius) != 3 or not all(_counts(n, 0) for n in self.radius),
            "stride": len(self.stride) != 3 or not all(_counts(n) for n in self.stride),
        }
        for name, is_wrong in wrong.items():
            if is_wrong:
                raise InputError(
                    f"a model with {name}={getattr(self, name)!r}: slices are odd, counts at least "
                    "1, radius and stride of three whole numbers, the scale more than 0"
                )

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
    OSError : no space; a model that was there is kept, and nothing beside it.
    """
    path = Path(path)
    before = _replaceable(path, overwrite)
    content = save(
        {name: np.require(array, requirements="C") for name, array in model.weights.items()}
    )
    digest = hashlib.sha256(content).hexdigest()
    name = WEIGHTS if before is None else f"weights-{digest[:16]}.safetensors"
    named = {"file": name, "sha256": digest, "size": len(content)}
    card = {"format_version": FORMAT_VERSION, **model.card(), "weights": named}
    text = json.dumps(card, indent=2).encode()  # what JSON can't hold stops it before it begins
    path.mkdir(exist_ok=True)
    remove_partials(path)
    try:
        swap_in(path / name, content)
        sync_folder(path)
        swap_in(path / CARD, text)
    except OSError:
        if name != before:
            (path / name).unlink(missing_ok=True)
        raise
    sync_folder(path)
    for entry in path.iterdir():
        if _WEIGHTS_NAME.fullmatch(entry.name) and entry.name != name:
            entry.unlink()  # of the model that was replaced
    return digest


def _replaceable(path: Path, overwrite: bool) -> str | None:
    """The weights' file of the model at the path, None where there is none yet.

    Raises OutputExistsError where something else is there, or a model that is not to be replaced.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise OutputExistsError(f"{path} is a file: a model is a folder, choose another path")
    if not (path / CARD).exists():
        strangers = sorted(entry.name for entry in path.iterdir() if not _is_left(entry.name))
        if strangers:
            raise OutputExistsError(
                f"{path} holds {strangers[0]}, not a model: choose another path"
            )
        return None
    try:
        known = str(_card(path)["weights"]["file"])
    except FormatError as error:
        raise OutputExistsError(
            f"{error}. It is not replaced: choose another path, or remove it"
        ) from error
    if not overwrite:
        raise OutputExistsError(
            f"{path} holds a model already: choose another path, or give --overwrite"
        )
    return known


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
    if len(content) != named["size"]:
        raise FormatError(
            f"{path}: {named['file']} has {len(content)} bytes, {CARD} says {named['size']}: it "
            "was copied in part, copy or train it again"
        )
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
    pickle = path if path.suffix in PICKLES else None
    if pickle is None and path.is_dir() and not (path / CARD).exists():
        pickle = next((file for file in sorted(path.iterdir()) if file.suffix in PICKLES), None)
    if pickle is not None:
        raise FormatError(f"{pickle} is a pickle, which could run code when it is read: {_LOOK}")
    if not path.exists():
        raise MissingInputError(f"there is no model {path}: {_LOOK}")
    return _card(path)


def _card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads((path / CARD).read_bytes())
        version = int(card["format_version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is no model ({error}): {_LOOK}") from error
    if version > FORMAT_VERSION:
        raise FormatError(
            f"{path} has format version {version}, this tomodask reads up to {FORMAT_VERSION}: "
            "update tomodask"
        )
    if card.get("kind") not in KINDS:
        raise FormatError(f"{path} is of kind {card.get('kind')!r}: one of {KINDS} is expected")
    named = card.get("weights")
    if not isinstance(named, dict) or not {"file", "sha256", "size"} <= set(named):
        raise FormatError(f"{path} is damaged: {CARD} does not say what its weights are")
    if not _WEIGHTS_NAME.fullmatch(str(named["file"])):  # nothing outside of the folder is read
        raise FormatError(
            f"{path}: its weights are said to be in {named['file']!r}, {WEIGHTS} is expected"
        )
    return dict(card)


def check_fits(
    model: Model,
    value_unit: str,
    where: Path | str,
    *,
    slices: int | None = None,
    voxel_size_um: float | None = None,
) -> None:
    """Refuse a volume or a recipe that a model is not for; tell of other voxels.

    slices : neighbours that the recipe asks for. voxel_size_um : of the volume.

    Raises
    ------
    InputError : another unit, in which the same numbers mean something else; another number of
        slices.
    """
    if model.value_unit != value_unit:
        raise InputError(
            f"the model was trained on values in {model.value_unit}, {where} has {value_unit}: "
            "give the scan the pixel size that it was trained with, or train anew"
        )
    if slices is not None and slices != model.slices:
        raise InputError(
            f"the model sees {model.slices} neighbouring slices, denoise.slices={slices} asks for "
            f"others: take {model.slices}, or train anew"
        )
    then = model.pixel_size_um
    if then is None or voxel_size_um is None:
        return
    if not 1 / OTHER_SIZE <= voxel_size_um / then <= OTHER_SIZE:
        log.warning(
            "the model was trained on voxels of %.4g um, %s has %.4g um: what it takes for noise "
            "depends on their size; compare the result with that of a model of this scan",
            then, where, voxel_size_um,
        )  # fmt: skip


def weights_file(path: Path | str) -> Path:
    """The safetensors file of a model, whose folder says which one it is."""
    return Path(path) / str(model_card(path)["weights"]["file"])


def _is_left(name: str) -> bool:
    """Whether a kill before the first `model.json` can have left it."""
    return _WEIGHTS_NAME.fullmatch(name) is not None or PARTIAL_NAME.search(name) is not None


def _counts(value: object, least: int = 1) -> bool:
    return isinstance(value, int) and value >= least


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
