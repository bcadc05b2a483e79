"""What a run was to take beside what it took: plan.json and fact.json in its folder.

The plan is that of the first attempt; what the attempts took is added up, those that were killed
as far as they had told. Neither may end a run: what can't be foreseen or kept is left out.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from tomodask import arrays
from tomodask.cluster.run import Listener, Progress
from tomodask.cluster.workforce import Workforce
from tomodask.errors import MemoryBudgetError, TomodaskError
from tomodask.foresee import forecast
from tomodask.planning import kept_hardware
from tomodask.recipe import Recipe, run_hash
from tomodask.runfolder import RunFolder

PLAN, FACT = "plan.json", "fact.json"
TOLD_SECONDS = 10.0  # between two notes of what was taken so far

log = logging.getLogger(__name__)


class PlanAndFact:
    """Keeps both for the length of a `with` block around a run.

    Entering it raises MemoryBudgetError where a stage does not fit into a worker.

    is_ours : whether the run is still this process'; nothing is written once it isn't.
    """

    def __init__(
        self,
        folder: RunFolder,
        recipe: Recipe,
        force: Workforce,
        *,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self.folder, self.recipe, self.force, self.is_ours = folder, recipe, force, is_ours
        self._digest = run_hash(recipe, source=recipe.source, rows=recipe.rows)
        self._began = time.monotonic()
        self._started = time.time()
        self._stages: dict[str, Progress] = {}
        self._center: float | None = None
        self._center_bytes = 0
        self._told = 0.0
        self._before: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        with self._untold("plan"):
            known = self.folder.read_json(PLAN)
            if known is not None and known.get("digest") == self._digest:
                self._before = list((self.folder.read_json(FACT) or {}).get("attempts", []))
            else:
                self._foresee()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keep()

    def listening(self, listener: Listener) -> Listener:
        """A listener that takes notice of the stages before it passes them on."""

        def taking(progress: Progress) -> None:
            self._stages[progress.stage] = progress
            if time.monotonic() - self._told >= TOLD_SECONDS:
                self._keep()
            listener(progress)

        return taking

    def planned(self) -> None:
        """The centre is found and the blocks are cut."""
        ended = [stage.ended for stage in self._stages.values() if stage.ended is not None]
        if self.recipe.center == "auto":
            self._center = time.monotonic() - max([self._began, *ended])
            self._center_bytes = arrays.peak_bytes()

    def _foresee(self) -> None:
        hardware = kept_hardware(self.recipe)
        foreseen = forecast(self.recipe, hardware, workers=self.force.size, refuse=False)
        self.folder.write_json(PLAN, {"digest": self._digest, **foreseen.as_dict()})
        (self.folder.path / FACT).unlink(missing_ok=True)

    def _keep(self) -> None:
        """Write what was taken so far; a run that found all done takes nothing."""
        self._told = time.monotonic()
        if not any(stage.blocks_done for stage in self._stages.values()) or not self.is_ours():
            return
        attempts = [*self._before, self._attempt()]
        with self._untold("fact"):
            self.folder.write_json(FACT, {"attempts": attempts, **_sum(attempts)})

    def _attempt(self) -> dict[str, Any]:
        stages = {name: _taken(progress) for name, progress in self._stages.items()}
        if self._center is not None:
            stages["center"] = {
                **dict.fromkeys(_COUNTS, 0),
                "blocks": 1,
                "peak_bytes": self._center_bytes,
                "seconds": round(self._center, 3),
            }
        return {
            "started": self._started,
            "seconds": round(time.monotonic() - self._began, 3),
            "workers": max((stage.workers for stage in self._stages.values()), default=0),
            "stages": stages,
        }

    @contextmanager
    def _untold(self, what: str) -> Iterator[None]:
        try:
            yield
        except MemoryBudgetError:  # better now than when the raw files are copied
            raise
        except TomodaskError as error:  # the run itself is about to say so
            log.debug("no %s: %s", what, error)
        except (OSError, ArithmeticError, TypeError, ValueError) as error:
            log.warning("the run's %s can't be kept in %s: %s", what, self.folder.path, error)


_COUNTS = ("blocks", "bytes_read", "bytes_written", "peak_bytes")


def compare(folder: RunFolder) -> dict[str, Any]:
    """Plan and fact side by side, empty where one of them is missing.

    By stage, and of "all": blocks, bytes_read, bytes_written, memory (bytes of a worker; of the
    driver, which finds the centre, in "center" alone) and seconds, each as {"plan", "fact",
    "ratio"}, the ratio of fact to plan None where there is none.
    """
    plan, fact = folder.read_json(PLAN), folder.read_json(FACT)
    if plan is None or fact is None:
        return {}
    compared: dict[str, Any] = {}
    for stage in plan["stages"]:
        taken = fact["stages"].get(stage["name"])
        if taken is not None:
            compared[stage["name"]] = {
                name: _pair(stage[name], taken["peak_bytes" if name == "memory" else name])
                for name in ("blocks", "bytes_read", "bytes_written", "memory", "seconds")
            }
    stages = [stage for name, stage in compared.items() if name != "center"]
    for name in ("bytes_read", "bytes_written"):  # nobody counts what the driver reads
        compared.get("center", {}).pop(name, None)
    total = {
        name: _pair(*(sum(stage[name][side] for stage in stages) for side in ("plan", "fact")))
        for name in ("blocks", "bytes_read", "bytes_written")
    }
    workers = [stage["memory"] for stage in plan["stages"] if stage["name"] != "center"]
    total["memory"] = _pair(max(workers, default=0), fact["peak_bytes"])
    total["seconds"] = _pair(plan["seconds"], fact["seconds"])
    return {**compared, "all": total}


def comparison_text(compared: Mapping[str, Any]) -> str:
    """One line of it."""
    total = compared["all"]
    moved = " and ".join(
        f"{total[f'bytes_{name}']['fact'] / 1e9:.3g} GB {name} "
        f"({total[f'bytes_{name}']['plan'] / 1e9:.3g} foreseen)"
        for name in ("read", "written")
    )
    memory, seconds = total["memory"], total["seconds"]
    foreseen = "not foreseen" if seconds["plan"] is None else f"{seconds['plan']:.1f} foreseen"
    return (
        f"plan and fact: {moved}, {memory['fact'] / 1e9:.3g} GB a worker "
        f"({memory['plan'] / 1e9:.3g} foreseen), {seconds['fact']:.1f} s ({foreseen})"
    )


def _taken(progress: Progress) -> dict[str, Any]:
    return {
        "blocks": progress.blocks_done,
        "bytes_read": progress.bytes_read,
        "bytes_written": progress.bytes_written,
        "peak_bytes": progress.peak_bytes,
        "seconds": round(progress.seconds, 3),
    }


def _sum(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """Of all attempts, by stage and altogether."""
    stages: dict[str, dict[str, Any]] = {}
    for attempt in attempts:
        for name, taken in attempt["stages"].items():
            known = stages.setdefault(name, dict.fromkeys((*_COUNTS, "seconds"), 0))
            for key in known:
                known[key] = max(known[key], taken[key]) if key == "peak_bytes" else (
                    known[key] + taken[key]
                )  # fmt: skip
    return {
        "stages": stages,
        "seconds": round(sum(attempt["seconds"] for attempt in attempts), 3),
        "peak_bytes": max(
            (stage["peak_bytes"] for name, stage in stages.items() if name != "center"), default=0
        ),
    }


def _pair(plan: float | None, fact: float) -> dict[str, float | None]:
    ratio = fact / plan if plan else None
    return {"plan": plan, "fact": fact, "ratio": ratio}
