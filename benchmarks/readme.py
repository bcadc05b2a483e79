"""Write README's figures from benchmarks/results: `python benchmarks/readme.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
BEGIN, END = "<!-- speed: made by benchmarks/readme.py -->", "<!-- end of speed -->"


def speed_section(results: Path = RESULTS) -> str:
    """The text between README's marks."""
    fbp = json.loads((results / "fbp.json").read_text())
    whole = json.loads((results / "end_to_end.json").read_text())
    lines = [
        "Filtered back-projection on the CPU, slices a second, "
        f"{fbp['results'][0]['threads']} threads, 1.57 views a column:",
        "",
        "| columns | tomodask | ASTRA (CPU, linear) | ratio | RMSE (tomodask, ASTRA) |",
        "|---|---|---|---|---|",
        *(_row(result) for result in fbp["results"]),
        "",
        _end_to_end(whole),
        "",
        f"Measured on {_machine(fbp['machine'])}, {fbp['machine']['date'][:10]}; "
        "`make bench` measures again.",
    ]
    return "\n".join(lines)


def _row(result: dict[str, Any]) -> str:
    ours, theirs = result["tomodask"], result["astra"]
    return (
        f"| {result['columns']} | {ours['slices_per_second']:.3g} "
        f"| {theirs['slices_per_second']:.2g} | {result['speedup']:.0f} x "
        f"| {ours['rmse']:.4f}, {theirs['rmse']:.4f} |"
    )


def _end_to_end(answer: dict[str, Any]) -> str:
    result = answer["result"]
    return (
        f"From scan store to volume with its pyramid, {result['columns']} columns x "
        f"{result['rows']} rows, warm cluster: "
        f"{result['end_to_end_slices_s']['median']:.3g} slices/s, "
        f"{100 * result['share_of_kernel']:.0f} % of the reconstruction alone."
    )


def _machine(machine: dict[str, Any]) -> str:
    return f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']:.0f} GiB"


def main() -> None:
    path = ROOT / "README.md"
    before, rest = path.read_text().split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{speed_section()}\n{END}{after}")


if __name__ == "__main__":
    main()
