"""How a lens bends the detector's picture: a radial polynomial (Vo et al. 2015)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tomodask.errors import GeometryError

STEPS = 30  # of Newton's method, which takes 4 or 5 for any lens


@dataclass(frozen=True)
class Distortion:
    """What should lie at distance r from the centre lies at r (k0 + k1 r + k2 r^2 + ...).

    The "backward model" of Vo, Atwood and Drakopoulos 2015 (doi:10.1364/OE.23.032859): from where a
    pixel should be to where the detector has it.

    center_row, center_column : of the distortion, in pixels of the whole detector.
    factors : k0, k1, ... in powers of 1/pixel; (1,) bends nothing.

    Raises
    ------
    GeometryError : factors that are not finite, or k0 not near 1.
    """

    center_row: float
    center_column: float
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        numbers = np.array([self.center_row, self.center_column, *self.factors], np.float64)
        if not np.isfinite(numbers).all() or not self.factors or not 0.5 < self.factors[0] < 2:
            raise GeometryError(
                f"distortion with factors {self.factors} around ({self.center_row}, "
                f"{self.center_column}): finite numbers and a first factor near 1 are expected"
            )

    def to_measured(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the detector has what should be at (row, column)."""
        dy, dx = row - self.center_row, column - self.center_column
        factor = np.polynomial.polynomial.polyval(np.hypot(dy, dx), self.factors)
        return self.center_row + factor * dy, self.center_column + factor * dx

    def to_ideal(self, row: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where should be what the detector has at (row, column): the inverse of `to_measured`.

        Raises
        ------
        GeometryError : the polynomial folds the picture there, so that there is no inverse.
        """
        dy, dx = row - self.center_row, column - self.center_column
        measured = np.hypot(dy, dx)
        polynomial = np.polynomial.Polynomial((0.0, *self.factors))
        slope = polynomial.deriv()
        ideal = measured / self.factors[0]
        for _ in range(STEPS):
            rise = slope(ideal)
            change = (polynomial(ideal) - measured) / np.where(rise > 0, rise, np.nan)
            ideal = ideal - change
            if not np.abs(change).max() >= 1e-9 * max(1.0, measured.max()):
                break
        else:
            ideal = np.full_like(ideal, np.nan)
        if not (slope(ideal) > 0).all():
            raise GeometryError(
                f"the distortion {self.factors} folds the picture within {measured.max():.0f} "
                "pixels of its centre: factors of a lens, in powers of 1/pixel, are expected"
            )
        share = np.where(measured > 0, ideal / np.maximum(measured, 1e-12), 1 / self.factors[0])
        return self.center_row + share * dy, self.center_column + share * dx
