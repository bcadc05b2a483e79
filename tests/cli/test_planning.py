"""`tomodask plan`: a table or JSON, and exit code 4 where something can't fit."""

import json

import pytest

from tomodask import steps
from tomodask.cli import execute
from tomodask.cli.planning import hours_text, size_text, time_text


@pytest.fixture
def recipe(raw_file, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(f"source: {raw_file.path}\noutput: {tmp_path / 'volume.zarr'}\n")
    return path


def test_the_plan_is_a_table_of_stages(recipe, capsys):
    assert execute(["plan", str(recipe), "volume.chunk_rows=4", "--workers", "2"]) == 0
    told = capsys.readouterr().out
    for word in ("ingest", "center", "reconstruct", "2 workers", "to be written", "no times"):
        assert word in told
    assert not list(recipe.parent.glob("volume*"))


def test_the_plan_answers_in_json_and_as_a_function(recipe, capsys):
    arguments = ["volume.chunk_rows=4", "cluster.workers=2", "cluster.memory=1GiB"]
    assert execute(["plan", str(recipe), *arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [stage["name"] for stage in told["stages"]] == ["ingest", "center", "reconstruct"]
    assert told["seconds"] is None
    same = steps.plan(recipe, *arguments)
    assert [stage["bytes_read"] for stage in told["stages"]] == [
        stage.bytes_read for stage in same.stages
    ]


def test_stated_hardware_gives_times_and_is_kept_for_another_plan(recipe, capsys, tmp_path):
    stated = ["--slices-s", "10", "--read-gb-s", "1", "--write-gb-s", "1", "--workers", "2"]
    kept = ["--keep", str(tmp_path / "node.yaml")]
    assert execute(["plan", str(recipe), *stated, *kept, "--json"]) == 0
    seconds = json.loads(capsys.readouterr().out)["seconds"]
    assert seconds > 2
    again = ["--hardware", str(tmp_path / "node.yaml"), "--workers", "2"]
    assert execute(["plan", str(recipe), *again, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["seconds"] == pytest.approx(seconds)
    assert steps.plan(recipe, hardware={"slices_s": 10, "read_gb_s": 1, "write_gb_s": 1}).seconds


def test_a_series_that_nobody_has_measured_yet_is_planned(recipe, capsys):
    node = "--gpus 8 --gpu-memory 80GB --memory 64GB --threads 8 --disk-free 20TB --slices-s 30"
    series = ["--scan", "100x2400x2048x2048", "--dtype", "uint16", *node.split()]
    assert execute(["plan", str(recipe), *series]) == 0
    told = capsys.readouterr().out
    assert "100 steps, 8 workers of 8 threads and 64 GB, 8 GPUs" in told
    assert "2.01 TB" in told


@pytest.mark.parametrize(
    ("extra", "code", "message"),
    [
        (("--disk-free", "1kB"), 4, "make"),
        (("--memory", "0.3GB"), 4, "--memory"),
        (("--workers", "1", "--memory", "401MiB"), 4, "cluster.memory="),
        (("--scan", "5x5"), 2, "STEPSxVIEWSxROWSxCOLUMNS"),
        (("--hardware", "none.yaml"), 2, "--measure --keep"),
        (("--gpu-memory", "much"), 2, "give bytes"),
        (("--slices-s", "-1"), 2, "positive"),
    ],
)
def test_what_can_not_be_is_refused_in_one_message(recipe, capsys, extra, code, message):
    assert execute(["plan", str(recipe), *extra]) == code
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith("tomodask:")]) == 1


def test_numbers_are_told_in_words():
    assert [size_text(size) for size in (0, 999, 1.5e9, 2e12)] == ["0 B", "999 B", "1.5 GB", "2 TB"]
    told = [time_text(seconds) for seconds in (None, 5, 65, 3700)]
    assert told == ["?", "5.0 s", "1 min 05 s", "1 h 01 min"]
    assert (hours_text(None), hours_text(12.34)) == ("?", "12.3")
