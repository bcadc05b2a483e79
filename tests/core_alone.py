"""Run where only the core is installed, without extras: it imports, and it reconstructs.

Not a test module: CI runs it with the interpreter of a fresh environment.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

EXTRAS = ("torch", "cupy", "astra", "dask_cuda", "dask_jobqueue", "neuroglancer", "pytest")


def main() -> None:
    installed = [name for name in EXTRAS if importlib.util.find_spec(name)]
    if installed:
        raise SystemExit(f"not the core alone: {installed} are installed")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "tomodask", "demo", "--seed", "1", "--json"]
        done = subprocess.run(
            [*command, "--output", str(Path(folder) / "demo")],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
    answer = json.loads(done.stdout)
    total_variation = answer["scores"]["TV"]["psnr_db"]
    print("core alone:", answer["scores"], answer["center"])
    if not (total_variation > 15 and abs(answer["center"]["error_px"]) < 0.5):
        raise SystemExit("the core alone does not reconstruct what it should")


if __name__ == "__main__":
    main()
