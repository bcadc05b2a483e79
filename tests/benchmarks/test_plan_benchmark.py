"""The benchmark of plan and fact runs at a tiny size, so that it never rots."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "plan.py"


@pytest.mark.slow
def test_the_benchmark_tells_plan_and_fact_of_other_sizes(tmp_path):
    output = tmp_path / "plan.json"
    arguments = [
        "--measured",
        "64x64x60",
        "--sizes",
        "96x48x40",
        "--repeats",
        "1",
        "--workers",
        "1",
    ]
    subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, "--output", str(output)],
        check=True, cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    result = json.loads(output.read_text())["result"]
    (size,) = result["sizes"].values()
    assert size["bytes_read"]["kept"]
    assert size["bytes_written"]["ratio"] == pytest.approx(1, abs=0.05)
    assert size["memory"]["ratio"] == pytest.approx(1, abs=0.5)
    assert size["seconds"]["plan"] > 0  # no test is held to what was timed
    assert [file.name for file in tmp_path.iterdir()] == ["plan.json"]
