"""A profile accounts for the time of its tasks and names the stage that the others wait for."""

import json

import pytest

from tomodask import steps
from tomodask.cli import execute
from tomodask.cli.profile import profile_table
from tomodask.geometry import ParallelBeam
from tomodask.profiling import (
    ADVICE,
    OPERATIONS,
    Limits,
    _bottleneck,
    fbp_operations,
    measure_limits,
)
from tomodask.reconstruct import ALGORITHMS
from tomodask.stream import STAGES


@pytest.fixture(scope="module")
def scan(raw_file, tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    return steps.ingest(raw_file.path, path, cluster={"workers": 1, "threads": 1})


def test_a_profiled_run_writes_and_tells_where_its_time_went(scan, tmp_path, capsys):
    output = tmp_path / "volume.zarr"
    command = ["reconstruct", str(scan), str(output), "--center", "24.2", "--workers", "1"]
    assert execute([*command, "--profile", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["profile"]
    kept = json.loads((tmp_path / "volume.zarr.profile.json").read_text())
    assert told.pop("path") == str(tmp_path / "volume.zarr.profile.json")
    assert told == kept
    assert kept["rows"] == sum(block["rows"] for block in kept["blocks"]) == 40
    assert kept["bottleneck"] in ADVICE
    for stage in STAGES:
        total = sum(block["seconds"][stage] for block in kept["blocks"])
        assert kept["stages"][stage]["seconds"] == pytest.approx(total)
        assert 0 <= kept["stages"][stage]["share"] <= 1
    shares = [kept["stages"][stage]["share"] for stage in ("correct", "reconstruct", "wait")]
    assert sum(shares) <= 1  # the computing thread does one or another of these
    assert min(kept["limits"].values()) > 0
    # the same command again: nothing is left to do, and that is told
    assert execute([*command, "--profile"]) == 0
    printed = capsys.readouterr().out
    assert "nothing was left to do" in printed
    assert "GFLOP/s" in printed


def test_the_stage_that_is_busy_longest_is_the_bottleneck():
    seconds = {"read": 2.0, "correct": 1.0, "reconstruct": 2.0, "write": 2.5}
    assert _bottleneck(seconds) == "reconstruct"  # 3 s of computing
    assert _bottleneck({**seconds, "correct": 2.1}) == "correct"
    assert _bottleneck({**seconds, "read": 3.1}) == "read"
    assert _bottleneck({**seconds, "write": 4.0}) == "write"


def test_operations_grow_as_n_squared_log_n():
    small, large = (
        fbp_operations(ParallelBeam([0.0] * n, 1, n, center_of_rotation=0.0)) for n in (256, 1024)
    )
    assert 16 < large / small < 16 * 10 / 8 * 1.1
    assert set(OPERATIONS) <= set(ALGORITHMS)


def test_limits_leave_no_file_behind(tmp_path):
    limits = measure_limits(tmp_path, threads=1)
    assert not list(tmp_path.iterdir())
    # no machine copies less than 0.1 GB/s or does less than 0.1 GFLOP/s
    assert min(limits.memory_gb_s, limits.compute_gflop_s) > 0.1


def test_the_table_has_a_row_for_each_stage():
    stages = {stage: {"seconds": 1.0, "share": 0.2, "gb_s": 1.0} for stage in STAGES[:-1]}
    stages["wait"] = {"seconds": 1.0, "share": 0.2}
    profile = {
        "rows": 3, "slices_s": 1.5, "stages": stages, "bottleneck": "write",
        "limits": vars(Limits(10.0, 100.0, 1.0)),
    }  # fmt: skip
    table = profile_table(profile)
    assert table.row_count == len(STAGES)
