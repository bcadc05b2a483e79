"""Rows far apart read at once: what a centre search and a preview look at."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tomodask.ingest.raw import RawScan
from tomodask.projections import Projections
from tomodask.scan import Scan


def read_rows(
    scan: Scan | RawScan,
    rows: np.ndarray,
    columns: tuple[int, int] | None = None,
    views: slice = slice(None),
) -> Projections:
    """Raw counts of any rows, in rising order; each chunk that they meet is read once.

    The geometry counts the rows as if they were neighbours: its `row_start` means nothing.
    """
    if isinstance(scan, RawScan):
        return scan.read_rows(rows, columns, views)
    bands = rows // scan.chunk_shape[1]
    parts = []
    for band in np.unique(bands):
        wanted = rows[bands == band]
        part = scan.read((int(wanted[0]), int(wanted[-1]) + 1), columns, views)
        parts.append(_pick(part, wanted - wanted[0]))
    whole = parts[0]
    return whole.replace(
        data=np.concatenate([part.data for part in parts], axis=1),
        geometry=replace(whole.geometry, det_rows=rows.size),
        flats=_join([part.flats for part in parts]),
        darks=_join([part.darks for part in parts]),
    )


def _pick(part: Projections, rows: np.ndarray) -> Projections:
    return part.replace(
        data=part.data[:, rows],
        flats=None if part.flats is None else part.flats[:, rows],
        darks=None if part.darks is None else part.darks[:, rows],
    )


def _join(images: list[np.ndarray | None]) -> np.ndarray | None:
    present = [image for image in images if image is not None]
    return np.concatenate(present, axis=1) if present else None
