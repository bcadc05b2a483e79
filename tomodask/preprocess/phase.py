"""Phase retrieval: the edge enhancement of free-space propagation turned back into absorption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import fft

from tomodask.errors import InputError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess import kernels
from tomodask.preprocess.flatfield import RowGaps
from tomodask.preprocess.lines import result_bytes, result_of
from tomodask.preprocess.normalise import require_transmission
from tomodask.projections import Projections
from tomodask.threads import share

LINES = 16  # rows that transforms see together, in vectors of at most so many
BATCH_LINES = 64  # rows transformed in one call
TAPS_AT_ONCE = 64  # frequencies whose taps are made at a time, in double precision
WAVELENGTH_UM_KEV = 1.239841984e-3  # h c
MARGIN_LENGTHS = 6  # exp(-6) = 0.25 % of the kernel lie beyond, see Paganin
MIN_MARGIN = 8  # shorter kernels ring, as the detector's pixels cut off their spectrum


@dataclass(frozen=True)
class Paganin:
    """Single-distance phase retrieval of a homogeneous sample, by Paganin et al. (2002).

    Transmission in, filtered transmission out; `MinusLog` follows. The spectrum of each projection
    is divided by 1 + z lambda (delta/beta) k^2 / (4 pi), k being 2 pi cycles a length. In real
    space that is a kernel K0(r / l) with l = sqrt(z lambda (delta/beta) / (4 pi)), its length of
    decay: rows and columns up to 6 l away (at least 8) are taken in, and what lies beyond changes a
    value by less than 0.5 % of the range of the transmissions. The detector's outermost pixels are
    repeated beyond its edges.

    Along the columns that is done in frequency space, along the rows as a sum over those within the
    margin, in one order: a row's result doesn't depend on the block that it came in. Where a block
    ends short of the halo, the detector is taken to end.

    Values that aren't finite are filled along their row while filtering, and are NaN afterwards.

    delta_beta : refractive index decrement over absorption index, without unit.
    energy_kev : photon energy.
    distance_mm : from the sample to the detector.

    Raises
    ------
    RecipeError : the energy or the distance isn't given.
    InputError : the pixel size is unknown, or the data are not transmissions.

    DOI 10.1046/j.1365-2818.2002.01010.x.
    """

    delta_beta: float
    energy_kev: float | None = None
    distance_mm: float | None = None

    mixes_angles: ClassVar[bool] = False
    in_place: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("delta_beta", "energy_kev", "distance_mm"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise RecipeError(f"{name} {value}: a finite number above 0 is expected")

    def kernel_length(self, geometry: ParallelBeam) -> float:
        """Decay length l of the filter's kernel in pixels."""
        if self.energy_kev is None or self.distance_mm is None:
            raise RecipeError(
                f"paganin has energy_kev {self.energy_kev} and distance_mm {self.distance_mm}: "
                "both are needed, and the scan doesn't name them; give them in the recipe"
            )
        if geometry.pixel_size_um is None:
            raise InputError(
                "paganin needs the pixel size, and the scan doesn't name it: "
                "give it with `--pixel-size-um`"
            )
        wavelength_um = WAVELENGTH_UM_KEV / self.energy_kev
        area_um2 = 1000 * self.distance_mm * wavelength_um * self.delta_beta / (4 * math.pi)
        return math.sqrt(area_um2) / geometry.pixel_size_um

    def margin(self, geometry: ParallelBeam) -> int:
        """Rows and columns around a pixel that its filtering takes in; an even number."""
        margin = max(MIN_MARGIN, math.ceil(MARGIN_LENGTHS * self.kernel_length(geometry)))
        return margin + margin % 2

    def halo(self, geometry: ParallelBeam) -> int:
        """The margin."""
        return self.margin(geometry)

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """The result, the taps and each thread's spectra, for a margin of at most the block's rows.

        Where the kernel is longer, a block of its halo alone has more rows.
        """
        num_angles, rows, columns = shape
        margin = max(rows, 256)
        frequencies = (columns + 2 * margin) // 2 + 64
        taps = 8 * frequencies * (margin + 1 + TAPS_AT_ONCE)
        spectra = 8 * frequencies * (2 * (rows + 2 * LINES) + 2 * min(BATCH_LINES, rows + LINES))
        return (
            result_bytes(shape, threads)
            + taps
            + min(threads, num_angles) * (spectra + 6 * rows * columns)
        )

    def __call__(
        self, block: Projections, threads: int = 1, out: np.ndarray | None = None
    ) -> Projections:
        """The transmissions without their fringes, float32."""
        require_transmission(block, "paganin")
        length, margin = self.kernel_length(block.geometry), self.margin(block.geometry)
        kernel = Kernel.of(length, margin, block.geometry.det_count)
        result = result_of(block.data, out)
        spare: list[Scratch] = []  # of threads that are between two views

        def retrieve(view: int) -> None:
            transmission = block.data[view]
            scratch = spare.pop() if spare else Scratch.of(kernel, block.geometry)
            missing = ~np.isfinite(transmission)
            if missing.any():
                transmission = transmission.astype(np.float32)
                RowGaps.of(missing).fill(transmission)
            scratch.filter(transmission, result[view])
            result[view][missing] = np.nan
            spare.append(scratch)

        share(retrieve, len(result), threads)
        return block.replace(data=result)


@dataclass(frozen=True, eq=False)
class Kernel:
    """1 / (1 + l^2 k^2): frequencies across the columns, taps along the rows.

    margin : columns and rows that it reaches.
    width : columns with the margins, a length that transforms are fast for.
    taps : (margin + 1, numbers) float32, weights by the rows' distance, the same for the real and
        the imaginary part of a frequency; numbers is a multiple of 16, which makes lines of 64 B.
    """

    margin: int
    width: int
    taps: np.ndarray

    @classmethod
    def of(cls, length: float, margin: int, columns: int) -> Kernel:
        width = fft.next_fast_len(columns + 2 * margin, real=True)
        across = 2 * np.pi * np.fft.rfftfreq(width)
        along = 2 * np.pi * np.fft.fftfreq(2 * margin + 1)
        taps = aligned(margin + 1, 2 * len(across))
        for start in range(0, len(across), TAPS_AT_ONCE):
            few = slice(start, start + TAPS_AT_ONCE)
            response = 1 / (1 + length**2 * (along[:, None] ** 2 + across[few] ** 2))
            # sums to the response at frequency 0, so that an even transmission stays as it is
            weights = np.fft.ifft(response, axis=0).real[: margin + 1]
            pairs = slice(2 * start, 2 * start + 2 * weights.shape[1])
            taps[:, pairs] = np.repeat(weights, 2, axis=1)
        return cls(margin, width, taps)


@dataclass(frozen=True, eq=False)
class Scratch:
    """What one thread filters a projection in: spectra of its rows before and after.

    Transforms take whole LINES of rows, counted from the detector's first: a row has its fixed
    place among them, as the vectors of a transform and what is left over need not round alike.
    """

    kernel: Kernel
    first: int  # row of the detector
    rows: int
    columns: int
    spectra: np.ndarray
    filtered: np.ndarray

    @classmethod
    def of(cls, kernel: Kernel, geometry: ParallelBeam) -> Scratch:
        first, rows = geometry.row_start, geometry.det_rows
        lines = LINES * math.ceil((first % LINES + rows) / LINES)
        numbers = kernel.taps.shape[1]
        spectra, filtered = aligned(lines, numbers), aligned(lines, numbers)
        return cls(kernel, first, rows, geometry.det_count, spectra, filtered)

    def filter(self, projection: np.ndarray, result: np.ndarray) -> None:
        """Filter a (rows, columns) projection into `result`, which may be the same."""
        before = self.first % LINES
        self._transform(projection, before)
        kernels.taps.filter_rows(
            self.spectra, before, before + self.rows, self.kernel.taps, self.filtered
        )
        inner = slice(self.kernel.margin, self.kernel.margin + self.columns)
        for start in range(0, len(self.filtered), BATCH_LINES):
            spectra = complex_lines(self.filtered[start : start + BATCH_LINES], self.kernel.width)
            lines = fft.irfft(spectra, n=self.kernel.width, axis=1, workers=1)
            begin, end = max(start, before), min(start + BATCH_LINES, before + self.rows)
            result[begin - before : end - before] = lines[begin - start : end - start, inner]

    def _transform(self, projection: np.ndarray, before: int) -> None:
        """Spectra of the rows, their outermost pixels repeated; those of no row are any row's."""
        inner = slice(self.kernel.margin, self.kernel.margin + self.columns)
        for start in range(0, len(self.spectra), BATCH_LINES):
            spectra = complex_lines(self.spectra[start : start + BATCH_LINES], self.kernel.width)
            lines = np.empty((len(spectra), self.kernel.width), dtype=np.float32)
            begin, end = max(start, before), min(start + len(lines), before + self.rows)
            lines[: begin - start, inner] = projection[0]
            lines[begin - start : end - start, inner] = projection[begin - before : end - before]
            lines[end - start :, inner] = projection[-1]
            lines[:, : inner.start] = lines[:, inner.start, None]
            lines[:, inner.stop :] = lines[:, inner.stop - 1, None]
            spectra[...] = fft.rfft(lines, axis=1, workers=1)


def aligned(lines: int, numbers: int) -> np.ndarray:
    """Zeros (lines, numbers rounded up to 16) float32, each line on a boundary of 64 B.

    Vectors that lie across two cache lines make the sum over the rows half as fast.
    """
    numbers = 16 * math.ceil(numbers / 16)
    stretch = np.zeros(lines * numbers + 15, dtype=np.float32)
    start = -(stretch.ctypes.data // 4) % 16
    return stretch[start : start + lines * numbers].reshape(lines, numbers)


def complex_lines(numbers: np.ndarray, width: int) -> np.ndarray:
    """The frequencies of lines of `width` real values, as complex64 in the same memory."""
    return numbers[:, : 2 * (width // 2 + 1)].view(np.complex64)
