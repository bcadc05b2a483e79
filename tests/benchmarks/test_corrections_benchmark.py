"""The benchmark of the corrections runs at a tiny size, so that it never rots."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from tomodask.preprocess import MinusLog
from tomodask.projections import Projections

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TINY = ["--columns", "64", "--rows", "3", "--threads", "2", "--repeats", "2"]


@pytest.fixture
def benchmark_corrections(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    spec = importlib.util.spec_from_file_location(
        "benchmark_corrections", BENCHMARKS / "corrections.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_reports_each_correction_beside_fbp(
    benchmark_corrections: ModuleType, tmp_path: Path
) -> None:
    output = tmp_path / "corrections.json"
    benchmark_corrections.main([*TINY, "--output", str(output)])
    report = json.loads(output.read_text())
    (result,) = report["results"]
    names = {name.split()[0] for name in result["steps"]}
    assert {"outliers", "flatfield", "paganin", "minus_log", "stripes", "all", "fbp"} <= names
    for step in result["steps"].values():
        low, high = step["quartiles"]
        assert 0 < low <= step["milliseconds_per_row"] <= high
    assert result["steps"]["fbp"]["share_of_fbp"] == 1
    assert {"cpu", "cores", "date", "versions"} <= set(report["machine"])


def test_a_wrong_answer_is_not_timed(
    benchmark_corrections: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(corrections: object, block: Projections, threads: int = 1) -> Projections:
        shape = block.data.shape
        return MinusLog()(block.replace(data=np.full(shape, 0.1, dtype=np.float32)), threads)

    monkeypatch.setattr(benchmark_corrections, "apply_corrections", wrong)
    with pytest.raises(SystemExit, match="not timed"):
        benchmark_corrections.main(TINY)
