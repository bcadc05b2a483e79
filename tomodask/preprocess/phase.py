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
BATCH_LINES = 64  # rows transformed in one call: in fewer, threads wait for the interpreter's lock
LANES = 512  # numbers that a recursion goes over at a time, see kernels.decay
WAVELENGTH_UM_KEV = 1.239841984e-3  # h c
MARGIN_LENGTHS = 6  # exp(-6) = 0.25 % of the kernel lie beyond, see Paganin
MIN_MARGIN = 8  # shorter kernels ring, as the detector's pixels cut off their spectrum
LONG_MARGIN = 40  # from here on, larger tiles cost less than the halo that they add
# The ringing's taps by the kernel's length, up to which they are taken: what they leave is less
# than 0.2 % of the range of the transmissions, or what MIN_MARGIN of them leave.
RINGING = ((2.0, 8), (4.0, 4), (math.inf, 2))
MOST_TAPS = 8


@dataclass(frozen=True)
class Paganin:
    """Single-distance phase retrieval of a homogeneous sample, by Paganin et al. (2002).

    Transmission in, filtered transmission out; `MinusLog` follows. The spectrum of each projection
    is divided by 1 + z lambda (delta/beta) k^2 / (4 pi), k being 2 pi cycles a length. In real
    space that is a kernel K0(r / l) with l = sqrt(z lambda (delta/beta) / (4 pi)), its length of
    decay: rows and columns up to 6 l away (at least 8) are taken in, and what lies beyond changes a
    value by less than 0.5 % of the range of the transmissions. The detector's outermost pixels are
    repeated beyond its edges.

    Along the columns that is done in frequency space. Along the rows each frequency decays as
    exp(-a |r|) with a = sqrt(1 / l^2 + k^2), which is a recursion down and one up, whatever the
    length, and rings for a few rows, as the detector's pixels cut off its spectrum: those are taps.
    The recursions go by tiles of rows at fixed places, over whole ones within the margin: a row's
    result doesn't depend on the block that it came in. What lies beyond is taken to be as the
    outermost of these rows. Where a block ends short of the halo, the detector is taken to end.

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
        """Rows and columns around a pixel that its filtering takes in, at least."""
        lengths = round(MARGIN_LENGTHS * self.kernel_length(geometry), 3)
        return max(MIN_MARGIN, math.ceil(lengths))

    def halo(self, geometry: ParallelBeam) -> int:
        """The margin in whole tiles, seen from the far end of a row's own tile."""
        margin = self.margin(geometry)
        return (tiles_within(margin) + 1) * tile_rows(margin) - 1

    def working_bytes(self, shape: tuple[int, int, int], threads: int = 1) -> int:
        """The result, the factors and each thread's spectra, for a margin within the block's rows.

        Where the kernel is longer, a block of its halo alone has more rows.
        """
        num_angles, rows, columns = shape
        width, lines = columns + 2 * max(rows, 256) + 128, rows + 2 * LINES
        factors = 4 * width * (4 + 8 * MOST_TAPS)  # while they are made
        tiles = lines // tile_rows(0)
        batch = min(BATCH_LINES, rows + LINES)
        scratch = 4 * (width * (lines + 3 * batch) + LANES * (lines + 2 * tiles))
        return (
            result_bytes(shape, threads)
            + factors
            + min(threads, num_angles) * (scratch + 6 * rows * columns)
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
            finite = np.isfinite(transmission)
            if finite.all():
                scratch.filter(transmission, result[view])
            else:
                filled = transmission.astype(np.float32)
                RowGaps.of(~finite).fill(filled)
                scratch.filter(filled, result[view])
                result[view][~finite] = np.nan
            spare.append(scratch)

        share(retrieve, len(result), threads)
        return block.replace(data=result)


def tile_rows(margin: int) -> int:
    """Rows of a tile, which divide LINES."""
    return 4 if margin < LONG_MARGIN else 8


def tiles_within(margin: int) -> int:
    """Tiles that reach the margin, besides a row's own."""
    return math.ceil(margin / tile_rows(margin))


@dataclass(frozen=True, eq=False)
class Kernel:
    """1 / (1 + l^2 k^2): frequencies across the columns, recursions and taps along the rows.

    margin : columns and rows that it reaches.
    width : columns with the margins, a length that transforms are fast for.
    factors : (lines, numbers) float32, see `kernels.decay.filter_rows`, the same for the real and
        the imaginary part of a frequency; numbers is a multiple of 16, which makes lines of 64 B.
    """

    margin: int
    width: int
    factors: np.ndarray

    @classmethod
    def of(cls, length: float, margin: int, columns: int) -> Kernel:
        width = fft.next_fast_len(columns + 2 * margin, real=True)
        squares = 1 + (length * 2 * np.pi * np.fft.rfftfreq(width)) ** 2
        decay = np.sqrt(squares) / length  # of the kernel's logarithm a row
        step = -np.expm1(-decay).astype(np.float32).astype(float)
        left = 1 - step
        weight = 1 / (2 * decay * length**2 * step)

        # The rest of the spectrum, at so many frequencies that it and the taps are each other's
        # transforms. The first is 0: an even transmission stays as it is.
        num_taps = next(taps for up_to, taps in RINGING if length < up_to)
        along = 2 * np.pi * np.fft.fftfreq(2 * num_taps + 1)[:, None]
        waves = np.cos(along)
        rest = 1 / (squares + (length * along) ** 2)
        rest -= 2 * weight * step * (1 - left * waves) / (1 - 2 * left * waves + left**2)
        taps = np.cos(along[: num_taps + 1, 0] * np.arange(len(along))[:, None]).T @ rest
        factors = aligned(kernels.decay.TAPS + len(taps), 2 * len(step))
        lines = [step, left ** tile_rows(margin), weight, *taps / len(along)]
        factors[:, : 2 * len(step)] = np.repeat(np.stack(lines), 2, axis=1)
        return cls(margin, width, factors)


@dataclass(frozen=True, eq=False)
class Scratch:
    """What one thread filters a projection in: spectra of its rows, and the loops' own.

    Transforms take whole LINES of rows, counted from the detector's first: a row has its fixed
    place among them, as the vectors of a transform and what is left over need not round alike.
    """

    kernel: Kernel
    first: int  # row of the detector
    rows: int
    columns: int
    lines: np.ndarray
    spectra: np.ndarray
    ends: np.ndarray
    filtered: np.ndarray

    @classmethod
    def of(cls, kernel: Kernel, geometry: ParallelBeam) -> Scratch:
        first, rows = geometry.row_start, geometry.det_rows
        num_lines = LINES * math.ceil((first % LINES + rows) / LINES)
        return cls(
            kernel,
            first,
            rows,
            geometry.det_count,
            lines=np.zeros((min(BATCH_LINES, num_lines), kernel.width), dtype=np.float32),
            spectra=aligned(num_lines, kernel.factors.shape[1]),
            ends=aligned(2 * num_lines // tile_rows(kernel.margin), LANES).reshape(2, -1, LANES),
            filtered=aligned(num_lines, LANES),
        )

    def filter(self, projection: np.ndarray, result: np.ndarray) -> None:
        """Filter a (rows, columns) projection into `result`, which may be the same."""
        before, margin = self.first % LINES, self.kernel.margin
        inner = slice(margin, margin + self.columns)
        batches = range(0, len(self.spectra), BATCH_LINES)
        for start in batches:
            begin, end = max(start, before), min(start + BATCH_LINES, before + self.rows)
            own = self.lines[begin - start : end - start]  # other lines are any row's
            own[:, inner] = projection[begin - before : end - before]
            own[:, : inner.start] = own[:, inner.start, None]
            own[:, inner.stop :] = own[:, inner.stop - 1, None]
            spectra = self._frequencies(start)
            spectra[...] = fft.rfft(self.lines[: len(spectra)], axis=1, workers=1)
        kernels.decay.filter_rows(
            self.spectra,
            before,
            before + self.rows,
            self.kernel.factors,
            tile_rows(margin),
            tiles_within(margin),
            self.ends,
            self.filtered,
        )
        for start in batches:
            begin, end = max(start, before), min(start + BATCH_LINES, before + self.rows)
            lines = fft.irfft(self._frequencies(start), n=self.kernel.width, axis=1, workers=1)
            result[begin - before : end - before] = lines[begin - start : end - start, inner]

    def _frequencies(self, start: int) -> np.ndarray:
        """A batch of spectra, as complex64 in the same memory."""
        numbers = 2 * (self.kernel.width // 2 + 1)
        return self.spectra[start : start + BATCH_LINES, :numbers].view(np.complex64)


def aligned(lines: int, numbers: int) -> np.ndarray:
    """Zeros (lines, numbers rounded up to 16) float32, each line on a boundary of 64 B.

    Vectors that lie across two cache lines make the loops over the rows half as fast.
    """
    numbers = 16 * math.ceil(numbers / 16)
    stretch = np.zeros(lines * numbers + 15, dtype=np.float32)
    start = -(stretch.ctypes.data // 4) % 16
    return stretch[start : start + lines * numbers].reshape(lines, numbers)
