"""Corrections: what happens to a block of projections before it is reconstructed, one a file.

The order that suits most scans is the order of the table. Each correction is a frozen dataclass
whose fields are its parameters: it can be stored with the result, compared and sent to a worker.
"""

from __future__ import annotations

from tomodask.preprocess.align import Align
from tomodask.preprocess.chain import apply_corrections, correction_bytes
from tomodask.preprocess.correction import Correction
from tomodask.preprocess.flatfield import Flatfield
from tomodask.preprocess.normalise import MinusLog
from tomodask.preprocess.outliers import Outliers
from tomodask.preprocess.phase import Paganin
from tomodask.preprocess.stripes import Stripes

__all__ = [
    "CORRECTIONS",
    "Align",
    "Correction",
    "Flatfield",
    "MinusLog",
    "Outliers",
    "Paganin",
    "Stripes",
    "apply_corrections",
    "correction_bytes",
]


CORRECTIONS: dict[str, type[Correction]] = {
    "outliers": Outliers,
    "flatfield": Flatfield,
    "paganin": Paganin,
    "minus_log": MinusLog,
    "stripes": Stripes,
    "align": Align,
}
