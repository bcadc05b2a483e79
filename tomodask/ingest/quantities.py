"""Lengths and energies with the units that files give them."""

from __future__ import annotations

import math

# Micrometres; both micro signs of Unicode occur in the field.
MICROMETRES = {
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "cm": 1e4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "um": 1.0,
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "micron": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
}
KEV = {"ev": 1e-3, "kev": 1.0, "mev": 1e3}


def length_um(value: float | None, unit: str | None) -> float | None:
    """A positive length in micrometres; None without a value, or without a unit that is known."""
    return _convert(value, unit, MICROMETRES)


def length_mm(value: float | None, unit: str | None) -> float | None:
    """A positive length in millimetres, as `length_um`."""
    length = length_um(value, unit)
    return None if length is None else length / 1000


def energy_kev(value: float | None, unit: str | None) -> float | None:
    """A positive photon energy in keV, as `length_um`; GeV is no photon energy."""
    return _convert(value, unit, KEV)


def _convert(value: float | None, unit: str | None, factors: dict[str, float]) -> float | None:
    if value is None or unit is None or not math.isfinite(value) or value <= 0:
        return None
    name = unit.strip().lower()
    factor = factors.get(name, factors.get(name.rstrip("s")))
    return None if factor is None else value * factor
