"""What does each way to denoise make of one noisy scan, in how long?

    python benchmarks/denoise.py --output benchmarks/results/denoise.json --pictures docs

A foam of 256 columns, 1024 views of 20 photons (`noisy_foam.py`). Windows of FBP, total variation
and non-local means are tuned against the truth on a few rows, so that they are at their best, and
scored on all rows of the test; what is learnt sees the noisy scan alone. "Supervised" trains the
same network for the same time on clean targets: the most that it could learn. auto-denoise gets the
same splits, threads and time, and the best of its settings. PSNR is against clean FBP, its range
for the peak, within 0.98 of the field of view.

`--only METHOD ...` runs some and keeps the others' results.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from denoise_classical import CLASSICAL
from machine import PACKAGES, describe_machine
from matplotlib.figure import Figure
from noisy_foam import NoisyFoam, make_foam, store_of
from peers import auto_denoise

from tomodask.learn.networks import make_network
from tomodask.learn.networks.weights import from_arrays
from tomodask.learn.noise2inverse import inputs_of, mean_of
from tomodask.learn.options import TrainingOptions
from tomodask.learn.receptive_field import ReceptiveField
from tomodask.learn.tiles import TiledNetwork
from tomodask.learn.training import TrainJob, averaged_weights, train

QUESTION = "PSNR, SSIM, resolution and seconds of ways to denoise one scan of few photons"
LEARNED = {
    "unet16": {"unet": {"features": 16}},
    "unet8": {"unet": {"features": 8}},
    "unet32": {"unet": {"features": 32}},
    "msdnet": {"msdnet": {"depth": 30}},
    "dncnn": {"dncnn": {"depth": 10, "features": 32}},
    "nano": {"nano": {}},
}
SUPERVISED = "unet16"
CURVE_ROWS = slice(None, None, 8)  # that a point of the curve is scored on
SHOWN = ("fbp", "tv", "nlm", "auto_denoise", "noise2filter", "unet16", "supervised")


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    scan = make_foam(options.columns, options.views, options.rows, options.photons, options.threads)
    report = _begun(options)
    pictures: dict[str, np.ndarray] = {}
    for name, run in methods(scan, options).items():
        if options.only and name not in options.only:
            continue
        began = time.perf_counter()
        volume, told = run()
        result = {"seconds": time.perf_counter() - began, **scan.score(volume), **told}
        report["methods"][name] = result
        pictures[name] = volume[options.rows // 2]
        print(_line(name, result), flush=True)
        if options.output is not None:
            options.output.write_text(json.dumps(report, indent=2) + "\n")
    if options.pictures is not None:
        draw_slices(scan, report, pictures, options.pictures / "denoise.png")
        draw_curves(report, options.pictures / "denoise_curve.png")


def _begun(options: argparse.Namespace) -> dict[str, Any]:
    """An earlier report to add to, or a new one."""
    if options.only and options.output is not None and options.output.exists():
        kept: dict[str, Any] = json.loads(options.output.read_text())
        return kept
    setting = {
        name: getattr(options, name)
        for name in ("columns", "views", "rows", "photons", "threads", "seconds")
    }
    packages = (*PACKAGES, "torch", "scikit-image", "auto-denoise")
    machine = describe_machine(packages)
    return {"question": QUESTION, "machine": machine, "setting": setting, "methods": {}}


Run = Callable[[], tuple[np.ndarray, dict[str, Any]]]


def methods(scan: NoisyFoam, options: argparse.Namespace) -> dict[str, Run]:
    """All of them by name; each gives a volume (z, y, x) and what there is to tell."""
    found: dict[str, Run] = {}
    for name, method in CLASSICAL.items():
        found[name] = lambda method=method: method(scan, options.points)
    for name, network in LEARNED.items():
        found[name] = lambda network=network: noise2inverse(scan, network, options)
    found["supervised"] = lambda: supervised(scan, LEARNED[SUPERVISED], options)
    found["auto_denoise"] = lambda: auto_denoise.denoise(scan.splits, options.seconds)
    return found


# ---- what is learnt ----------------------------------------------------------------------------


def noise2inverse(
    scan: NoisyFoam, network: dict[str, Any], options: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any]]:
    """Train on the splits, denoise in quality mode; the curve of PSNR over voxels seen."""
    with tempfile.TemporaryDirectory() as folder:
        job = _job(scan, scan.splits, network, Path(folder), options)

        def fast(net: TiledNetwork) -> float:
            return scan.psnr(net(scan.full[CURVE_ROWS]), CURVE_ROWS)

        report, curve, net = _trained(job, fast)
    weights = np.full(len(scan.splits), 1 / len(scan.splits))
    began = time.perf_counter()
    outputs = [
        net(mean_of(scan.splits, which, weights)) for which in inputs_of(len(scan.splits), "X:1")
    ]
    told = {
        "network": network, "voxels_seen": report["voxels"], "training_seconds": report["seconds"],
        "waited_for_data": report["waited"] / report["seconds"], "ended": report["ended"],
        "arithmetic": report["precision"], "inference_seconds": time.perf_counter() - began,
        "fast": scan.score(net(scan.full)), "curve": curve,
    }  # fmt: skip
    return np.mean(outputs, axis=0), told


def supervised(
    scan: NoisyFoam, network: dict[str, Any], options: argparse.Namespace
) -> tuple[np.ndarray, dict[str, Any]]:
    """The same network and time, with clean FBP as the target: nobody has that."""
    with tempfile.TemporaryDirectory() as folder:
        pairs = np.stack([scan.full, scan.clean])
        job = _job(scan, pairs, network, Path(folder), options, "supervised")
        report, _, net = _trained(job, None)
    told = {"network": network, "voxels_seen": report["voxels"]}
    return net(scan.full), {**told, "training_seconds": report["seconds"]}


def _job(
    scan: NoisyFoam,
    splits: np.ndarray,
    network: dict[str, Any],
    folder: Path,
    options: argparse.Namespace,
    strategy: Any = "X:1",
) -> TrainJob:
    store = store_of(folder / "splits", splits, scan.full)
    training = TrainingOptions(
        seconds=options.seconds, voxels=options.voxels, patience=None,
        patch=min(128, options.columns // 16 * 16),
    )  # fmt: skip
    values = scan.full[:, scan.disc]
    return TrainJob(
        folder / "training", store.path, "benchmark", network, 1, 1, strategy, training,
        float(values.mean()), float(values.std()), scan.radius, options.threads, 2**32,
        signal=_signal(splits[:, :, scan.disc], strategy),
    )  # fmt: skip


def _signal(splits: np.ndarray, strategy: str) -> float:
    """The share of the input's variance that it has in common with the target."""
    a, b = (split.ravel().astype(np.float64) for split in splits[:2])
    common = float(np.cov(a, b)[0, 1])
    if strategy == "supervised":
        return common / float(a.var())
    return common / (common + (float(a.var()) - common) / (len(splits) - 1))


def _trained(
    job: TrainJob, score: Callable[[TiledNetwork], float] | None
) -> tuple[dict[str, Any], list[dict[str, float]], TiledNetwork]:
    """What the training tells, and (voxels, seconds, PSNR) at every checkpoint."""
    curve: list[dict[str, float]] = []
    report: dict[str, Any] = {}
    for course in train(job):
        report = course.report(job.options)
        if score is not None:
            point = {"voxels": course.voxels, "seconds": course.seconds}
            curve.append({**point, "psnr_db": score(_network(job))})
    return report, curve, _network(job)


def _network(job: TrainJob) -> TiledNetwork:
    """Of the averaged weights; slices are whole, so that its receptive field doesn't matter."""
    module = make_network(job.network)
    from_arrays(module, averaged_weights(job))
    field = ReceptiveField((0, 0, 0), (1, 16, 16))
    return TiledNetwork(module, field, shift=job.shift, scale=job.scale)


# ---- pictures ----------------------------------------------------------------------------------


def draw_slices(
    scan: NoisyFoam, report: dict[str, Any], pictures: dict[str, np.ndarray], path: Path
) -> None:
    """One slice by each method with its score, and clean FBP."""
    shown = [name for name in SHOWN if name in pictures]
    figure = Figure(figsize=(3 * (len(shown) + 1), 3.4), layout="constrained", dpi=100)
    panels = figure.subplots(1, len(shown) + 1)
    truth = scan.clean[len(scan.clean) // 2]
    low, high = np.percentile(truth[scan.disc], (1, 99))
    low, high = low - 0.2 * (high - low), high + 0.2 * (high - low)
    titles = [f"{name}: {report['methods'][name]['psnr_db']:.1f} dB" for name in shown]
    images = [pictures[name] for name in shown]
    for panel, title, image in zip(panels, [*titles, "clean FBP"], [*images, truth], strict=True):
        panel.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        panel.set_title(title, fontsize=10)
        panel.axis("off")
    figure.savefig(path)


def draw_curves(report: dict[str, Any], path: Path) -> None:
    """PSNR over voxels seen, a line for each network."""
    figure = Figure(figsize=(6, 4), layout="constrained", dpi=100)
    panel = figure.subplots()
    for name, curve in _curves(report):
        panel.plot([p["voxels"] for p in curve], [p["psnr_db"] for p in curve], "o-", label=name)
    for name, style in (("tv", "--"), ("nlm", ":"), ("supervised", "-.")):
        if name in report["methods"]:
            level = report["methods"][name]["psnr_db"]
            panel.axhline(level, ls=style, color="grey", label=name)
    panel.set(xlabel="voxels seen in training", ylabel="PSNR (dB), one pass", xscale="log")
    panel.legend(fontsize=8)
    panel.grid(alpha=0.3)
    figure.savefig(path)


def _curves(report: dict[str, Any]) -> Iterator[tuple[str, list[dict[str, float]]]]:
    for name, result in report["methods"].items():
        if result.get("curve"):
            yield name, result["curve"]


def _line(name: str, result: dict[str, Any]) -> str:
    seen = f", {result['voxels_seen'] / 1e6:.3g} million voxels" if "voxels_seen" in result else ""
    return (
        f"{name:14} {result['psnr_db']:6.2f} dB, SSIM {result['ssim']:.3f}, FSC 0.5 at "
        f"{result['fsc_half']:.3f} cycles a pixel, {result['seconds']:.1f} s{seen}, "
        f"{result.get('parameters', '')}"
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--columns", type=int, default=256)
    parser.add_argument("--views", type=int, default=1024)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--photons", type=float, default=20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=90, help="of each training")
    parser.add_argument("--voxels", type=float, default=1e12, help="of each training at most")
    parser.add_argument("--points", type=int, help="try no more parameters of a method than this")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="run these, keep the others")
    parser.add_argument("--pictures", type=Path, help="folder to write PNG files into")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
