"""The reports of a stage's blocks: a list in a twentieth of the memory, however many there are."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

Report = Mapping[str, Any]

PAGE = 1000  # reports that are packed together


class Reports(Sequence[Report]):
    """What blocks reported, in their order of ending; it grows at its end alone.

    A report is some thirty small objects, 2 kB, and is hardly looked at again: all but the last
    are kept packed, some 100 bytes each. Slices of what came last are as quick as a list's.
    """

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._last: list[Report] = []

    def append(self, report: Report) -> None:
        """Add one; it must not be changed afterwards."""
        self._last.append(report)
        if len(self._last) == 2 * PAGE:  # at least a page stays at hand
            page, self._last = self._last[:PAGE], self._last[PAGE:]
            self._packed.append(zlib.compress(pickle.dumps(page), level=1))

    def __len__(self) -> int:
        return PAGE * len(self._packed) + len(self._last)

    def __iter__(self) -> Iterator[Report]:
        return self._from(0)

    @overload
    def __getitem__(self, index: int) -> Report: ...

    @overload
    def __getitem__(self, index: slice) -> list[Report]: ...

    def __getitem__(self, index: int | slice) -> Report | list[Report]:
        found = range(len(self))[index]
        if isinstance(found, range):
            if not found:
                return []
            low, high = min(found[0], found[-1]), max(found[0], found[-1]) + 1
            span = [report for report, _ in zip(self._from(low), range(low, high), strict=False)]
            return [span[number - low] for number in found]
        return next(self._from(found))

    def _from(self, start: int) -> Iterator[Report]:
        """All from number `start` on, a page unpacked at a time."""
        for number in range(start // PAGE, len(self._packed)):
            page: list[Report] = pickle.loads(zlib.decompress(self._packed[number]))
            yield from page[max(0, start - number * PAGE) :]
        yield from self._last[max(0, start - PAGE * len(self._packed)) :]
