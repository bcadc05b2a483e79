"""How much slower than the bare network is a network applied to slices by tiles?

    python benchmarks/inference.py --output benchmarks/results/inference.json

The peer is the module alone, on a tensor that has the tiles' shape and lies in memory in the layout
that it is quickest with, as often as there are tiles. Ours normalises, cuts, looks for what is
missing, puts the parts together and puts the values back. Voxels are those that the network sees,
halos included: what they cost beside those that are kept is told apart. Before anything is timed,
tiles are held to whole slices. The two take turns; the ratio is that of processor seconds, the
least of all repeats, which other programs on the machine disturb little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import PACKAGES, describe_machine
from torch import nn

from tomodask.learn.networks import make_network
from tomodask.learn.receptive_field import ReceptiveField, measure_receptive_field
from tomodask.learn.tiles import TiledNetwork

QUESTION = "voxels a second of networks by tiles, as a share of the bare network's"
MUST = 0.85  # of the bare network's voxels a second, in 2D
AGREEMENT = 1e-5  # of the standard deviation of the whole's output
NETWORKS = ("unet:8", "unet:16")


def main(arguments: list[str] | None = None) -> None:
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    machine = describe_machine((*PACKAGES, "torch"))
    report: dict[str, Any] = {"question": QUESTION, "machine": machine, "results": []}
    for name in options.networks:
        for slices in options.slices:
            for tile in (None, options.tile):
                result = bench(name, slices, tile, options)
                report["results"].append(result)
                print(_summary(result), flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(report, indent=2) + "\n")


def bench(name: str, slices: int, tile: int | None, options: argparse.Namespace) -> dict[str, Any]:
    """One network over some slices, by tiles or whole, and the bare module on as many voxels."""
    module = network(name, slices)
    field = measure_receptive_field(module, slices)
    tiled = TiledNetwork(module, field, slices=slices, tile=tile, shift=0.5, scale=2.0)
    shape = (options.rows, options.side, options.side)
    volume = np.random.default_rng(0).random(shape, np.float32)
    hold_to_whole(tiled, module, field, volume)
    shapes = given_to(tiled, volume)
    preloaded = {one: torch.rand(one).to(memory_format=torch.channels_last) for one in set(shapes)}

    def bare() -> None:
        with torch.inference_mode():
            for one in shapes:
                module(preloaded[one])

    seconds = processor_seconds({"ours": lambda: tiled(volume), "bare": bare}, options.repeats)
    voxels = sum(batch * ny * nx for batch, _, ny, nx in shapes)
    wall = seconds["ours"]["wall"].min()
    return {
        "network": name,
        "slices": slices,
        "shape": shape,
        "tile": tile,
        "tile_shape": shapes[0][2:],
        "radius": field.radius[1],
        "threads": options.threads,
        "repeats": options.repeats,
        "voxels_seen_a_voxel": voxels / volume.size,
        "voxels_seen_per_second": float(voxels / wall),
        "volume_voxels_per_second": float(volume.size / wall),
        "of_the_bare_network": float(seconds["bare"]["cpu"].min() / seconds["ours"]["cpu"].min()),
        "of_the_bare_network_wall": float(seconds["bare"]["wall"].min() / wall),
    }


def network(name: str, slices: int) -> nn.Module:
    """unet:16 is a U-Net of 16 features; weights that begin as zeros are random too."""
    kind, _, features = name.partition(":")
    module = make_network({kind: {"features": int(features)} if features else {}}, slices).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    return module


def hold_to_whole(
    tiled: TiledNetwork, module: nn.Module, field: ReceptiveField, volume: np.ndarray
) -> None:
    """Stops where tiles give anything else than whole slices do."""
    few = volume[: tiled.slices]
    whole = TiledNetwork(module, field, slices=tiled.slices, shift=0.5, scale=2.0)(few)
    error = float(np.abs(tiled(few) - whole).max() / whole.std())
    if not error <= AGREEMENT:
        raise SystemExit(f"tiles differ by {error:.2g} of the whole's deviation: not timed")


def given_to(tiled: TiledNetwork, volume: np.ndarray) -> list[tuple[int, int, int, int]]:
    """Shapes of all that the network is given for a volume, in turn."""
    shapes: list[tuple[int, int, int, int]] = []
    hook = tiled.module.register_forward_pre_hook(
        lambda _, given: shapes.append(tuple(given[0].shape))
    )
    tiled(volume)
    hook.remove()
    return shapes


def processor_seconds(
    cases: dict[str, Callable[[], object]], repeats: int
) -> dict[str, dict[str, np.ndarray]]:
    """Seconds of all threads of this process, "cpu", and on the clock, "wall", in turns."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in cases}
    for turn in range(repeats + 1):
        for name, do in cases.items():
            wall, cpu = time.perf_counter(), time.process_time()
            do()
            if turn:  # the first one warms up
                taken[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: dict(zip(("wall", "cpu"), np.array(each).T, strict=True))
        for name, each in taken.items()
    }


def _summary(result: dict[str, Any]) -> str:
    kept_to = "" if result["of_the_bare_network"] >= MUST else f", less than {MUST:.0%}"
    return (
        f"{result['network']}, {result['slices']} slices, tiles of {result['tile_shape'][0]} x "
        f"{result['tile_shape'][1]}: {result['of_the_bare_network']:.1%} of the bare network's "
        f"speed{kept_to}; {result['voxels_seen_per_second'] / 1e6:.2f} million voxels seen a "
        f"second, {result['voxels_seen_a_voxel']:.2f} for each of the volume"
    )


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=QUESTION)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 5])
    parser.add_argument("--side", type=int, default=640, help="of the slices, voxels")
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--tile", type=int, default=384, help="side at most, beside whole slices")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
