"""All that a training needs to go on: tensors and numbers in one safetensors file, never a pickle.

A file is swapped in whole and on the disk before the one before the last is removed, so that a kill
or a full disk at any moment leaves a good one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from tomodask.errors import FormatError
from tomodask.shards import swap_in, sync_folder

KEPT = 2  # checkpoints
_NAME = re.compile(r"step-(\d{9})\.safetensors")


@dataclass(frozen=True)
class Checkpoint:
    """Of a step. tensors : by name. numbers : what JSON can hold."""

    step: int
    tensors: dict[str, torch.Tensor]
    numbers: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Swap a checkpoint in and remove all but the last two.

    Raises OSError where the disk is full: those before are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{checkpoint.step:09d}.safetensors"
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    swap_in(path, save(tensors, {"tomodask": json.dumps(checkpoint.numbers)}))
    sync_folder(folder)
    for old in checkpoints_in(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def load_last(folder: Path, device: str = "cpu") -> Checkpoint | None:
    """The newest checkpoint that can be read, None where there is none."""
    for path in reversed(checkpoints_in(folder)):
        try:
            return _load(path, device)
        except FormatError:
            continue  # torn by a machine that lost its power: the one before is good
    return None


def checkpoints_in(folder: Path) -> list[Path]:
    """The oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _load(path: Path, device: str) -> Checkpoint:
    found = _NAME.fullmatch(path.name)
    assert found is not None
    try:
        with safe_open(path, framework="pt", device=device) as file:
            numbers: Mapping[str, Any] = json.loads((file.metadata() or {})["tomodask"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise FormatError(f"{path} is no checkpoint: {error}") from error
    return Checkpoint(int(found[1]), tensors, dict(numbers))
