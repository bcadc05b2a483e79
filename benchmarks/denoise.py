"""What does Noise2Inverse see in one noisy scan that filters, variation and patches don't?

    python benchmarks/denoise.py --output benchmarks/results/denoise.json --pictures docs

A foam in 1024 views of 20 photons a pixel, half of which it absorbs (`noisy_foam.py`), and one
volume by each method: FBP by several windows, total variation and non-local means with the best
parameters for this very foam (`denoisers.py`), our networks, and auto-denoise with its own
(`peers/auto_denoise.py`), each trained for the same time on the same threads. The upper bound is
the same network trained on another foam's truth (`learned.py`).

PSNR, SSIM and Fourier shell correlation are against FBP of the exact line integrals, within 0.98
of the field of view's radius, PSNR relative to the range of values there; the log is that of
(counts + 1/2), of which all methods get the same.

`--only tv unet` measures these alone and leaves the other results as they are. About 25 minutes on
two cores.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from denoise_pictures import draw_curves, draw_slices
from denoisers import CLASSICAL, TUNED_ROWS
from learned import Budget, Denoised, Network, noise2inverse, supervised
from machine import PACKAGES, describe_machine
from methods import Method, quick, tune
from noisy_foam import ABSORPTION, COMPARED, NUM_SPLITS, NoisyScan, make_scan
from timing import seconds_of

QUESTION = "PSNR of one noisy scan denoised by windows, variation, patches, networks"
UNSURE = 0.05  # of a correlation: that of a network that has learnt nothing yet is about 0
AUTHORS_NOISE = 0.702  # of the range, in the slice that comes with their notebooks: FBP has 3.07 dB
PEER_PACKAGES = ("torch", "scikit-image", "auto-denoise")
BEST = "unet_5"  # of the networks, which is held against the others
NETWORKS = {
    "unet": Network("Noise2Inverse, U-Net", {"unet": {}}),
    "unet_half": Network("the same in half the time", {"unet": {}}, part=0.5),
    BEST: Network("Noise2Inverse, U-Net, 5 slices", {"unet": {}}, slices=5),
    "unet_8": Network("Noise2Inverse, U-Net of 8 features", {"unet": {"features": 8}}),
    "msdnet": Network("Noise2Inverse, MS-D of 30 layers", {"msdnet": {"depth": 30}}),
    "dncnn": Network("Noise2Inverse, DnCNN", {"dncnn": {}}),
    "nano": Network("Noise2Inverse, three layers", {"nano": {}}),
}
SUPERVISED = {"supervised": "unet", "supervised_5": BEST}
PEERS = {"auto_denoise": "autoden"}
NEEDS = {"nlm": "skimage", "nlm_3d": "skimage", "auto_denoise": "autoden"}
ALL = (*CLASSICAL, *PEERS, *NETWORKS, *SUPERVISED)
SHOWN = ("fbp", "fbp_window", "nlm_3d", "tv_3d", "auto_denoise", "unet", BEST, "supervised_5")


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    scan = make_scan(*_geometry(options), options.seed, options.threads)
    report = _begin(options, scan)
    for name in options.only:
        if name in NEEDS and not find_spec(NEEDS[name]):
            report["left_out"][name] = f"{NEEDS[name]} is not installed"
            continue
        began = describe_machine(())
        found = _solver(name, options)(scan)
        _refuse_wrong(name, scan, found.volume)
        report["methods"][name] = _entry(name, scan, found, began)
        np.save(options.work / f"{name}.npy", found.volume[len(found.volume) // 2])
        print(_line(report["methods"][name]), flush=True)
        _keep(report, options.output)
    report["compared"] = compared(report["methods"])
    _keep(report, options.output)
    print(json.dumps(report["compared"], indent=2))
    if options.pictures is not None:
        np.save(options.work / "clean.npy", scan.clean[len(scan.clean) // 2])
        draw_slices(report, options.work, SHOWN, options.pictures / "denoise.png")
        draw_curves(report, tuple(NETWORKS), options.pictures / "denoise_curve.png")


def _solver(name: str, options: argparse.Namespace) -> Callable[[NoisyScan], Denoised]:
    """From a method's name: scan -> `Denoised`."""
    if name in CLASSICAL:
        method = CLASSICAL[name]
        if options.points:
            ((_, method),) = quick({name: method}, options.points)
        return partial(_classical, method)
    if name in NETWORKS:
        network = NETWORKS[name]
        return lambda scan: noise2inverse(network, scan, _budget(options), options.work / name)
    if name in SUPERVISED:
        network = NETWORKS[SUPERVISED[name]]
        other = make_scan(*_geometry(options), options.seed + 1, options.threads)
        folder = options.work / name
        return lambda scan: supervised(network, scan, other, _budget(options), folder)
    from peers.auto_denoise import denoise  # noqa: PLC0415  torch twice, and slow

    return lambda scan: denoise(scan, options.seconds)


def _classical(method: Method, scan: NoisyScan) -> Denoised:
    """Choose parameters on some rows, then time all."""
    middle = max(0, (scan.shape[0] - TUNED_ROWS) // 2)
    few = scan.part(slice(middle, middle + TUNED_ROWS))
    chosen = tune(method, few.psnr, few)
    volumes: list[np.ndarray] = []
    method.solve(few, **chosen)  # compiled, planned
    scan.full, scan.joseph  # noqa: B018  made before anything is timed
    seconds = seconds_of(lambda: volumes.append(method.solve(scan, **chosen)))
    return Denoised(volumes[0], seconds, 0, chosen)


def compared(methods: dict[str, Any]) -> dict[str, float]:
    """Differences of PSNR in dB that the methods were measured for, as far as they are there.

    And how much longer auto-denoise took than the network that is held against it.
    """
    pairs = {
        "over_fbp_db": (BEST, "fbp"),
        "over_best_window_db": (BEST, "fbp_window"),
        "over_tv_db": (BEST, "tv_3d"),
        "over_non_local_means_db": (BEST, "nlm_3d"),
        "below_supervised_db": ("supervised_5", BEST),
        "in_2d_over_tv_in_2d_db": ("unet", "tv"),
        "in_2d_over_non_local_means_in_2d_db": ("unet", "nlm"),
        "in_2d_below_supervised_db": ("supervised", "unet"),
        "in_2d_over_auto_denoise_db": ("unet", "auto_denoise"),
        "in_2d_in_half_the_time_over_auto_denoise_db": ("unet_half", "auto_denoise"),
    }
    found = {
        name: round(methods[one]["psnr_db"] - methods[other]["psnr_db"], 3)
        for name, (one, other) in pairs.items()
        if one in methods and other in methods
    }
    for name in {"unet", "unet_half"} & set(methods) if "auto_denoise" in methods else ():
        times = methods["auto_denoise"]["seconds"] / methods[name]["seconds"]
        found[f"seconds_of_auto_denoise_over_{name}"] = round(times, 3)
    return dict(sorted(found.items()))


def _begin(options: argparse.Namespace, scan: NoisyScan) -> dict[str, Any]:
    """A new report, or the one that is there, where it is of the same setting."""
    options.work.mkdir(parents=True, exist_ok=True)
    columns, rows, views, photons = _geometry(options)
    noise = float((scan.full - scan.clean)[:, scan.mask].std())
    setting = {
        "columns": columns, "rows": rows, "views": views, "photons": photons,
        "seed": options.seed, "threads": options.threads, "seconds_to_train": options.seconds,
        "voxels_to_see": options.voxels,
        "absorption": ABSORPTION, "num_splits": NUM_SPLITS,
        "truth": f"FBP of exact line integrals, within {COMPARED} of the radius",
    }  # fmt: skip
    report = {
        "question": QUESTION,
        "machine": describe_machine((*PACKAGES, *PEER_PACKAGES)),
        "setting": setting,
        "scan": {
            "solid": scan.solid,
            "data_range": scan.data_range,
            "noise_of_the_solid": noise / scan.solid,
            "noise_of_the_range": noise / scan.data_range,
            "authors_noise_of_the_range": AUTHORS_NOISE,
        },
        "methods": {},
        "left_out": {},
    }
    if options.output is None or not options.output.exists():
        return report
    before = json.loads(options.output.read_text())
    if set(options.only) == set(ALL):
        return report
    if before["setting"] != setting:
        others = {key for key in setting if before["setting"].get(key) != setting[key]}
        raise SystemExit(
            f"{options.output} is of another {', '.join(sorted(others))}: its results can't stand "
            "beside these, give another --output or measure all"
        )
    left = {name: why for name, why in before["left_out"].items() if name not in options.only}
    return report | {"methods": before["methods"], "left_out": left}


def _entry(name: str, scan: NoisyScan, found: Denoised, began: dict[str, Any]) -> dict[str, Any]:
    label = {"auto_denoise": "auto-denoise, Noise2Noise, U-Net"}.get(name)
    if name in CLASSICAL:
        label = CLASSICAL[name].label
    elif name in NETWORKS:
        label = NETWORKS[name].label
    elif name in SUPERVISED:
        label = NETWORKS[SUPERVISED[name]].label.replace("Noise2Inverse", "supervised")
    return {
        "label": label,
        **scan.scores(found.volume),
        "seconds": found.seconds,
        "voxels_seen": found.voxels_seen,
        "parameters": found.parameters,
        "curve": list(found.curve),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": began["load_average"],
    }


def _refuse_wrong(name: str, scan: NoisyScan, volume: np.ndarray) -> None:
    """A mirrored or turned volume resembles the truth less than a mirrored or turned truth."""
    turns = {"": (1, 1), " mirrored": (-1, 1), " turned": (-1, -1)}
    alike = {
        how: float(np.corrcoef(volume[:, ::y, ::x].ravel(), scan.clean.ravel())[0, 1])
        for how, (y, x) in turns.items()
    }
    how = max(alike, key=lambda one: alike[one])
    if not alike[""] > alike[how] - UNSURE:
        raise SystemExit(
            f"{name} correlates by {alike['']:.2f} with the truth, {how} by {alike[how]:.2f}: it "
            "solves another task"
        )


def _budget(options: argparse.Namespace) -> Budget:
    return Budget(options.seconds, options.voxels)


def _geometry(options: argparse.Namespace) -> tuple[int, int, int, float]:
    return options.columns, options.rows, options.views, options.photons


def _keep(report: dict[str, Any], path: Path | None) -> None:
    if path is not None:
        ordered = {name: report["methods"][name] for name in ALL if name in report["methods"]}
        path.write_text(json.dumps({**report, "methods": ordered}, indent=2) + "\n")


def _line(one: dict[str, Any]) -> str:
    seen = f", {one['voxels_seen'] / 1e6:.0f} million voxels seen" if one["voxels_seen"] else ""
    return (
        f"{one['label']:36} {one['psnr_db']:6.2f} dB, SSIM {one['ssim']:.3f}, "
        f"{one['resolution_voxels'] or 2:.2f} voxels, {one['seconds']:.3g} s{seen}, "
        f"{one['parameters']}"
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--views", type=int, default=1024)
    parser.add_argument("--photons", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=100.0, help="that each may train")
    parser.add_argument("--voxels", type=float, default=1e12, help="that each may see of ours")
    parser.add_argument("--only", nargs="+", choices=ALL, default=list(ALL), metavar="METHOD")
    parser.add_argument("--points", type=int, help="try no more parameters of a method than this")
    work = Path(tempfile.gettempdir()) / "tomodask-denoise"
    parser.add_argument("--work", type=Path, default=work, help="folder for splits and slices")
    parser.add_argument("--pictures", type=Path, help="folder for denoise.png, denoise_curve.png")
    parser.add_argument("--output", type=Path, help="JSON file to write, or to add to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
