"""Write README's figures from benchmarks/results: `python benchmarks/readme.py`.

What has no result yet is said to be not measured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PICTURE = "docs/speed.png"
QUALITY_PICTURE = ROOT / "docs/quality.png"
BEGIN, END = "<!-- speed: made by benchmarks/readme.py -->", "<!-- end of speed -->"
UNKNOWN = "not measured yet"
METHODS = {
    "tomodask": "tomodask",
    "finufft": "FINUFFT",
    "ducc0": "ducc0",
    "astra": "ASTRA (CPU, linear)",
}
RIVALS = ("finufft", "ducc0")


def speed_section(results: Path = RESULTS) -> str:
    """The text between README's marks."""
    fbp = _read(results, "fbp")
    paragraphs = [
        *_fbp(fbp),
        *_projector(_read(results, "projector")),
        *_joseph(_read(results, "joseph")),
        _fdk(_read(results, "fdk")),
        *_quality(_read(results, "quality")),
        _end_to_end(_read(results, "end_to_end")),
        _corrections(_read(results, "corrections")),
        _memory(_read(results, "memory")),
        _scheduler(_read(results, "scheduler")),
        _measured_on(fbp),
    ]
    return "\n\n".join(paragraphs)


def _read(results: Path, name: str) -> dict[str, Any] | None:
    path = results / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def _fbp(report: dict[str, Any] | None) -> list[str]:
    if report is None:
        return [f"Filtered back-projection: {UNKNOWN}."]
    names = " | ".join(METHODS.values())
    table = [
        f"| columns | {names} | against the better of FINUFFT and ducc0 | RMSE, in this order |",
        "|" + "---|" * (len(METHODS) + 3),
        *(_fbp_row(result) for result in report["results"]),
    ]
    paragraphs = [
        "Filtered back-projection on the CPU, slices a second, "
        f"{report['results'][0]['threads']} threads, 1.57 views a column; each peer is fed as well "
        "as it can be (`benchmarks/peers`):",
        "\n".join(table),
    ]
    if (ROOT / PICTURE).exists():
        paragraphs.append(f"![Slices a second against columns]({PICTURE})")
    stages = [result for result in report["results"] if result.get("stages")]
    paragraphs += [_stages(result) for result in stages[-1:]]
    if "first_call" in report:
        paragraphs.append(_first_call(report["first_call"]))
    return paragraphs


def _fbp_row(result: dict[str, Any]) -> str:
    left_out = result.get("left_out", {})
    speeds = [
        f"{result[name]['slices_per_second']:.3g}"
        if name in result
        else ("-" if name in left_out else UNKNOWN)
        for name in METHODS
    ]
    errors = [f"{result[name]['rmse']:.4f}" if name in result else "-" for name in METHODS]
    better = result.get("better_peer")
    against = _ratio(result["ratios"][better]) if better else UNKNOWN
    return f"| {result['columns']} | {' | '.join(speeds)} | {against} | {', '.join(errors)} |"


def _ratio(times: dict[str, Any]) -> str:
    low, high = times["quartiles"]
    return f"{times['median']:.2f} x ({low:.2f} to {high:.2f})"


def _stages(result: dict[str, Any]) -> str:
    total = sum(stage["seconds"] for stage in result["stages"])
    parts = [
        f"{stage['stage']} {100 * stage['seconds'] / total:.0f} %"
        + (f" ({stage['times_floor']:.1f} times its floor)" if "times_floor" in stage else "")
        for stage in result["stages"]
    ]
    return (
        f"Where a slab of {result['columns']} columns spends its time: {', '.join(parts)}. "
        "The floor is the least arithmetic and the fewest bytes at the machine's measured limits "
        "(`benchmarks/floor.py`)."
    )


def _first_call(seconds: dict[str, float]) -> str:
    return (
        f"The first FBP on a machine compiles for {seconds['cold']:.0f} s; the first of a later "
        f"process takes {seconds['warm']:.1f} s."
    )


def _projector(report: dict[str, Any] | None) -> list[str]:
    if report is None:
        return [f"A and A.T against FINUFFT at equal error: {UNKNOWN}."]
    rows = [
        f"| {result['columns']} | {name} | {ours['slices_per_second']:.3g}, {ours['error']:.1e} "
        f"| {theirs['slices_per_second']:.3g}, {theirs['error']:.1e} | {_ratio(one['ratio'])} |"
        for result in report["results"]
        for name in ("A", "A.T")
        for one in (result[name],)
        for ours, theirs in ((one["tomodask"], one["finufft"]),)
    ]
    return [
        "A and A.T against FINUFFT at the loosest tolerance with no larger an error, slices a "
        "second and relative error:",
        "\n".join(["| columns | | tomodask | FINUFFT | ratio |", "|---|---|---|---|---|", *rows]),
    ]


def _joseph(report: dict[str, Any] | None) -> list[str]:
    if report is None:
        return [f"Joseph's A and A.T (`numba_cpu`) against ASTRA on the CPU: {UNKNOWN}."]
    rows = [
        f"| {result['columns']} | {name} | {one['tomodask']['slices_per_second']:.3g} "
        f"| {one['astra']['slices_per_second']:.3g} | {_ratio(one['ratio'])} |"
        for result in report["results"]
        for name in ("A", "A.T")
        for one in (result[name],)
    ]
    return [
        "Joseph's A and A.T (`numba_cpu`), of which A.T is the transpose to rounding, against "
        "ASTRA's `linear` on the CPU, slices a second:",
        "\n".join(["| columns | | tomodask | ASTRA | ratio |", "|---|---|---|---|---|", *rows]),
    ]


def _fdk(report: dict[str, Any] | None) -> str:
    if report is None:
        return f"FDK of a cone beam: {UNKNOWN}."
    parts = [
        f"{result['size']}^3 voxels from {result['views']} views in "
        f"{result['FDK']['seconds']:.3g} s (A and A.T at "
        f"{result['cone A']['giga_updates_per_second']:.2g} and "
        f"{result['cone A.T']['giga_updates_per_second']:.2g} G updates a second; of rays in any "
        f"direction {result['any rays A']['giga_updates_per_second']:.2g} and "
        f"{result['any rays A.T']['giga_updates_per_second']:.2g})"
        for result in report["results"]
    ]
    threads = report["results"][0]["threads"]
    return f"FDK of a cone beam by `numba_cpu`, {threads} threads: {', '.join(parts)}."


def _quality(report: dict[str, Any] | None) -> list[str]:
    if report is None:
        return [f"Iterative methods over FBP on few noisy views: {UNKNOWN}."]
    result, setting = report["results"][0], report["setting"]
    rows = [
        f"| {one['label']} | {one['psnr_db']:.1f} ({one['over_fbp_db']:+.1f}) "
        f"| {one['rmse']:.3f} | {one['seconds']:.2g} |"
        for one in result["methods"].values()
    ]
    picture = (
        ["![FBP, SIRT, total variation](docs/quality.png)"] if QUALITY_PICTURE.exists() else []
    )
    return [
        f"Foam of {result['columns']} columns from {setting['views']} views of "
        f"{setting['photons']:g} photons a pixel, {result['rows']} rows, {result['threads']} "
        "threads; every method's parameters, FBP's window among them, were chosen on another foam, "
        "and SIRT, SART and TV hold values between 0 and the solid's (`benchmarks/quality.py`):",
        "\n".join(
            [
                "| method | PSNR, dB (over FBP) | RMSE, of the solid | s |",
                "|---|---|---|---|",
                *rows,
            ]
        ),
        *picture,
        *_held_out(report.get("held_out", {})),
    ]


def _held_out(scans: dict[str, Any]) -> list[str]:
    told = [
        f"{name} ({scan['views']} views of {scan['columns']} columns): "
        + ", ".join(
            f"{method} {found['error']:.4f}"
            for method, found in scan.items()
            if isinstance(found, dict)
        )
        for name, scan in scans.items()
        if isinstance(scan, dict)
    ]
    if not told:
        return []
    return ["Measured scans, relative error on views that were held out: " + "; ".join(told) + "."]


def _end_to_end(answer: dict[str, Any] | None) -> str:
    if answer is None:
        return f"From scan store to volume: {UNKNOWN}."
    result = answer["result"]
    return (
        f"From scan store to volume with its pyramid, {result['columns']} columns x "
        f"{result['rows']} rows, warm cluster: "
        f"{result['end_to_end_slices_s']['median']:.3g} slices/s, "
        f"{100 * result['share_of_kernel']:.0f} % of the reconstruction alone."
    )


def _corrections(report: dict[str, Any] | None) -> str:
    if report is None:
        return f"Corrections: {UNKNOWN}."
    result = report["results"][-1]
    steps = [
        f"{name} {100 * step['share_of_fbp']:.0f} %"
        for name, step in result["steps"].items()
        if name != "fbp"
    ]
    return (
        "Corrections, of the time that FBP takes for the same block of "
        f"{result['columns']} columns on {result['threads']} threads: {', '.join(steps)}."
    )


def _memory(report: dict[str, Any] | None) -> str:
    if report is None:
        return f"Memory: {UNKNOWN}."
    result = report["result"]
    peaks = [f"{peak / 1e6:.0f} MB at {rows} rows" for rows, peak in result["peak_bytes"].items()]
    return (
        f"Memory of a worker over what it takes idle, {result['columns']} columns: "
        f"{', '.join(peaks)}, of a budget of {result['budget_bytes'] / 1e6:.0f} MB."
    )


def _scheduler(report: dict[str, Any] | None) -> str:
    if report is None:
        return f"Many blocks: {UNKNOWN}."
    ours, ledger = report["scheduler"]["tomodask"], report["ledger"]
    return (
        f"A run of {ours['blocks']} blocks that do nothing gets through "
        f"{ours['blocks_a_second']:.0f} a second, its driver and scheduler in "
        f"{ours['peak_bytes'] / 1e6:.0f} MB; its ledger is planned, listed and checked, resumed, "
        f"merged and counted in {ledger['seconds_together']:.1f} s."
    )


def _measured_on(fbp: dict[str, Any] | None) -> str:
    if fbp is None:
        return "`make bench` measures."
    machine = fbp["machine"]
    return (
        f"Measured on {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_gib']:.0f} GiB, {machine['date'][:10]}; `make bench` measures again."
    )


def main() -> None:
    path = ROOT / "README.md"
    before, rest = path.read_text().split(BEGIN)
    _, after = rest.split(END)
    path.write_text(f"{before}{BEGIN}\n{speed_section()}\n{END}{after}")


if __name__ == "__main__":
    main()
