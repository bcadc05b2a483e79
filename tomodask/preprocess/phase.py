"""Phase retrieval: the edge enhancement of free-space propagation turned back into absorption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy import fft

from tomodask.errors import InputError, RecipeError
from tomodask.geometry import ParallelBeam
from tomodask.preprocess.flatfield import RowGaps
from tomodask.preprocess.normalise import require_transmission
from tomodask.projections import Projections

TILE_ROWS = 32
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

    The rows are filtered in tiles of 32, counted from the detector's first, each with 6 l rows more
    on both sides, so a row's result doesn't depend on the block that it came in. Where a block ends
    short of the halo, the detector is taken to end.

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
        """Rows and columns around a tile that its filtering takes in."""
        return max(MIN_MARGIN, math.ceil(MARGIN_LENGTHS * self.kernel_length(geometry)))

    def halo(self, geometry: ParallelBeam) -> int:
        """The margin of a tile of which only the last row is wanted."""
        return self.margin(geometry) + TILE_ROWS - 1

    def working_bytes(self, shape: tuple[int, int, int]) -> int:
        """The result and one projection's spectra, for a margin of at most the block's rows."""
        _, rows, columns = shape
        margin = max(rows, 256)
        height, frequencies = 2 * margin + TILE_ROWS, (columns + 2 * margin) // 2 + 64
        return 4 * math.prod(shape) + 8 * frequencies * (rows + 4 * height) + 64 * rows * columns

    def __call__(self, block: Projections) -> Projections:
        """The transmissions without their fringes, float32."""
        require_transmission(block, "paganin")
        tiles = TileFilter(
            block.geometry, self.kernel_length(block.geometry), self.margin(block.geometry)
        )
        result = np.empty(block.data.shape, dtype=np.float32)
        for transmission, retrieved in zip(block.data, result, strict=True):
            missing = ~np.isfinite(transmission)
            if missing.any():
                transmission = transmission.astype(np.float32)
                RowGaps.of(missing).fill(transmission)
            tiles.apply(transmission, retrieved)
            retrieved[missing] = np.nan
        return block.replace(data=result)


class TileFilter:
    """1 / (1 + l^2 k^2) on the rows of one block, in tiles anchored at the detector's first row.

    Every transform has the same shape and every row its fixed place in it, whichever rows the block
    holds: that makes a row's arithmetic, and so its bytes, independent of the block.
    """

    def __init__(self, geometry: ParallelBeam, length: float, margin: int) -> None:
        self.margin = margin
        self.first, self.rows = geometry.row_start, geometry.det_rows
        self.columns = geometry.det_count
        self.width = fft.next_fast_len(self.columns + 2 * margin, real=True)
        self.height = fft.next_fast_len(TILE_ROWS + 2 * margin)
        across = 2 * np.pi * np.fft.rfftfreq(self.width)
        along = 2 * np.pi * np.fft.fftfreq(self.height)
        squared = along[:, None] ** 2 + across**2
        self.response = (1 / (1 + length**2 * squared)).astype(np.float32)

    def apply(self, projection: np.ndarray, result: np.ndarray) -> None:
        """Filter a (rows, columns) projection into `result`."""
        spectra = self._transform_rows(projection)
        start = self.first - self.first % TILE_ROWS
        for tile in range(start, self.first + self.rows, TILE_ROWS):
            # past the margin the transform wraps around: what fills it up must be fixed as well
            wanted = tile - self.margin + np.arange(self.height)
            wanted = np.minimum(wanted, tile + TILE_ROWS + self.margin - 1)
            window = spectra[np.clip(wanted - self.first, 0, self.rows - 1)]
            window = fft.fft(window, axis=0, overwrite_x=True, workers=1)
            window *= self.response
            window = fft.ifft(window, axis=0, overwrite_x=True, workers=1)
            lines = window[self.margin : self.margin + TILE_ROWS]
            lines = fft.irfft(lines, n=self.width, axis=1, workers=1)
            lines = lines[:, self.margin : self.margin + self.columns]
            begin, end = max(tile, self.first), min(tile + TILE_ROWS, self.first + self.rows)
            result[begin - self.first : end - self.first] = lines[begin - tile : end - tile]

    def _transform_rows(self, projection: np.ndarray) -> np.ndarray:
        """Spectrum of each row, its outermost pixels repeated: (rows, frequencies) complex64."""
        spectra = np.empty((self.rows, self.response.shape[1]), dtype=np.complex64)
        lines = np.empty((TILE_ROWS, self.width), dtype=np.float32)
        inner = slice(self.margin, self.margin + self.columns)
        start = self.first - self.first % TILE_ROWS
        for tile in range(start, self.first + self.rows, TILE_ROWS):
            source = np.clip(tile + np.arange(TILE_ROWS) - self.first, 0, self.rows - 1)
            lines[:, inner] = projection[source]
            lines[:, : inner.start] = lines[:, inner.start, None]
            lines[:, inner.stop :] = lines[:, inner.stop - 1, None]
            transformed = fft.rfft(lines, axis=1, workers=1)
            begin, end = max(tile, self.first), min(tile + TILE_ROWS, self.first + self.rows)
            spectra[begin - self.first : end - self.first] = transformed[begin - tile : end - tile]
        return spectra
