"""The run folder: small files, whole or not there, read from anywhere."""

import json

import pytest

from tomodask.errors import FormatError
from tomodask.runfolder import RunFolder, Status


@pytest.fixture
def folder(tmp_path):
    return RunFolder.of(tmp_path / "volume.zarr")


def test_it_lies_beside_the_output_and_names_it(folder, tmp_path):
    assert folder.path == tmp_path / "volume.zarr.run"
    assert folder.output == tmp_path / "volume.zarr"
    assert not folder.path.exists()


def test_every_writer_has_a_status_of_its_own(folder):
    assert folder.statuses() == []
    folder.write_status(Status(blocks=4, blocks_done=1))
    folder.write_status(Status(writer="shard-0002-of-0003", running=[{"block": "z0"}]))
    folder.write_status(Status(blocks=4, blocks_done=2))
    driver, element = folder.statuses()
    assert (driver.writer, driver.blocks_done) == ("driver", 2)
    assert element.running == [{"block": "z0"}]
    assert not list(folder.path.rglob("*.partial"))


def test_fields_of_a_later_version_are_passed_over(folder):
    folder.write_status(Status())
    path = folder.path / "status" / "driver.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mood": "good"}))
    assert folder.statuses()[0].state == "running"


def test_a_request_to_cancel_stands_until_it_is_cleared(folder):
    assert folder.cancel_requested() is None
    folder.request_cancel("somebody")
    assert folder.cancel_requested() == "somebody"
    folder.clear_cancel()
    folder.clear_cancel()
    assert folder.cancel_requested() is None


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"format_version": 99}'])
def test_a_damaged_or_newer_file_is_refused_by_name(folder, content):
    folder.make()
    (folder.path / "plan.json").write_text(content)
    with pytest.raises(FormatError, match=r"plan\.json"):
        folder.read_json("plan.json")
