"""The smallest network: three layers, for a first look in seconds.

That of Mansour and Heckel 2023, doi:10.1109/CVPR52729.2023.01347: two layers of 3 x 3 and one of
1 x 1.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tomodask.errors import InputError
from tomodask.learn.networks.dncnn import Stack
from tomodask.learn.networks.layers import check_slices


@dataclass(frozen=True)
class Nano:
    """Three layers of `features` channels; its options. 48 have 21 thousand parameters."""

    features: int = 48
    dims: int = 2

    def __post_init__(self) -> None:
        if not 1 <= self.features <= 256:
            raise InputError(f"features={self.features}: 1 to 256 are expected")
        if self.dims not in (2, 3):
            raise InputError(f"dims={self.dims}: 2 or 3 are expected")

    def build(self, slices: int = 1) -> nn.Module:
        """A module with random weights."""
        check_slices(slices, self.dims)
        return Stack(self.dims, slices, [self.features] * 2, [3, 3, 1])
