"""Plans as the command line asks for them, and what a run keeps of its plan and of what it took."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tomodask.forecast import Forecast
from tomodask.foresee import forecast
from tomodask.hardware import FILE_NAME, Hardware
from tomodask.measure import measure_hardware
from tomodask.recipe import Recipe
from tomodask.runfolder import RunFolder

log = logging.getLogger(__name__)


def plan(
    recipe: Recipe,
    stated: Mapping[str, Any] | None = None,
    file: Path | str | None = None,
    *,
    measure: bool = False,
    scan: str | None = None,
    dtype: str = "uint16",
    keep: Path | str | None = None,
    refuse: bool = True,
) -> tuple[Forecast, Hardware]:
    """What a run will take, and the hardware by which it was foreseen.

    What is stated goes before what is measured now, that before the file's. What was measured is
    kept in the run folder, for the run's own plan; a plan without any of them looks for it there.

    Parameters
    ----------
    stated : fields of `Hardware`; sizes as texts are taken too.
    file : that keeps hardware. keep : file to keep it in.
    measure, scan, dtype, refuse : see `measure_hardware` and `forecast`.

    Raises
    ------
    MemoryBudgetError, PlanError : it can't fit.
    """
    if recipe.denoise is not None:
        log.warning(
            "this plan is of the reconstruction alone: training takes the time that the recipe's "
            "denoise.training gives it, and denoising is not foreseen yet"
        )
        recipe = recipe.plain()
    given = Hardware.from_tree(dict(stated or {}), "stated hardware")
    known = Hardware() if file is None else Hardware.read(file)
    if measure:
        known = measure_hardware(recipe, given.over(known), scan=scan, dtype=dtype)
    elif file is None:
        known = kept_hardware(recipe)
    if given.gpus and given.workers is None:
        known = replace(known, workers=None)  # one for each GPU, not as many as were measured
    known = given.over(known)
    if keep is not None:
        known.write(Path(keep))
    if measure and recipe.output is not None and Path(recipe.output).absolute().parent.is_dir():
        known.write(RunFolder.of(recipe.output).make() / FILE_NAME)
    return forecast(recipe, known, scan=scan, dtype=dtype, refuse=refuse), known


def kept_hardware(recipe: Recipe) -> Hardware:
    """The hardware that an earlier plan measured for this output; of unknown speed where none."""
    if recipe.output is None:
        return Hardware()
    path = RunFolder.of(recipe.output).path / FILE_NAME
    return Hardware.read(path) if path.is_file() else Hardware()
