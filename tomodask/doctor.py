"""`tomodask doctor`: what is damaged in a store, and how the command that made it mends it.

What the ledger lists is compared with it: size and checksum of each shard. A complete store whose
ledger was deleted is decoded chunk by chunk instead; that finds torn shards and damaged compressed
chunks, but not numbers that changed in an uncompressed one.

Damaged blocks are taken out of the ledger and the store is marked as unfinished, so that the same
command makes just these again, with the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import zarr

from tomodask.cluster.run import Listener, Progress, silent
from tomodask.errors import InputError, OutputInUseError
from tomodask.inventory import Inventory, Shard, Unit, take_inventory
from tomodask.lease import held, owner_of
from tomodask.ledgerlines import Entry
from tomodask.shards import ShardEntry, checksum, partials_of, swap_in, sync_folder

DAMAGED = 3  # exit code of the command
THREADS = 4  # that read at once: a disk array answers several faster than one

Kind = Literal["missing", "torn", "corrupt", "unfinished", "leftover", "not noted"]
AGAIN = "run the same command again, it makes this block anew"
OVERWRITE = "make the store again: the same command with --overwrite"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: its kind, which block or file, and what to do."""

    kind: Kind
    where: str
    what: str
    advice: str


@dataclass(frozen=True)
class Examination:
    """What `doctor` found in a store.

    checked_by : "checksums" of the ledger, or "decoding" where it does not list all blocks.
    damaged : blocks that the same command will make again.
    """

    store: Path
    kind: str
    checked_by: Literal["checksums", "decoding"]
    blocks: int
    bytes_read: int
    is_complete: bool
    findings: tuple[Finding, ...]
    damaged: tuple[str, ...]

    @property
    def is_sound(self) -> bool:
        """All is there and as it was written; files that killed writers left do no harm."""
        return all(finding.kind == "leftover" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "store": str(self.store), "is_sound": self.is_sound}


def doctor(path: Path | str, listener: Listener = silent) -> Examination:
    """Read all of a scan store or volume; note damaged blocks, so that the next run mends them.

    A sound store is not written to.

    Raises
    ------
    MissingInputError, FormatError : there is no store of tomodask, or its metadata is damaged.
    """
    inventory = take_inventory(path)
    checks, missing = _checks_of(inventory)
    results = list(_run(checks, listener))
    findings = [finding for result in results for finding in result.findings]
    damaged: tuple[str, ...] = ()
    if any(result.is_damaged_block for result in results):
        try:
            damaged = _note(inventory, results)
        except (OutputInUseError, InputError) as error:
            why = f"the damage could not be noted for the next run: {error}"
            findings.append(Finding("not noted", str(path), why, "then run doctor again"))
    return Examination(
        store=inventory.path,
        kind=inventory.kind,
        checked_by="decoding" if inventory.is_complete and missing else "checksums",
        blocks=len(inventory.units),
        bytes_read=sum(result.bytes_read for result in results),
        is_complete=inventory.is_complete and not damaged,
        findings=(*findings, *_of_the_whole(inventory, missing)),
        damaged=damaged,
    )


def describe(examination: Examination) -> str:
    """The answer in words: one line a finding, the verdict last."""
    lines = [
        f"{finding.kind}: {finding.where}: {finding.what}; {finding.advice}"
        for finding in examination.findings
    ]
    number, size = examination.blocks, f"{examination.bytes_read / 1e9:.3g} GB read"
    if examination.is_sound:
        against = (
            "compared with its ledger"
            if examination.checked_by == "checksums"
            else "decoded, as no ledger lists their checksums"
        )
        verdict = f"sound: {number} blocks, {size} and {against}"
    elif examination.damaged:
        verdict = f"damaged: {len(examination.damaged)} of {number} blocks, {size}"
    else:
        verdict = f"not sound: {size}, see above"
    return "\n".join([*lines, f"{examination.store} is {verdict}"])


# ---- one block -------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Result:
    """What was found in a block; `shards` as they are, where they were decoded and are sound."""

    block_id: str
    check: Callable[[], _Result]
    findings: tuple[Finding, ...]
    bytes_read: int
    shards: tuple[ShardEntry, ...] = ()

    @property
    def is_damaged_block(self) -> bool:
        """Whether a block is damaged, that can be made again alone."""
        return any(finding.advice == AGAIN for finding in self.findings)


def _checks_of(inventory: Inventory) -> tuple[list[Callable[[], _Result]], list[Unit]]:
    """What to do for each block, and the blocks that the ledger does not list."""
    done = inventory.ledger.done()
    listed = {shard.key for entry in done.values() for shard in entry.shards}
    missing = [
        unit for unit in inventory.units if any(shard.key not in listed for shard in unit.shards)
    ]
    checks: list[Callable[[], _Result]] = []
    checks += [partial(_by_ledger, inventory, entry) for entry in done.values()]
    decode = missing if inventory.is_complete else []
    checks += [partial(_by_decoding, inventory.path, unit, AGAIN) for unit in decode]
    if inventory.others:
        images = Unit("flats and darks", inventory.others)
        checks.append(partial(_by_decoding, inventory.path, images, OVERWRITE))
    return checks, missing


def _by_ledger(inventory: Inventory, entry: Entry) -> _Result:
    store, findings = inventory.path, []
    for shard in inventory.ledger.verify(entry, store):
        file = store / shard.key
        kind: Kind
        if not file.is_file():
            kind, what = "missing", f"{shard.key} is not there"
        elif (size := file.stat().st_size) != shard.size:
            kind, what = "torn", f"{shard.key} has {size} bytes, {shard.size} were written"
        else:
            kind, what = "corrupt", f"{shard.key} is not what was written: its checksum differs"
        findings.append(Finding(kind, entry.block_id, what, AGAIN))
    check = partial(_by_ledger, inventory, entry)
    num_bytes = sum(shard.size for shard in entry.shards)
    return _Result(entry.block_id, check, tuple(findings), num_bytes)


def _by_decoding(store: Path, unit: Unit, advice: str) -> _Result:
    findings, shards = [], []
    for shard in unit.shards:
        file = store / shard.key
        if not file.is_file():
            what = f"{shard.key} is not there"
            findings.append(Finding("missing", unit.block_id, what, advice))
            continue
        error = _decoding_error(store, shard)
        if error is not None:
            what = f"{shard.key} can't be decoded: {error}"
            findings.append(Finding("corrupt", unit.block_id, what, advice))
        shards.append(ShardEntry(shard.key, file.stat().st_size, checksum(file)))
    check = partial(_by_decoding, store, unit, advice)
    num_bytes = sum(shard.size for shard in shards)
    return _Result(
        unit.block_id, check, tuple(findings), num_bytes, () if findings else tuple(shards)
    )


def _decoding_error(store: Path, shard: Shard) -> str | None:
    """Why a shard does not decode; a row of chunks at a time, to keep memory small."""
    array = zarr.open_array(store / shard.array, mode="r")
    step, rows = array.chunks[-2], shard.region[-2]
    for start in range(rows.start, rows.stop, step):
        part = slice(start, min(start + step, rows.stop))
        try:
            _ = array[(*shard.region[:-2], part, shard.region[-1])]
        except Exception as error:  # each codec has errors of its own
            return f"{type(error).__name__}: {error}"
    return None


def _run(checks: list[Callable[[], _Result]], listener: Listener) -> Iterator[_Result]:
    progress = Progress("doctor", len(checks), workers=THREADS)
    with ThreadPoolExecutor(THREADS) as pool:
        for result in pool.map(lambda check: check(), checks):
            progress.add({"bytes_read": result.bytes_read})
            listener(progress)
            yield result


# ---- the whole store -------------------------------------------------------------------------


def _of_the_whole(inventory: Inventory, missing: list[Unit]) -> Iterator[Finding]:
    """Not finished, or finished with files of killed writers beside it."""
    path, owner = inventory.path, owner_of(inventory.path)
    if not inventory.is_complete:
        number = f"{len(missing)} of {len(inventory.units)} blocks are still to be made"
        if owner is None:
            yield Finding("unfinished", str(path), number, "run the same command again: it goes on")
        else:
            yield Finding("unfinished", str(path), number, f"wait for {owner}, which is writing it")
    if owner is None:
        for file in partials_of(path):
            what = "left by a writer that was killed"
            yield Finding("leftover", str(file), what, "the same command, run again, removes it")


def _note(inventory: Inventory, results: Iterable[_Result]) -> tuple[str, ...]:
    """Take damaged blocks out of the ledger and mark the store as unfinished; returns their ids.

    Raises
    ------
    OutputInUseError : a driver is writing the store.
    """
    path, ledger = inventory.path, inventory.ledger
    with held(path):
        if take_inventory(path).metadata["uuid"] != inventory.metadata["uuid"]:
            raise OutputInUseError(f"{path} was made anew meanwhile")
        # looked at again, now that nobody writes
        damaged = [r.block_id for r in results if r.is_damaged_block and r.check().findings]
        for result in results:
            if result.shards and not result.findings:  # or they would be made again, too
                ledger.record(result.block_id, result.shards)
        ledger.revoke(damaged)
        _mark_unfinished(path)
    return tuple(damaged)


def _mark_unfinished(path: Path) -> None:
    document = path / "zarr.json"
    content = json.loads(document.read_bytes())
    content["attributes"]["tomodask"]["complete"] = False
    swap_in(document, json.dumps(content, indent=2).encode())
    sync_folder(path)
