"""The profile of a run as a table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

# what a stage is measured against, of the machine's limits
LIMIT_OF = {"read": "memory", "correct": "memory", "reconstruct": "memory", "write": "disk"}


def profile_table(profile: Mapping[str, Any]) -> Table:
    """A row for each stage: seconds, share of the tasks' time, and rates beside their limits."""
    limits = profile["limits"]
    table = Table(title=f"{profile['rows']} slices, {profile['slices_s']:.1f} slices/s")
    table.add_column("stage")
    for name in ("seconds", "share", "GB/s", "limit", "GFLOP/s", "limit"):
        table.add_column(name, justify="right")
    for name, stage in profile["stages"].items():
        is_limit = name == profile["bottleneck"]
        rate, flops = stage.get("gb_s"), stage.get("gflop_s")
        table.add_row(
            name,
            f"{stage['seconds']:.2f}",
            f"{100 * stage['share']:.0f} %",
            "" if rate is None else f"{rate:.2f}",
            "" if rate is None else f"{limits[f'{LIMIT_OF[name]}_gb_s']:.2f}",
            "" if flops is None else f"{flops:.2f}",
            "" if flops is None else f"{limits['compute_gflop_s']:.0f}",
            style="bold" if is_limit else "",
        )
    return table


def print_profile(console: Console, profile: Mapping[str, Any], path: object) -> None:
    """The table, what the others wait for, and what to change."""
    console.print(profile_table(profile))
    if profile["bottleneck"]:
        console.print(f"bottleneck: {profile['bottleneck']}; {profile['advice']}")
    else:
        console.print(profile["advice"])
    console.print(f"profile: {path}")
