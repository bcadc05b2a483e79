"""Draw docs/speed.png from benchmarks/results/fbp.json: slices a second against columns.

python benchmarks/plot.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
METHODS = {  # colours that differ in lightness too
    "tomodask": ("tomodask", "#c0392b", "o"),
    "ducc0": ("ducc0", "#1f4e79", "s"),
    "finufft": ("FINUFFT", "#5b9bd5", "^"),
    "astra": ("ASTRA (CPU, linear)", "#7f7f7f", "D"),
}


def draw_speed(report: dict[str, Any], path: Path) -> None:
    """Medians as lines, quartiles as bars; a method that was left out somewhere ends before."""
    figure = Figure(figsize=(5.6, 3.8))
    axes = figure.subplots()
    results = report["results"]
    for name, (label, colour, marker) in METHODS.items():
        here = [result for result in results if name in result]
        if not here:
            continue
        columns = [result["columns"] for result in here]
        medians = [result[name]["slices_per_second"] for result in here]
        lows, highs = zip(*(result[name]["quartiles"] for result in here), strict=True)
        axes.plot(columns, medians, color=colour, marker=marker, label=label)
        axes.vlines(columns, lows, highs, color=colour, linewidth=3, alpha=0.4)
    axes.set(xscale="log", yscale="log", xlabel="columns", ylabel="slices a second")
    ticks = [result["columns"] for result in results]
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(
        f"Filtered back-projection, {results[0]['threads']} threads of\n"
        f"{report['machine']['cpu'].split(' (')[0]}, 1.57 views a column",
        fontsize=10,
    )
    axes.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=130, bbox_inches="tight", metadata={"Software": None})


def main() -> None:
    report = json.loads((Path(__file__).parent / "results" / "fbp.json").read_text())
    draw_speed(report, ROOT / "docs" / "speed.png")


if __name__ == "__main__":
    main()
