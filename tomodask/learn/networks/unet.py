"""draft"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn


@dataclass(frozen=True)
class UNet:
    features: int = 16
    depth: int = 3
    dims: int = 2
    stem: int = 1
    convs: int = 2
    residual: bool = True

    def build(self, slices=1):
        return Module(self, slices)


class Block(nn.Sequential):
    def __init__(self, i, o, n):
        layers = []
        for k in range(n):
            layers += [
                nn.Conv2d(i if k == 0 else o, o, 3, padding=1),
                nn.LeakyReLU(0.1, inplace=True),
            ]
        super().__init__(*layers)


class Module(nn.Module):
    def __init__(self, o, slices):
        super().__init__()
        self.o = o
        f = o.features
        cin = slices * o.stem**2
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        c = cin
        w = [f * 2**l for l in range(o.depth + 1)]
        for l in range(o.depth + 1):
            self.down.append(Block(c, w[l], o.convs))
            c = w[l]
        for l in reversed(range(o.depth)):
            self.up.append(
                nn.ModuleList([nn.Conv2d(w[l + 1], w[l], 1), Block(2 * w[l], w[l], o.convs)])
            )
        self.last = nn.Conv2d(f, o.stem**2, 1)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight, a=0.1)
                nn.init.zeros_(m.bias)
        nn.init.zeros_(self.last.weight)
        self.to(memory_format=torch.channels_last)

    def forward(self, x):
        x0 = x[:, x.shape[1] // 2 : x.shape[1] // 2 + 1]
        x = x.contiguous(memory_format=torch.channels_last)
        s = self.o.stem
        h = F.pixel_unshuffle(x, s) if s > 1 else x
        skips = []
        for l, b in enumerate(self.down):
            if l:
                h = F.avg_pool2d(h, 2)
            h = b(h)
            skips.append(h)
        skips.pop()
        for u, b in self.up:
            h = F.interpolate(u(h), scale_factor=2, mode="nearest")
            h = b(torch.cat([skips.pop(), h], 1))
        h = self.last(h)
        if s > 1:
            h = F.pixel_shuffle(h, s)
        return h + x0 if self.o.residual else h
