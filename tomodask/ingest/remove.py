"""Taking a scan store away again: what tomodask made of it, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from tomodask.errors import OutputExistsError
from tomodask.ledger import remove_known, remove_ledgers
from tomodask.scan import scan_metadata

ARRAYS = "projections|flats|darks|angle|timestamp|quality|flat_timestamp|dark_timestamp"
# zarr.json of the group is removed last: without it the rest could not be recognised as ours
_OWN = re.compile(rf"({ARRAYS})/(zarr\.json|c(/\d+)*)(\.[0-9a-f]+\.partial)?")


def remove_scan(path: Path | str) -> list[Path]:
    """Remove a scan store and its ledger; returns the files that stay, as others made them.

    Raises
    ------
    OutputExistsError : this is no scan store of tomodask.
    """
    path = Path(path)
    if scan_metadata(path) is None:
        raise OutputExistsError(
            f"{path} is not a scan store of tomodask, nothing was removed: take another path, or "
            "remove it yourself"
        )
    kept = remove_ledgers(path)
    for folder in [entry for entry in path.iterdir() if entry.is_dir()]:
        kept += remove_known(folder, lambda file: bool(_OWN.fullmatch(_name(file, path))))
    (path / "zarr.json").unlink()
    return sorted({*kept, *remove_known(path, lambda file: False)})


def _name(file: Path, store: Path) -> str:
    return file.relative_to(store).as_posix()
