"""What a run will take, as values: how times add up, and what can't fit."""

import shutil
from collections import namedtuple

import pytest

from tomodask import forecast
from tomodask.cluster.local import Workers
from tomodask.errors import MemoryBudgetError, PlanError
from tomodask.forecast import Disk, Forecast, Stage, check_fits, disks_of, makespan, piped
from tomodask.hardware import Hardware
from tomodask.recipe import Recipe

GB = 10**9


def foreseen(**changed) -> Forecast:
    stage = Stage("reconstruct", 4, 8 * GB, 4 * GB, GB, 2 * GB, 0, 60.0)
    values = {
        "stages": (stage,), "disks": (Disk("/scratch", {"volume": 4 * GB}, 0, 5 * GB),),
        "workers": Workers(2, 1, 4 * GB), "gpus": 0, **changed,
    }  # fmt: skip
    return Forecast(**values)


def test_a_block_takes_as_long_as_its_slowest_thread_and_the_ends_of_the_pipe():
    assert piped([(1.0, 5.0, 2.0)]) == 8.0
    assert piped([(1.0, 5.0, 2.0)] * 3) == 1 + 3 * 5 + 2
    assert piped([(5.0, 1.0, 2.0)] * 3) == 3 * 5 + 1 + 2


def test_tasks_are_shared_by_the_workers():
    assert makespan([3.0] * 4, 2) == 6.0
    assert makespan([3.0] * 5, 2) == 9.0
    assert makespan([], 2) == 0.0


def test_hours_of_gpus_count_whether_they_are_busy_or_not():
    one = foreseen(gpus=8, start_seconds=30.0)
    assert one.seconds == 90.0
    assert one.gpu_hours == pytest.approx(8 * 90 / 3600)
    assert foreseen().gpu_hours == 0


def test_a_time_that_is_not_known_is_none_and_not_nought():
    stage = Stage("reconstruct", 1, 1, 1, 1, 1)
    assert foreseen(stages=(stage,)).seconds is None
    assert foreseen(stages=(stage,)).as_dict()["stages"][0]["gpu_hours"] is None


def test_a_disk_that_is_too_small_is_refused_with_what_is_missing():
    small = Disk("/scratch", {"scan store": 3 * GB, "volume": 4 * GB}, 0, 5 * GB)
    with pytest.raises(PlanError, match=r"/scratch has 5 GB free and 7 GB.*make 2 GB free"):
        check_fits(foreseen(disks=(small,)), Hardware(), Recipe())
    begun = Disk("/scratch", {"volume": 7 * GB}, 3 * GB, 5 * GB)
    check_fits(foreseen(disks=(begun,)), Hardware(memory=4 * GB), Recipe())


def test_workers_that_do_not_fit_together_are_refused_with_how_many_would(monkeypatch):
    monkeypatch.setattr(forecast, "available_memory", lambda: 3 * GB)
    with pytest.raises(PlanError, match=r"2 workers may take 1\.86 GiB.*--workers 1") as refused:
        check_fits(foreseen(), Hardware(), Recipe())
    assert refused.value.exit_code == 4
    check_fits(foreseen(workers=Workers(1, 1, 4 * GB)), Hardware(), Recipe())
    check_fits(foreseen(), Hardware(memory=4 * GB), Recipe())  # of another machine


def test_a_gpu_that_is_too_small_is_refused_by_name():
    stage = Stage("iterate", 1, 1, 1, 1, 1, gpu_memory=90 * GB)
    with pytest.raises(PlanError, match=r"iterate takes 83\.82 GiB.* has 74\.51 GiB.*--memory"):
        check_fits(foreseen(stages=(stage,)), Hardware(memory=1, gpu_memory=80 * GB), Recipe())


def test_a_refusal_says_how_much_memory_would_do():
    def plan(workers: Workers) -> str:
        if workers.memory < 3 * 2**30:
            raise MemoryBudgetError("the smallest block does not fit.")
        return "planned"

    assert forecast.refused_by_name(plan, Workers(1, 1, 2**32)) == "planned"
    with pytest.raises(
        MemoryBudgetError, match=r"does not fit.*cluster.memory=(\d+)MiB"
    ) as refused:
        forecast.refused_by_name(plan, Workers(1, 1, 2**30))
    told = int(str(refused.value).partition("cluster.memory=")[2].partition("MiB")[0])
    assert 3072 <= told <= 3072 * 1.05
    assert refused.value.exit_code == 4


def test_needs_of_one_file_system_are_added_up_and_what_is_there_is_taken_off(
    tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 90, 10))
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "shard").write_bytes(b"12345")
    needs = [(tmp_path / "scan", "scan store", 7), (tmp_path / "no" / "volume", "volume", 4)]
    (disk,) = disks_of(needs)
    assert (disk.needs, disk.there, disk.need) == ({"scan store": 7, "volume": 4}, 5, 6)
    assert disk.free == 10
    assert disks_of(needs, 10**6)[0].free == 10**6
