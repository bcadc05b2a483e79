"""The pictures of the denoising benchmark: one slice by each method, and how networks come on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

COLUMNS = 5
CLASSICAL_LINES = {"fbp_window": ":", "nlm_3d": "-.", "tv_3d": "--"}
COLOURS = ("#c0392b", "#e08214", "#1f4e79", "#5b9bd5", "#4d9221", "#7f7f7f", "#8e44ad")


def draw_slices(report: dict[str, Any], slices: Path, shown: Sequence[str], path: Path) -> None:
    """The middle slice by each method, with the PSNR of its volume, and the clean one.

    slices : folder with `NAME.npy`, (y, x) each, and `clean.npy`.
    """
    solid, methods = report["scan"]["solid"], report["methods"]
    panels = [
        (f"{methods[name]['label']}\n{methods[name]['psnr_db']:.1f} dB", np.load(file))
        for name in shown
        if name in methods and (file := slices / f"{name}.npy").exists()
    ]
    panels.append(("clean FBP\n", np.load(slices / "clean.npy")))
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(2.25 * COLUMNS, 2.6 * rows), layout="constrained")
    grid = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    for axes, (title, image) in zip(grid, panels, strict=False):
        axes.imshow(image, cmap="gray", vmin=-0.2 * solid, vmax=1.2 * solid)
        axes.set_title(title, fontsize=8)
    figure.savefig(path, dpi=110, bbox_inches="tight", metadata={"Software": None})


def draw_curves(report: dict[str, Any], networks: Sequence[str], path: Path) -> None:
    """Voxels seen against PSNR while each network is trained; what learns nothing as lines."""
    methods = report["methods"]
    figure = Figure(figsize=(6.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for name, colour in zip(networks, COLOURS, strict=False):
        curve = methods.get(name, {}).get("curve", [])
        if curve:
            voxels = [one["voxels"] for one in curve]
            reached = [one["psnr_db"] for one in curve]
            label = methods[name]["label"].removeprefix("Noise2Inverse, ")
            axes.plot(voxels, reached, "o-", color=colour, markersize=3, label=label)
    if "auto_denoise" in methods:
        peer = methods["auto_denoise"]
        axes.plot(peer["voxels_seen"], peer["psnr_db"], "k*", markersize=10, label=peer["label"])
    for name, style in CLASSICAL_LINES.items():
        if name in methods:
            one = methods[name]
            axes.axhline(
                one["psnr_db"], color="black", linestyle=style, linewidth=1, label=one["label"]
            )
    axes.set(xscale="log", xlabel="voxels seen in training", ylabel="PSNR, dB")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130, metadata={"Software": None})
