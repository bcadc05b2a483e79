"""A network's weights as NumPy arrays by name, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from tomodask.errors import FormatError


def to_arrays(module: nn.Module) -> dict[str, np.ndarray]:
    """Weights by name, float32, on the host, in C order, as safetensors ignores strides."""
    return {
        name: value.detach().float().cpu().contiguous().numpy()
        for name, value in module.state_dict().items()
    }


def from_arrays(module: nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """Put weights into a module.

    Raises
    ------
    FormatError : names or shapes are another network's.
    """
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(array.shape) for name, array in arrays.items()}
    if given != expected:
        wrong = sorted(set(given.items()) ^ set(expected.items()))[0]
        raise FormatError(
            f"weights of another network: {wrong[0]!r} is {given.get(wrong[0], 'missing')}, and "
            f"{expected.get(wrong[0], 'nothing of that name')} is expected; was the model trained "
            "with other features, depth or slices?"
        )
    module.load_state_dict({name: torch.from_numpy(np.array(a)) for name, a in arrays.items()})
