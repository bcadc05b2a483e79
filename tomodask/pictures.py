"""PNG pictures: grey slices with their values, and the metric of a centre search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from tomodask.errors import MissingInputError

GREY_PERCENTILES = (0.5, 99.5)  # shown black and white: a few bright voxels don't darken the rest
DPI = 110


@dataclass(frozen=True)
class Cut:
    """One grey picture: (vertical, horizontal) values and the names of its axes."""

    values: np.ndarray
    title: str
    axes: tuple[str, str] = ("y", "x")


def grey_range(cuts: Sequence[Cut]) -> tuple[float, float]:
    """Values shown black and white, the same for all cuts; 0 (outside) and NaN don't count."""
    values = np.concatenate([cut.values.ravel() for cut in cuts])
    values = values[np.isfinite(values) & (values != 0)]
    if values.size == 0:
        return 0.0, 1.0
    low, high = np.percentile(values, GREY_PERCENTILES)
    return float(low), float(max(high, low + 1e-12))


def save_cuts(
    path: Path,
    cuts: Sequence[Cut],
    unit: str,
    title: str = "",
    like: Sequence[Cut] | None = None,
) -> tuple[float, float]:
    """Draw cuts side by side with one grey scale; returns the values shown black and white.

    like : cuts whose values the grey scale spans, all of them unless given.

    Raises
    ------
    MissingInputError : there is no folder to write the picture in.
    """
    low, high = grey_range(cuts if like is None else like)
    widths = [max(0.3, cut.values.shape[1] / cut.values.shape[0]) for cut in cuts]
    height = min(7.0, 14.0 / sum(widths))
    figure = Figure(figsize=(height * sum(widths) + 1.2, height + 0.9), layout="constrained")
    panels = figure.subplots(1, len(cuts), width_ratios=widths, squeeze=False)[0]
    for panel, cut in zip(panels, cuts, strict=True):
        image = panel.imshow(cut.values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        panel.set_title(cut.title, fontsize=9)
        panel.set_ylabel(cut.axes[0])
        panel.set_xlabel(cut.axes[1])
        panel.tick_params(labelsize=7)
    figure.colorbar(image, ax=list(panels), shrink=0.8, label=unit)
    if title:
        figure.suptitle(title, fontsize=10)
    write(figure, path)
    return low, high


def save_center(
    path: Path,
    candidates: np.ndarray,
    metric: np.ndarray,
    center: float,
    slices: Sequence[Cut],
    title: str,
) -> None:
    """Draw the metric over the centres tried, and the same slice at neighbouring centres."""
    figure = Figure(figsize=(3.2 * len(slices), 6.4), layout="constrained")
    halves = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.4])
    upper, lower = halves[0, 0], halves[1, 0]
    curve = upper.subplots()
    curve.plot(candidates, metric, ".-", linewidth=0.8, markersize=3)
    curve.axvline(center, color="tab:red", linewidth=0.8)
    curve.set_xlabel("centre of rotation, detector column")
    curve.set_ylabel("correlation over chance")
    curve.set_title(title, fontsize=9)
    low, high = grey_range(slices)
    for panel, cut in zip(np.atleast_1d(lower.subplots(1, len(slices))), slices, strict=True):
        panel.imshow(cut.values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        panel.set_title(cut.title, fontsize=9)
        panel.set_axis_off()
    write(figure, path)


def write(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    if not path.resolve().parent.is_dir():
        raise MissingInputError(f"there is no folder {path.resolve().parent} for {path.name}")
    figure.set_dpi(DPI)
    FigureCanvasAgg(figure).print_png(str(path), metadata={"Software": "tomodask"})  # type: ignore[no-untyped-call]
