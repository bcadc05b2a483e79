"""The memory benchmark runs at a tiny size, so that it never rots."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "memory.py"


@pytest.mark.slow
def test_the_benchmark_tells_peaks_and_budget(tmp_path):
    output = tmp_path / "memory.json"
    arguments = ["--columns", "64", "--rows", "32", "64", "--threads", "1"]
    subprocess.run(
        [sys.executable, str(SCRIPT), *arguments, "--output", str(output)],
        check=True, cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    result = json.loads(output.read_text())["result"]
    assert set(result["peak_bytes"]) == {"32", "64"}
    assert all(0 <= peak <= result["budget_bytes"] for peak in result["peak_bytes"].values())
    assert result["over_budget"] == []
    assert [file.name for file in tmp_path.iterdir()] == ["memory.json"]
