"""bfloat16 or float32: found out on a batch of noise, before a training begins."""

from __future__ import annotations

import copy
import logging
import time

import torch
from torch import nn

from tomodask.learn.options import Precision
from tomodask.learn.patches import PatchShape

AGREEMENT = 0.03  # of the output's standard deviation: bfloat16 has 8 bits
WORTH = 0.9  # of float32's time: less is not worth the bits
PROBES = 3
PROBE_VOXELS = 2**16

log = logging.getLogger(__name__)


def choose_precision(net: nn.Module, shape: PatchShape, asked: Precision, device: str) -> str:
    """ "bfloat16" where it was asked for, or is quicker, and agrees with float32; else "float32".

    Agreement is that of outputs and of gradients of the loss.
    """
    if asked == "float32" or not _has_bfloat16(device):
        return "float32"
    x = _noise(shape, max(1, PROBE_VOXELS // (shape.side**2 * shape.depth)), device)
    plain, plain_seconds = _probe(net, x, "float32", device)
    short, short_seconds = _probe(net, x, "bfloat16", device)
    error = max(
        float((a - b).norm() / b.norm().clamp(min=1e-12)) for a, b in zip(short, plain, strict=True)
    )
    if not error < AGREEMENT:
        told = log.warning if asked == "bfloat16" else log.info
        told("bfloat16 differs from float32 by %.2g of the output: float32 it is", error)
        return "float32"
    if asked == "auto" and short_seconds > WORTH * plain_seconds:
        return "float32"
    return "bfloat16"


def _probe(
    net: nn.Module, x: torch.Tensor, precision: str, device: str
) -> tuple[list[torch.Tensor], float]:
    """Output and gradients of a copy of the network, and the least seconds of a few tries."""
    trial = copy.deepcopy(net)
    with torch.no_grad():  # a last layer of zeros would agree with anything
        for parameter in trial.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1, generator=_generator(parameter.device))
    taken = []
    for _ in range(PROBES):
        began = time.perf_counter()
        output = _gradients(trial, x, precision, device)
        _wait(device)
        taken.append(time.perf_counter() - began)
    return [output], min(taken)


def _gradients(net: nn.Module, x: torch.Tensor, precision: str, device: str) -> torch.Tensor:
    net.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
        output = net(x)
    output.float().square().mean().backward()
    detached: torch.Tensor = output.detach().float()
    return detached


def _noise(shape: PatchShape, count: int, device: str) -> torch.Tensor:
    channels, depth = (1, (shape.depth,)) if shape.depth > 1 else (shape.slices, ())
    size = (count, channels, *depth, shape.side, shape.side)
    return torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device)


def _generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)


def _has_bfloat16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return "avx512_bf16" in _cpu_flags() or "amx_bf16" in _cpu_flags()


def _cpu_flags() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next((line for line in file if line.startswith("flags")), "")
    except OSError:
        return ""


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
