"""The ramp filter of FBP and the windows that tame its high frequencies.

The ramp is sampled in real space and then transformed: its samples are those of the band-limited
kernel, 1/4 at 0 and -1/(pi n)^2 at odd n (Kak and Slaney 1988, doi:10.1137/1.9780898719277, eq.
3.61). |f| sampled on the frequencies instead would be wrong at 0 and sink the whole slice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from tomodask.errors import InputError

Window = Callable[[np.ndarray], np.ndarray]


def ramp(num_samples: int) -> np.ndarray:
    """(n // 2 + 1,) spectrum, cycles a pixel, of the band-limited ramp on n samples, n even."""
    kernel = np.zeros(num_samples)
    odd = np.arange(1, num_samples // 2 + 1, 2)
    kernel[0] = 1 / 4
    kernel[odd] = kernel[-odd] = -1 / (np.pi * odd) ** 2
    return np.asarray(np.fft.rfft(kernel).real)


def _parzen(f: np.ndarray) -> np.ndarray:
    return np.where(f <= 0.5, 1 - 6 * f**2 * (1 - f), 2 * (1 - f) ** 3)


# windows over f, the frequency as a part of the cutoff, 0 to 1; "none" is not even a ramp
FILTERS: Mapping[str, Window] = {
    "ramp": np.ones_like,
    "shepp-logan": lambda f: np.sinc(f / 2),
    "cosine": lambda f: np.cos(np.pi / 2 * f),
    "hamming": lambda f: 0.54 + 0.46 * np.cos(np.pi * f),
    "hann": lambda f: 0.5 + 0.5 * np.cos(np.pi * f),
    "parzen": _parzen,
    "none": np.ones_like,
}


def filter_response(name: str, num_samples: int, cutoff: float = 1.0) -> np.ndarray:
    """(n // 2 + 1,) real spectrum of a filter on n samples, n even.

    cutoff : frequency beyond which nothing passes, as a part of the greatest, 1/2 a pixel.

    Raises
    ------
    InputError : an unknown name, or a cutoff outside (0, 1].
    """
    check_filter(name, cutoff)
    frequency = np.linspace(0, 1, num_samples // 2 + 1) / cutoff
    window = np.where(frequency <= 1, FILTERS[name](np.minimum(frequency, 1)), 0)
    return window if name == "none" else window * ramp(num_samples)


def check_filter(name: str, cutoff: float) -> None:
    """Refuse an unknown filter or a cutoff outside (0, 1]."""
    if name not in FILTERS:
        raise InputError(f"no filter {name!r}: there are {', '.join(FILTERS)}")
    if not 0 < cutoff <= 1:
        raise InputError(f"cutoff={cutoff:g}: a part of the greatest frequency, 0 < cutoff <= 1")
