"""What is damaged is found and named, and the same command makes just that again."""

import json
import shutil
from pathlib import Path

import pytest

from tomodask import steps
from tomodask.cli import execute
from tomodask.cluster.local import Workers, local_cluster
from tomodask.doctor import DAMAGED, doctor
from tomodask.errors import FormatError, MissingInputError
from tomodask.inventory import take_inventory
from tomodask.lease import held
from tomodask.ledger import ledgers_of
from tomodask.volumestore import volume_metadata

SETTINGS = {"center": 23.0, "volume": {"chunk_rows": 4}}
PARTIAL = f".{'a' * 32}.partial"


@pytest.fixture(scope="module")
def client():
    with local_cluster(Workers(1, 1, 2**30)) as client:
        yield client


@pytest.fixture(scope="module")
def made(raw_file, client, tmp_path_factory) -> Path:
    """A folder with a scan store in four shards and a volume of ten blocks."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomodask.blocks.TARGET_BYTES", 1)
        patch.setattr("tomodask.ingest.layout.SHARD_FRAMES", 16)
        steps.ingest(raw_file.path, folder / "scan.zarr", client=client)
        steps.reconstruct(folder / "scan.zarr", folder / "volume.zarr", client=client, **SETTINGS)
    return folder


@pytest.fixture
def copy(made, tmp_path) -> Path:
    """A copy of that folder, to damage."""
    return Path(shutil.copytree(made, tmp_path / "made"))


@pytest.fixture
def again(raw_file, client, monkeypatch):
    """Run the command that made a store again; returns how many blocks it made."""
    monkeypatch.setattr("tomodask.blocks.TARGET_BYTES", 1)
    made = []

    def run(folder: Path, name: str) -> int:
        made.clear()

        def listen(progress) -> None:
            made[:] = [progress.blocks_done]

        if name == "scan.zarr":
            steps.ingest(raw_file.path, folder / name, client=client, listener=listen)
        else:
            scan = folder / "scan.zarr"
            steps.reconstruct(scan, folder / name, client=client, listener=listen, **SETTINGS)
        return made[0] if made else 0

    return run


def shard_of(store: Path, unit: int, last: bool = False) -> Path:
    shards = take_inventory(store).units[unit].shards
    return store / shards[-1 if last else 0].key


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-7])


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 3] ^= 4
    file.write_bytes(content)


DAMAGES = {"missing": Path.unlink, "torn": cut, "corrupt": flip_a_bit}


@pytest.mark.parametrize("name", ["volume.zarr", "scan.zarr"])
def test_a_sound_store_is_called_sound_and_left_as_it_is(made, name):
    before = {file: file.stat().st_mtime_ns for file in made.rglob("*")}
    found = doctor(made / name)
    assert found.is_sound
    assert found.findings == ()
    assert found.blocks == {"volume.zarr": 10, "scan.zarr": 4}[name]
    assert found.checked_by == "checksums"
    assert before == {file: file.stat().st_mtime_ns for file in made.rglob("*")}


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("name", ["volume.zarr", "scan.zarr"])
def test_damage_is_found_and_mended_by_the_same_command(made, copy, again, bytes_of, name, kind):
    store = copy / name
    bad = shard_of(store, 1), shard_of(store, -1)
    for file in bad:
        DAMAGES[kind](file)
    found = doctor(store)
    assert [finding.kind for finding in found.findings] == [kind, kind]
    for finding, file in zip(found.findings, bad, strict=True):
        assert str(file.relative_to(store)) in finding.what
        assert "same command" in finding.advice
    assert not found.is_sound
    assert not take_inventory(store).is_complete
    assert again(copy, name) == 2
    assert bytes_of(store) == bytes_of(made / name)
    assert take_inventory(store).is_complete
    assert doctor(store).is_sound


def test_a_damaged_store_is_not_sound_at_a_second_look(copy):
    flip_a_bit(shard_of(copy / "volume.zarr", 3))
    doctor(copy / "volume.zarr")
    found = doctor(copy / "volume.zarr")
    assert not found.is_sound
    (finding,) = found.findings
    assert finding.kind == "unfinished"
    assert "1 of 10 blocks" in finding.what


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_a_run_finds_torn_and_missing_shards_by_itself(made, copy, again, bytes_of, damage):
    damage(shard_of(copy / "volume.zarr", 2))
    assert again(copy, "volume.zarr") == 1
    assert bytes_of(copy / "volume.zarr") == bytes_of(made / "volume.zarr")


@pytest.mark.parametrize("kind", DAMAGES)
def test_without_its_ledger_a_complete_scan_is_decoded(made, copy, again, bytes_of, kind):
    store = copy / "scan.zarr"
    shutil.rmtree(ledgers_of(store))
    assert doctor(store).is_sound
    assert doctor(store).checked_by == "decoding"
    file = shard_of(store, 1)
    if kind == "corrupt":  # not each bit of a compressed chunk is missed: spoil its head
        file.write_bytes(bytes(16) + file.read_bytes()[16:])
    else:
        DAMAGES[kind](file)
    found = doctor(store)
    assert len(found.damaged) == 1
    assert again(copy, "scan.zarr") == 1
    assert bytes_of(store) == bytes_of(made / "scan.zarr")


@pytest.mark.parametrize("damage", [cut, Path.unlink])
def test_without_its_ledger_only_the_damaged_block_is_made_again(
    made, copy, again, bytes_of, damage
):
    store = copy / "volume.zarr"
    shutil.rmtree(ledgers_of(store))
    assert again(copy, "volume.zarr") == 0  # it may be deleted once a run is complete
    damage(shard_of(store, 5))
    assert len(doctor(store).damaged) == 1
    assert again(copy, "volume.zarr") == 1
    assert bytes_of(store) == bytes_of(made / "volume.zarr")


def test_damaged_flats_are_told_to_be_made_with_the_store(copy):
    cut(copy / "scan.zarr" / "flats" / "c" / "0" / "0" / "0")
    (finding,) = doctor(copy / "scan.zarr").findings
    assert finding.where == "flats and darks"
    assert "--overwrite" in finding.advice


def test_files_of_killed_writers_are_told_and_the_same_command_removes_them(copy, again):
    left = shard_of(copy / "volume.zarr", 0).with_name(f"0{PARTIAL}")
    left.write_bytes(b"half")
    found = doctor(copy / "volume.zarr")
    assert [finding.kind for finding in found.findings] == ["leftover"]
    assert found.is_sound
    again(copy, "volume.zarr")
    assert not left.exists()


def test_while_a_driver_writes_nothing_is_noted(copy):
    store = copy / "volume.zarr"
    flip_a_bit(shard_of(store, 0))
    with held(store):
        found = doctor(store)
    assert {finding.kind for finding in found.findings} == {"corrupt", "not noted"}
    assert volume_metadata(store)["complete"]
    assert found.damaged == ()
    assert len(doctor(store).damaged) == 1


def test_the_command_answers_in_words_in_json_and_by_its_exit_code(copy, capsys):
    store = copy / "volume.zarr"
    assert execute(["doctor", str(store)]) == 0
    assert "is sound: 10 blocks" in capsys.readouterr().out
    cut(shard_of(store, 4))
    assert execute(["doctor", str(store), "--json"]) == DAMAGED == 3
    told = json.loads(capsys.readouterr().out)
    assert not told["is_sound"]
    assert told["damaged"] == [told["findings"][0]["where"]]
    assert execute(["doctor", str(store)]) == DAMAGED
    assert "run the same command again" in capsys.readouterr().out


def test_what_is_no_store_is_refused(tmp_path):
    with pytest.raises(MissingInputError, match="does not exist"):
        doctor(tmp_path / "nothing.zarr")
    with pytest.raises(FormatError, match="no scan store or volume"):
        doctor(tmp_path)
