"""What a run is given to work with: kept, read back, and refused where it can't be."""

import pytest

from tomodask.errors import MissingInputError, RecipeError
from tomodask.hardware import Hardware, Rates
from tomodask.recipe import ClusterOptions


def test_what_is_written_is_read_back(tmp_path):
    rates = Rates(work=1e9, work_unit="operations", corrections=("Flatfield",), share=0.8)
    known = Hardware(workers=2, threads=4, memory=2**33, measured=rates)
    assert Hardware.read(known.write(tmp_path / "hardware.yaml")) == known


def test_hardware_is_written_by_hand_too(tmp_path):
    path = tmp_path / "node.yaml"
    path.write_text("gpus: 8\ngpu_memory: 80GB\nmemory: 64GiB\nslices_s: 30\nread_gb_s: 2.5\n")
    known = Hardware.read(path)
    assert (known.gpus, known.gpu_memory, known.memory) == (8, 80 * 10**9, 64 * 2**30)
    assert known.is_known
    assert not Hardware(gpus=8).is_known


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: 8", "did you mean 'gpus'"),
        ("measured: {sahre: 1}", "did you mean 'share'"),
        ("memory: much", "'much': give bytes"),
        ("slices_s: fast", "slices_s"),
        ("slices_s: -3", "positive"),
        ("- 8", "key: value"),
    ],
)
def test_what_is_no_hardware_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / "hardware.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        Hardware.read(path)
    with pytest.raises(MissingInputError, match="--measure --keep"):
        Hardware.read(tmp_path / "none.yaml")


def test_what_is_stated_goes_before_what_was_measured():
    measured = Hardware(workers=2, memory=2**30, measured=Rates(work=1e9))
    both = Hardware(memory=2**33, gpus=4).over(measured)
    assert (both.workers, both.memory, both.gpus) == (2, 2**33, 4)
    assert both.measured.work == 1e9


def test_a_recipe_that_says_how_many_goes_before_hardware():
    known = Hardware(workers=8, threads=3, memory=2**33)
    assert known.size(ClusterOptions(workers=2)).count == 2
    size = known.size(ClusterOptions())
    assert (size.count, size.threads, size.memory) == (8, 3, 2**33)
    assert Hardware(gpus=4, threads=1, memory=2**33).size(ClusterOptions()).count == 4


def test_workers_of_a_batch_system_are_those_of_its_jobs():
    pytest.importorskip("dask_jobqueue")
    job = {"cores": 16, "memory": "64GiB"}
    options = ClusterOptions(kind="slurm", jobs=3, gpus_per_job=4, jobqueue=job)
    size = Hardware().size(options)
    assert (size.count, size.threads, size.memory) == (12, 4, 16 * 2**30)
