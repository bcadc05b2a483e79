"""Calibration: what must be known of a scan before it is reconstructed."""

from tomodask.calibrate.center import CenterEstimate, find_center

__all__ = ["CenterEstimate", "find_center"]
