"""Noise2Filter: filters that are learnt from the scan itself, applied as a few FBPs.

Lagerwerf, Hendriksen, Buurlage and Batenburg 2020, arXiv:2007.01636, after the neural network FBP
of Pelt and Batenburg 2013, doi:10.1109/TIP.2013.2283142: a voxel's features are its values in FBPs
with a basis of filters, and a network with one small hidden layer makes the voxel of them. It is
taught, as Noise2Inverse is, to predict the reconstruction of one split from the others. A sum of
filtered back-projections is the back-projection of one filter, so that each hidden unit costs one
FBP, whatever the basis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from tomodask.errors import DivergedError, FormatError, InputError
from tomodask.geometry import ParallelBeam
from tomodask.projectors import Projector
from tomodask.projectors.parts import Part
from tomodask.projectors.rowfilter import PadMode
from tomodask.reconstruct.fbp import FBP, clear_outside, padded_length
from tomodask.reconstruct.filters import filter_response
from tomodask.reconstruct.half_acquisition import is_half_acquisition

EXACT_LAGS = 2  # of the basis: then bins twice as wide each
HELD_OUT = 0.2  # of the voxels, to see when to stop
RIDGE = 1e-6  # of the features' variance


@dataclass(frozen=True)
class Noise2Filter:
    """Learned filters and their network; its options.

    units : hidden units, each an FBP when applied. 0: one filter alone, solved in closed form.
    voxels : that are learnt from. iterations : of L-BFGS at most. seed : of voxels and weights.
    """

    units: int = 6
    voxels: int = 200_000
    iterations: int = 300
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.units <= 64:
            raise InputError(f"units={self.units}: 0 (one filter) to 64 are expected")
        if self.voxels < 1000 or self.iterations < 1:
            raise InputError(
                f"voxels={self.voxels}, iterations={self.iterations}: at least 1000 and 1"
            )


@dataclass(frozen=True, eq=False)
class LearnedFilters:
    """What was learnt, an algorithm as `FBP` is: sinograms (row, angle, column) -> (z, y, x).

    kernels : (units, lags) real-space filters of lag 0, 1, ...; they are even. With `outer` None
        there is one, whose FBP plus `bias` is the result.
    biases, outer : (units,) of the hidden units (tanh) and of the output; bias : of the output.
    scale, shift : the result is scale times the output, plus shift.
    """

    kernels: np.ndarray
    biases: np.ndarray
    outer: np.ndarray | None
    bias: float
    scale: float
    shift: float
    pad_mode: PadMode = "zero"
    circle: bool = True
    couples_rows: bool = field(default=False, init=False)

    def __call__(self, sinograms: np.ndarray, A: Projector) -> np.ndarray:
        """Filter and back-project once for each hidden unit, and join them voxel by voxel."""
        plain = FBP(pad_mode=self.pad_mode, circle=False)
        y, wide, weights = plain.prepared(sinograms, A)
        total: np.ndarray | None = None
        for unit, kernel in enumerate(self.kernels):
            response = kernel_response(kernel, padded_length(wide.geometry.det_count))
            made = wide.filtered_adjoint(y, response, weights, self.pad_mode)
            if self.outer is not None:
                made += np.float32(self.biases[unit])
                np.tanh(made, out=made)
                made *= np.float32(self.outer[unit])
            total = made if total is None else np.add(total, made, out=total)
        assert total is not None
        total += np.float32(self.bias)
        total *= np.float32(self.scale)
        total += np.float32(self.shift)
        if self.circle:
            clear_outside(total, plain.radius(A.geometry))
        return total

    def projector_columns(self, geometry: ParallelBeam) -> int:
        """As of FBP."""
        return FBP().projector_columns(geometry)

    def row_bytes(self, geometry: ParallelBeam) -> int:
        """As of FBP, and a slice more: of the unit that is being added."""
        return FBP().row_bytes(geometry) + 4 * geometry.det_count**2

    def arrays(self) -> dict[str, np.ndarray]:
        """All numbers, for a model's file."""
        outer = np.zeros(0) if self.outer is None else self.outer
        numbers = np.array([self.bias, self.scale, self.shift])
        named = {"kernels": self.kernels, "biases": self.biases, "outer": outer, "numbers": numbers}
        return {name: np.asarray(values, np.float64) for name, values in named.items()}


def filters_from(arrays: Mapping[str, np.ndarray], pad_mode: PadMode = "zero") -> LearnedFilters:
    """The filters that `LearnedFilters.arrays` gave.

    Raises
    ------
    FormatError : arrays are missing or do not fit together.
    """
    try:
        kernels, biases, outer = (arrays[name] for name in ("kernels", "biases", "outer"))
        bias, scale, shift = (float(number) for number in arrays["numbers"])
    except (KeyError, ValueError) as error:
        raise FormatError(f"these are no learned filters: {error}") from error
    is_linear = outer.size == 0
    if kernels.ndim != 2 or (not is_linear and not len(kernels) == len(biases) == len(outer)):
        raise FormatError(
            f"learned filters of shapes {kernels.shape}, {biases.shape} and {outer.shape} do not "
            "fit together"
        )
    return LearnedFilters(
        kernels, biases, None if is_linear else outer, bias, scale, shift, pad_mode
    )


# ---- the basis -----------------------------------------------------------------------------------


def lag_bins(lags: int) -> list[tuple[int, int]]:
    """[start, stop) of the lags that share a basis filter: two of one, then twice as wide each."""
    bins = [(lag, lag + 1) for lag in range(min(EXACT_LAGS, lags))]
    width = 1
    while bins[-1][1] < lags:
        start = bins[-1][1]
        bins.append((start, min(lags, start + width)))
        width *= 2
    return bins


def basis_kernels(lags: int) -> np.ndarray:
    """(filters, lags) real-space kernels: the ramp, cut to each bin, and with it smoothed boxes.

    A bin holds the ramp's own values there rather than a constant: their sum is the ramp, so that
    plain FBP is among what can be learnt, and each is as steep as it should be within its bin.
    """
    ramp = ramp_kernel(lags)
    bins = lag_bins(lags)
    cut = np.zeros((len(bins), lags))
    flat = np.zeros((len(bins), lags))
    for number, (start, stop) in enumerate(bins):
        cut[number, start:stop] = ramp[start:stop]
        flat[number, start:stop] = 1 / (stop - start)
    wide = [number for number, (start, stop) in enumerate(bins) if stop - start > 1]
    return np.concatenate([cut, flat[wide]])  # of one lag both are the same


def ramp_kernel(lags: int) -> np.ndarray:
    """(lags,) of the ramp in real space, lag 0 first."""
    length = 2 * lags
    kernel = scipy.fft.irfft(filter_response("ramp", length, 1.0), length)
    return np.asarray(kernel[:lags])


def kernel_response(kernel: np.ndarray, num_samples: int) -> np.ndarray:
    """(num_samples // 2 + 1,) spectrum of an even kernel that is given from lag 0 on."""
    lags = min(len(kernel), num_samples // 2)
    whole = np.zeros(num_samples)
    whole[:lags] = kernel[:lags]
    whole[num_samples - lags + 1 :] = kernel[1:lags][::-1]
    return np.asarray(scipy.fft.rfft(whole).real)


# ---- learning ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Samples:
    """Voxels to learn from: features (voxels, filters) of K-1 splits, targets (voxels,)."""

    features: np.ndarray
    targets: np.ndarray


def collect(
    sinograms: np.ndarray,
    A: Projector,
    views: Sequence[np.ndarray],
    options: Noise2Filter,
    *,
    voxels: int | None = None,
    pad_mode: PadMode = "zero",
    stream: int = 0,
) -> Samples:
    """Features and targets of random voxels within the field of view of some rows.

    Every split is the target of an equal number of voxels, by all the others as input.

    Parameters
    ----------
    sinograms : (row, angle, column), corrected. views : rising indices of each split.
    voxels : so many; None: as the options say. stream : of random numbers, another for each block.
    """
    plain = FBP(pad_mode=pad_mode, circle=False)
    radius = plain.radius(A.geometry)
    y, wide, weights = plain.prepared(sinograms, A)
    lags = padded_length(wide.geometry.det_count) // 2
    basis = basis_kernels(lags)
    rng = np.random.default_rng([options.seed, stream])
    places = _places(A.domain_shape, radius, (voxels or options.voxels) // len(views), rng, views)
    features = [np.empty((len(z), len(basis)), np.float32) for z, _, _ in places]
    shares = np.array([weights[some].sum() for some in views]) / weights.sum()
    for number, kernel in enumerate(basis):
        response = kernel_response(kernel, 2 * lags)
        parts = wide.filtered_adjoint_parts(y, response, weights, _parts(views), pad_mode)
        total = parts.sum(axis=0)
        for k, place in enumerate(places):
            features[k][:, number] = (total - parts[k])[place] / np.float32(1 - shares[k])
    targets_of = FBP(pad_mode=pad_mode, circle=False).parts(sinograms, A, views)[0]
    targets = [targets_of[k][place] for k, place in enumerate(places)]
    return Samples(np.concatenate(features), np.concatenate(targets).astype(np.float32))


def fit(
    samples: Samples, basis: np.ndarray, options: Noise2Filter, *, pad_mode: PadMode = "zero"
) -> LearnedFilters:
    """The filters that predict the targets best; those held out say when to stop.

    Raises
    ------
    InputError : the samples hold what is not finite, or nothing that varies.
    DivergedError : the fit gives no finite filter.
    """
    x, y = samples.features.astype(np.float64), samples.targets.astype(np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or not y.std() > 0:
        raise InputError(
            "the voxels to learn from are missing or all alike: choose rows that hold the sample"
        )
    center, spread, shift, scale = x.mean(0), x.std(0) + 1e-30, y.mean(), y.std()
    x, y = (x - center) / spread, (y - shift) / scale
    weights = _ridge(x, y)
    if options.units == 0:
        inner, biases, outer, bias = weights[None], np.zeros(1), None, 0.0
    else:
        inner, biases, outer, bias = _network(x, y, weights, options)
    if not all(np.isfinite(each).all() for each in (inner, biases, np.array(bias))):
        raise DivergedError("the learned filters are not finite: take fewer units or more voxels")
    folded = inner / spread  # of the features as they are
    offsets = biases - folded @ center
    if outer is None:  # one filter, whose offset is the output's
        bias, offsets = float(offsets[0]), np.zeros(1)
    return LearnedFilters(
        folded @ basis, offsets, outer, float(bias), float(scale), float(shift), pad_mode
    )


def _ridge(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least squares with a little of its own size against it, in closed form."""
    gram = x.T @ x / len(x)
    ridge = RIDGE * np.trace(gram) / len(gram)
    return np.asarray(np.linalg.solve(gram + ridge * np.eye(len(gram)), x.T @ y / len(x)))


def _network(
    x: np.ndarray, y: np.ndarray, linear: np.ndarray, options: Noise2Filter
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Hidden units (inner weights, biases), output weights and bias, by L-BFGS from the linear fit.

    The first unit begins as that fit, in the middle of its tanh; the others as parts of it that
    bend at other values. What is best on the voxels held out is kept.
    """
    apart = np.random.default_rng(options.seed + 1).random(len(x)) < HELD_OUT
    train, judge = ((torch.from_numpy(x[m]), torch.from_numpy(y[m])) for m in (~apart, apart))
    parameters = _first(linear, float(np.std(x @ linear)), options)
    best = [parameter.detach().clone() for parameter in parameters]
    lowest, since = float("inf"), 0
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=10, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = _loss(parameters, *train)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(max(1, options.iterations // 10)):
        optimizer.step(closure)  # type: ignore[no-untyped-call]
        with torch.no_grad():
            judged = float(_loss(parameters, *judge))
        if judged < lowest * (1 - 1e-6):
            lowest, since, best = judged, 0, [p.detach().clone() for p in parameters]
        elif (since := since + 1) >= 3:
            break
    inner, biases, outer, bias = (parameter.numpy() for parameter in best)
    return inner, biases, outer, float(bias[0])


def _first(linear: np.ndarray, spread: float, options: Noise2Filter) -> list[Tensor]:
    rng = np.random.default_rng(options.seed + 2)
    slopes = np.concatenate([[0.5], rng.uniform(0.5, 2, options.units - 1)]) / max(spread, 1e-12)
    inner = slopes[:, None] * linear + rng.normal(0, 0.01, (options.units, len(linear)))
    biases = np.concatenate([[0.0], rng.uniform(-1.5, 1.5, options.units - 1)])
    outer = np.concatenate([[1 / slopes[0]], rng.normal(0, 0.01, options.units - 1)])
    values = (inner, biases, outer, np.zeros(1))
    return [torch.tensor(each, dtype=torch.float64, requires_grad=True) for each in values]


def _loss(parameters: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
    inner, biases, outer, bias = parameters
    predicted = torch.tanh(x @ inner.T + biases) @ outer + bias
    return (predicted - y).square().mean()


def learn_filters(
    sinograms: np.ndarray,
    A: Projector,
    views: Sequence[np.ndarray],
    options: Noise2Filter,
    *,
    pad_mode: PadMode = "zero",
) -> LearnedFilters:
    """Learn filters from the rows of one block.

    sinograms : (row, angle, column), corrected; A : their projector; views : of each split.
    """
    samples = collect(sinograms, A, views, options, pad_mode=pad_mode)
    return fit(samples, basis_of(A), options, pad_mode=pad_mode)


def basis_of(A: Projector) -> np.ndarray:
    """The basis for a projector's rows, those of a half acquisition widened."""
    wide = A.geometry.det_count
    if is_half_acquisition(A.geometry):
        wide = FBP().prepared(np.zeros(A.range_shape, np.float32), A)[1].geometry.det_count
    return basis_kernels(padded_length(wide) // 2)


def _parts(views: Sequence[np.ndarray]) -> list[Part]:
    return [Part(some) for some in views]


def _places(
    shape: tuple[int, int, int],
    radius: np.ndarray,
    count: int,
    rng: np.random.Generator,
    views: Sequence[np.ndarray],
) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each split, (z, y, x) of voxels to predict, within the disc of their row."""
    rows, ny, nx = shape
    found = []
    for _ in views:
        z = rng.integers(rows, size=count)
        reach, angle = radius[z] * np.sqrt(rng.random(count)), rng.uniform(0, 2 * np.pi, count)
        y = np.clip(np.rint((ny - 1) / 2 + reach * np.sin(angle)), 0, ny - 1).astype(np.intp)
        x = np.clip(np.rint((nx - 1) / 2 + reach * np.cos(angle)), 0, nx - 1).astype(np.intp)
        found.append((z, y, x))
    return found
