"""One tree of errors; each class also is the built-in that it means.

A message names what was wrong with its values, what was expected and what to do. The command line
prints it alone, without a traceback, and leaves with `exit_code`.
"""

import difflib
import errno
from collections.abc import Iterable, Sequence


class TomodaskError(Exception):
    """The root: everything that tomodask raises on purpose."""

    exit_code = 2


class InputError(TomodaskError, ValueError):
    """A value, file or option can't be used as it is."""


class MissingInputError(InputError, FileNotFoundError):
    """A file, link or dataset that was named does not exist."""

    def __str__(self) -> str:  # FileNotFoundError would print errno and file name instead
        return str(self.args[0]) if self.args else ""


class FormatError(InputError):
    """A file exists, but is not what it claims to be, or is truncated."""


class AnglesError(InputError):
    """The angles do not match the frames."""


class FlatfieldError(InputError):
    """Flats or darks are missing or contradict each other."""


class GeometryError(InputError):
    """A geometry, crop or shape that can't be."""


class DeviceError(TomodaskError, RuntimeError):
    """A GPU is asked for where there is none, or an array is where a backend can't reach it."""


class RecipeError(InputError):
    """An unknown key or a value outside its range in a recipe."""


class ChunkLayoutError(InputError):
    """An existing Zarr stack is chunked so that reading blocks from it would waste the disk."""


class OutputExistsError(TomodaskError, FileExistsError):
    """The output was made by another recipe, or not by tomodask at all."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class OutputInUseError(TomodaskError, BlockingIOError):
    """Another driver writes the store, or has taken it over from this one."""


class UnfinishedError(InputError):
    """A store is read before the run that makes it has ended."""


class MemoryBudgetError(TomodaskError, MemoryError):
    """Not even the smallest block fits into a worker's memory."""

    exit_code = 4


class PlanError(TomodaskError, OSError):
    """What a run needs does not fit into the machine: a disk, a GPU, the memory of all workers."""

    exit_code = 4


class MissingPackageError(TomodaskError, ImportError):
    """An optional package is needed; the message names the extra that brings it."""


class DivergedError(TomodaskError, ArithmeticError):
    """An iterative algorithm goes away from the solution.

    residuals : the norms of y - A(x) up to there, of the row that diverges.
    """

    def __init__(self, message: str, residuals: Sequence[float] = ()) -> None:
        super().__init__(message)
        self.residuals = list(residuals)


class BlocksFailedError(TomodaskError, RuntimeError):
    """Some blocks failed after their retries; the others are written and kept."""

    exit_code = 3


class CancelledRunError(TomodaskError, RuntimeError):
    """Somebody asked the run to stop; what is done is kept."""

    exit_code = 130


class BlocksLeftError(TomodaskError, RuntimeError):
    """Blocks are left to do; what is done is kept, and the message says how to go on.

    elements : of a job array, those whose share they are, as "3/16".
    """

    exit_code = 3

    def __init__(self, message: str, elements: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.elements = list(elements)


class SchedulerLostError(TomodaskError, ConnectionError):
    """The scheduler that a run was given is gone; what is done is kept."""

    exit_code = 3


class VersionMismatchError(InputError):
    """A worker runs other versions than the driver."""


class DiskFullError(TomodaskError, OSError):
    """No space is left for a store, or its owner's quota is used up; what is done is kept."""

    exit_code = 3


# a file system, a quota, a limit on the size of files
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_disk_full(error: BaseException) -> bool:
    """Whether space ran out, which repeating does not mend."""
    return isinstance(error, OSError) and error.errno in FULL


def nearest(name: str, known: Iterable[str]) -> str:
    """'did you mean ...?' for a misspelt name, or the list of what there is."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(names)}"
