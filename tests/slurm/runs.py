"""A run of many small blocks, so that something can happen to it in the middle."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

import tomodask
from tests.slurm.cluster import Slurm
from tomodask.ledger import Ledger
from tomodask.runfolder import RunFolder
from tomodask.volumestore import volume_metadata

BLOCKS = 24
PATIENCE = 300  # seconds for what should take a few

# Read by every Python below this folder's PYTHONPATH, on the nodes too. No setting makes blocks as
# small as here, as none should: a block of two rows is not worth a task.
SMALL_BLOCKS = """
import tomodask.blocks
tomodask.blocks.TARGET_BYTES = 1
"""


def wait_until(holds: Callable[[], object], patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.05)


@dataclass
class Run:
    """One recipe in a folder of its own, and the processes that were started for it."""

    folder: Path
    source: Path
    scan: Path
    slurm: Slurm | None = None
    jobqueue: dict[str, object] = field(default_factory=dict)
    started: list[subprocess.Popen] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "sitecustomize.py").write_text(SMALL_BLOCKS)
        job = {
            "queue": "cpu",
            "cores": 1,
            "memory": "2GB",
            "walltime": "00:30:00",
            "interface": "lo",
        }
        recipe = {
            "source": str(self.source),
            "scan": str(self.scan),
            "output": str(self.output),
            "center": 64.0,
            "backend": "reference",  # slow enough to be hit in the middle of a block
            "volume": {"chunk_rows": 2},
            "cluster": {"jobqueue": {**job, **self.jobqueue}},
        }
        self.recipe.write_text(yaml.safe_dump(recipe))

    @property
    def recipe(self) -> Path:
        return self.folder / "recipe.yaml"

    @property
    def output(self) -> Path:
        return self.folder / "foam.zarr"

    @property
    def run_folder(self) -> RunFolder:
        return RunFolder.of(self.output)

    @property
    def environment(self) -> dict[str, str]:
        """With the small blocks; a job gets what the one who submits it has."""
        package = Path(tomodask.__file__).parents[1]
        found = [str(self.folder), str(package), os.environ.get("PYTHONPATH", "")]
        base = self.slurm.environment if self.slurm else dict(os.environ)
        return {**base, "PYTHONPATH": os.pathsep.join(filter(None, found))}

    def tomodask(self, *words: object, **environment: str) -> subprocess.Popen:
        """Start a command; all that it prints is kept for `end`."""
        command = [sys.executable, "-m", "tomodask", *map(str, words)]
        self.started.append(
            subprocess.Popen(
                command,
                cwd=self.folder,
                env={**self.environment, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return self.started[-1]

    def on_slurm(self, *words: object, **environment: str) -> subprocess.Popen:
        """A driver here and two jobs of Slurm."""
        command = ("run", self.recipe, "--cluster", "slurm", "--jobs", 2)
        return self.tomodask(*command, *words, **environment)

    def end(self, process: subprocess.Popen) -> tuple[int, str]:
        """Exit code of a command, and all that it told."""
        told = process.communicate(timeout=PATIENCE)[0]
        return process.returncode, told

    def submit(self, script: str, *options: object) -> str:
        """Give a batch script to sbatch; the job's id."""
        path = self.folder / "job.sh"
        path.write_text(script)
        return subprocess.run(
            ["sbatch", "--parsable", *map(str, options), path],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    def done(self) -> set[str]:
        """Blocks in the ledger."""
        kept = volume_metadata(self.output)
        if not kept:
            return set()
        return set(Ledger.of(self.output, kept["uuid"], kept["recipe_hash"]).done())

    def blocks_done(self) -> int:
        return len(self.done())

    def wait_for(self, blocks: int, driver: subprocess.Popen | None = None) -> None:
        """Until so many blocks are done, but not all."""

        def far_enough() -> bool:
            assert driver is None or driver.poll() is None, self.told(driver)
            return self.blocks_done() >= blocks

        wait_until(far_enough)
        assert self.blocks_done() < BLOCKS, "too late to hit it in the middle"

    def told(self, driver: subprocess.Popen) -> str:
        """Of a driver that should have gone well: its words, and those of its jobs."""
        logs = [*self.run_folder.logs.glob("*"), *self.folder.glob("*.log")]
        return "\n".join([self.end(driver)[1], *(path.read_text() for path in logs)])

    def stop(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()
