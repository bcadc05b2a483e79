"""A block that the ledger lists stays listed, whatever happens to the processes around it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tomodask.errors import FormatError
from tomodask.ledger import Ledger, ledgers_of, remove_ledgers
from tomodask.ledgerlines import Entry
from tomodask.shards import ShardEntry, checksum

SHARDS = (ShardEntry("0/c/0/0/0/0/0", 10, 123), ShardEntry("1/c/0/0/0/0/0", 4, 2**32 - 1))


@pytest.fixture
def ledger(tmp_path) -> Ledger:
    return Ledger.of(tmp_path / "volume.zarr", "0123abcd", "cafe")


def logs(ledger: Ledger) -> list[Path]:
    return list(ledger.path.glob("writer-*"))


def run_python(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])


def test_what_is_recorded_is_found(ledger):
    ledger.record("z0-32", SHARDS, {"seconds": np.float32(0.5), "rows": np.int64(32)})
    entry = ledger.done()["z0-32"]
    assert entry.shards == SHARDS
    assert entry.report == {"seconds": 0.5, "rows": 32}


def test_nothing_is_done_before_the_first_record(ledger):
    assert ledger.done() == {}
    ledger.compact()
    assert ledger.done() == {}


def test_ledgers_of_another_store_or_recipe_are_apart(ledger, tmp_path):
    ledger.record("z0-32", SHARDS)
    assert Ledger.of(tmp_path / "volume.zarr", "0123abcd", "beef").done() == {}
    assert Ledger.of(tmp_path / "volume.zarr", "4567", "cafe").done() == {}
    assert Ledger.of(tmp_path / "other.zarr", "0123abcd", "cafe").done() == {}


def test_a_name_that_leaves_the_folder_is_refused(tmp_path):
    with pytest.raises(FormatError, match="neither a store's uuid nor a hash"):
        Ledger.of(tmp_path / "volume.zarr", "../elsewhere", "cafe")


def test_hundreds_of_blocks_are_a_few_files(ledger):
    for number in range(300):
        ledger.record(f"block-{number}", SHARDS[:1])
    assert len(ledger.done()) == 300
    assert len(list(ledger.path.iterdir())) == 1
    ledger.compact()
    assert len(ledger.done()) == 300
    assert {file.name for file in ledger.path.iterdir()} == {"done.json", "compact.lock"}


def test_a_block_recorded_twice_counts_once(ledger):
    ledger.record("z0-32", SHARDS, {"try": 1})
    ledger.compact()
    ledger.record("z0-32", SHARDS, {"try": 2})
    assert ledger.done()["z0-32"].report == {"try": 2}


@pytest.mark.parametrize("cut", [1, 7, -2])
def test_a_line_cut_by_a_crash_loses_its_block_alone(ledger, cut):
    ledger.record("first", SHARDS)
    (log,) = logs(ledger)
    whole = log.read_bytes()
    ledger.record("second", SHARDS)
    torn = log.read_bytes()[len(whole) :][:cut]
    log.write_bytes(whole + torn)
    assert set(ledger.done()) == {"first"}


@pytest.mark.parametrize(
    "damage",
    [
        b"\0" * 50,
        b'{"block": "x"}',
        b"[]",
        b'"torn',
        b'{"block": "x", "shards": [], "time": 1}\t{"torn": 1',
        b'{"block": "x", "shards": [["key", 1]], "time": 1}\t{}',
        b'{"block": "x", "shards": [], "time": 1}\t{\0\0}',
    ],
)
def test_a_damaged_line_is_skipped_with_a_warning(ledger, damage, caplog):
    ledger.record("first", SHARDS)
    (log,) = logs(ledger)
    with log.open("ab") as file:
        file.write(damage + b"\n")
    ledger.record("second", SHARDS)
    assert set(ledger.done()) == {"first", "second"}
    assert "damaged line" in caplog.text


def test_a_log_cut_within_its_header_is_empty(ledger):
    ledger.path.mkdir(parents=True)
    (ledger.path / "writer-a-1-0.jsonl").write_bytes(b'{"format_ver')
    (ledger.path / "writer-a-2-0.jsonl").write_bytes(b"")
    assert ledger.done() == {}


def test_after_a_failed_append_the_next_line_is_whole(ledger, monkeypatch):
    ledger.record("first", SHARDS)
    write = os.write

    def disk_full_halfway(descriptor: int, content: memoryview) -> int:
        write(descriptor, content[:9])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", disk_full_halfway)
        with pytest.raises(OSError, match="No space left"):
            ledger.record("second", SHARDS)
    ledger.record("third", SHARDS)
    assert set(ledger.done()) == {"first", "third"}


@pytest.mark.parametrize("name", ["done.json", "writer-a-1-0.jsonl"])
def test_a_newer_format_is_refused(ledger, name):
    ledger.path.mkdir(parents=True)
    content = json.dumps({"format_version": 3, "blocks": {}})
    (ledger.path / name).write_text(content + "\n{}\n" * name.startswith("writer"))
    with pytest.raises(FormatError, match="format version 3"):
        ledger.done()


LOG_OF_VERSION_1 = b"""{"format_version": 1}
{"block": "z0-4", "shards": [["0/c/0", 10, 123]], "report": {"rows": 4}, "time": 1.5}
"""
MERGED_OF_VERSION_1 = (
    b'{"format_version": 1, "blocks": {'
    b'"z4-8": {"shards": [["0/c/1", 9, 7], ["1/c/1", 3, 8]], "report": {"rows": 3}, "time": 2.5}, '
    b'"z8-9": {"shards": [], "report": {}, "time": 3.5}}}'
)


def test_a_ledger_of_version_1_is_read_gone_on_with_and_merged(ledger):
    ledger.path.mkdir(parents=True)
    (ledger.path / "writer-a-1-0.jsonl").write_bytes(LOG_OF_VERSION_1)
    (ledger.path / "done.json").write_bytes(MERGED_OF_VERSION_1)
    expected = {
        "z0-4": Entry("z0-4", (ShardEntry("0/c/0", 10, 123),), {"rows": 4}, 1.5),
        "z4-8": Entry(
            "z4-8", (ShardEntry("0/c/1", 9, 7), ShardEntry("1/c/1", 3, 8)), {"rows": 3}, 2.5
        ),
        "z8-9": Entry("z8-9", (), {}, 3.5),
    }
    assert ledger.done() == expected
    ledger.record("z9-10", SHARDS, {"rows": 1})
    ledger.compact()
    found = ledger.done()
    assert found.pop("z9-10").report == {"rows": 1}
    assert found == expected
    assert (ledger.path / "done.json").read_bytes().startswith(b'{"format_version": 2}\n')


def test_a_report_is_the_same_whatever_its_names_hold(ledger):
    report = {"a\ttab": "a\nline", "nested": {"\0": [1.5, None, True]}, "": "\u00e9\u2028"}
    ledger.record("first", SHARDS, report)
    assert ledger.done()["first"].report == report
    ledger.compact()
    assert dict(ledger.done()["first"].report) == report
    assert len(ledger.done()["first"].report) == 3


def test_a_report_that_a_disk_has_damaged_is_told_when_it_is_looked_at(ledger):
    ledger.record("first", SHARDS, {"rows": 4})
    (log,) = logs(ledger)
    log.write_bytes(log.read_bytes().replace(b'"rows": 4', b'"rows" 44'))
    with pytest.raises(FormatError, match="a report in the ledger is damaged"):
        ledger.done()["first"].report["rows"]


def test_a_damaged_map_is_named(ledger):
    ledger.path.mkdir(parents=True)
    (ledger.path / "done.json").write_text("{")
    with pytest.raises(FormatError, match=r"done\.json is damaged"):
        ledger.done()


def test_each_record_is_synced_before_it_returns(ledger, monkeypatch):
    synced = []
    sync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    ledger.record("first", SHARDS)
    (log,) = logs(ledger)
    assert {log, ledger.path, *ledger.path.parents[:3]} == set(synced)
    synced.clear()
    ledger.record("second", SHARDS)
    assert synced == [log]


RECORD_MANY = """
import sys
from pathlib import Path
from tomodask.ledger import Ledger
from tomodask.shards import ShardEntry
for number in range(60):
    Ledger(Path(sys.argv[1])).record(f"{sys.argv[2]}-{number}", [ShardEntry("k", 1, 2)])
"""


def test_processes_that_record_while_another_compacts_lose_nothing(ledger):
    writers = [run_python(RECORD_MANY, ledger.path, name) for name in "ab"]
    seen: set[str] = set()
    while any(writer.poll() is None for writer in writers):
        ledger.compact()
        found = set(ledger.done())
        assert seen <= found
        seen = found
    assert [writer.returncode for writer in writers] == [0, 0]
    assert set(ledger.done()) == {f"{name}-{number}" for name in "ab" for number in range(60)}
    ledger.compact()
    assert len(ledger.done()) == 120
    assert not logs(ledger)


def test_a_record_goes_to_a_new_log_when_its_own_was_merged_by_another_process(ledger):
    ledger.record("first", SHARDS)
    script = "import sys; from pathlib import Path; from tomodask.ledger import Ledger\n"
    assert run_python(script + "Ledger(Path(sys.argv[1])).compact()", ledger.path).wait() == 0
    assert not logs(ledger)
    ledger.record("second", SHARDS)
    assert set(ledger.done()) == {"first", "second"}


def test_threads_of_one_process_share_one_log(ledger):
    threads = [
        threading.Thread(target=lambda n=n: [ledger.record(f"{n}-{i}", SHARDS) for i in range(20)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ledger.done()) == 80
    assert len(logs(ledger)) == 1


RECORD_IN_FORK = """
import os, sys
from pathlib import Path
from tomodask import ledger
book = ledger.Ledger(Path(sys.argv[1]))
book.record("parent", [])
ledger._LOGS.lock.acquire()  # as if another thread were recording at this moment
child = os.fork()
if child == 0:
    book.record("child", [])
    os._exit(0)
sys.exit(os.waitpid(child, 0)[1])
"""


def test_a_forked_child_has_a_log_of_its_own(ledger):
    assert run_python(RECORD_IN_FORK, ledger.path).wait(timeout=30) == 0
    assert set(ledger.done()) == {"parent", "child"}
    assert len(logs(ledger)) == 2


def test_a_compaction_killed_halfway_loses_nothing(ledger, monkeypatch):
    ledger.record("first", SHARDS)

    def die(*_: object) -> bytes:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # the logs are taken from their writers, none is merged
        patch.setattr("tomodask.ledger.encode_merged", die)
        with pytest.raises(KeyboardInterrupt):
            ledger.compact()
    ledger.record("second", SHARDS)
    assert set(ledger.done()) == {"first", "second"}
    ledger.compact()
    assert set(ledger.done()) == {"first", "second"}
    assert not logs(ledger)


def test_a_log_that_is_renamed_between_listing_and_reading_is_read(ledger, monkeypatch):
    ledger.record("first", SHARDS)
    stale = logs(ledger)
    for log in stale:  # what compact() does before it has written the map
        log.rename(f"{log}.closed")
    monkeypatch.setattr(Ledger, "_logs", lambda _: stale)
    assert set(ledger.done()) == {"first"}


def test_verify_names_the_shards_that_are_missing_or_changed(ledger, tmp_path):
    store = tmp_path / "volume.zarr"
    entries = []
    for name in ("good", "flipped", "cut", "missing"):
        file = store / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"0123456789")
        entries.append(ShardEntry(name, 10, checksum(file)))
    ledger.record("z0-32", entries)
    (store / "flipped").write_bytes(b"0123456798")
    (store / "cut").write_bytes(b"012345678")
    (store / "missing").unlink()
    entry = ledger.done()["z0-32"]
    assert ledger.verify(entry, store) == entries[1:]
    assert ledger.verify(entry, store, checksums=False) == entries[2:]


def store_of(ledger: Ledger, folder: Path, blocks: int) -> Path:
    """A store with a shard of ten bytes for each block, all of them recorded."""
    (folder / "0").mkdir(parents=True)
    for number in range(blocks):
        (folder / f"0/{number}").write_bytes(b"0123456789")
        ledger.record(f"block-{number}", [ShardEntry(f"0/{number}", 10, 1)])
    return folder


@pytest.mark.parametrize("slow_seconds", [0, 60])  # a file server's, a disk's
def test_blocks_whose_shards_are_gone_or_cut_are_not_intact(
    ledger, tmp_path, monkeypatch, slow_seconds
):
    monkeypatch.setattr("tomodask.ledger.SLOW_SECONDS", slow_seconds)
    monkeypatch.setattr("tomodask.ledger.PROBED_FILES", 3)
    store = store_of(ledger, tmp_path / "volume.zarr", 20)
    (store / "0/4").write_bytes(b"012345678")
    (store / "0/17").unlink()
    (store / "0/18").unlink()
    (store / "0/18").mkdir()
    expected = {f"block-{number}" for number in range(20)} - {"block-4", "block-17", "block-18"}
    assert set(ledger.intact(store)) == expected


def test_many_blocks_that_are_gone_are_told_in_few_lines(ledger, tmp_path, caplog):
    store = store_of(ledger, tmp_path / "volume.zarr", 20)
    shutil.rmtree(store / "0")
    assert ledger.intact(store) == {}
    assert len(caplog.records) == 6
    assert "0/0 is missing or torn, block-0 is made again" in caplog.text
    assert "15 more blocks" in caplog.text


def test_sizes_are_asked_for_side_by_side_where_a_file_server_is_slow(
    ledger, tmp_path, monkeypatch
):
    store = store_of(ledger, tmp_path / "volume.zarr", 20)
    monkeypatch.setattr("tomodask.ledger.PROBED_FILES", 2)
    meeting = threading.Barrier(3)  # none of three goes on before all of them ask
    asked = iter(range(20))

    def slow(path: str) -> int:
        number = next(asked)
        if number < 2:
            time.sleep(0.01)
        elif number < 5:
            meeting.wait(10)
        return 10

    monkeypatch.setattr("tomodask.ledger._size", slow)
    assert len(ledger.intact(store)) == 20


def test_removing_ledgers_leaves_foreign_files(ledger, tmp_path):
    ledger.record("first", SHARDS)
    ledger.compact()
    ledger.record("second", SHARDS)
    other = Ledger.of(tmp_path / "volume.zarr", "4567", "cafe")
    other.record("first", SHARDS)
    notes = ledger.path / "notes.txt"
    notes.write_text("mine")
    assert remove_ledgers(tmp_path / "volume.zarr") == [notes]
    assert not other.path.parent.exists()
    notes.unlink()
    assert remove_ledgers(tmp_path / "volume.zarr") == []
    assert not ledgers_of(tmp_path / "volume.zarr").exists()
