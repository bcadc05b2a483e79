"""A part of the views: what is back-projected apart from the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Part:
    """Some of the views, by rising indices, and a factor of what is made of them."""

    views: np.ndarray
    scale: float = 1.0
