"""The lines of a ledger: what a finished block left behind, as bytes.

A line is two JSON objects with a tab between them: the block with its shards and the time, and what
it reported, which most readers pass over. Format version 1 had all in one object, and in the merged
file one object of all lines.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tomodask.errors import FormatError
from tomodask.shards import ShardEntry

FORMAT_VERSION = 2
HEADER = json.dumps({"format_version": FORMAT_VERSION}).encode() + b"\n"

_logger = logging.getLogger(__name__)


class StoredReport(Mapping[str, Any]):
    """A report as it stands in the ledger, parsed when it is looked at: of many, few are."""

    __slots__ = ("_parsed", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self._parsed: dict[str, Any] | None = None

    def parse(self) -> dict[str, Any]:
        """The report; FormatError where a disk has damaged it."""
        if self._parsed is None:
            try:
                self._parsed = dict(json.loads(self.text))
            except (ValueError, TypeError) as error:
                raise FormatError(
                    f"a report in the ledger is damaged ({error}): {self.text!r:.200}; remove its "
                    "line, and its block is done again"
                ) from None
        return self._parsed

    def __getitem__(self, name: str) -> Any:
        return self.parse()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.parse())

    def __len__(self) -> int:
        return len(self.parse())

    def __repr__(self) -> str:
        return f"StoredReport({self.text!r})"


@dataclass(frozen=True, slots=True)
class Entry:
    """A finished block: its shards, what it reported, and when (seconds since 1970)."""

    block_id: str
    shards: tuple[ShardEntry, ...]
    report: Mapping[str, Any] = field(default_factory=dict)
    time: float = 0.0


def encode(entry: Entry) -> bytes:
    shards = [[shard.key, shard.size, shard.crc32c] for shard in entry.shards]
    head = {"block": entry.block_id, "shards": shards, "time": entry.time}
    report = entry.report
    if isinstance(report, StoredReport):
        text = report.text
    else:
        text = json.dumps(dict(report), default=_plain).encode()
    return json.dumps(head).encode() + b"\t" + text + b"\n"


def encode_merged(entries: Mapping[str, Entry]) -> bytes:
    return HEADER + b"".join(encode(entries[block_id]) for block_id in sorted(entries))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"a report holds {value!r}, which is not JSON: give numbers and strings")


def _entries(lines: Sequence[bytes]) -> list[Entry]:
    """All lines parsed by one call, in half of the time; ValueError if any can't be."""
    parts = [line.partition(b"\t") for line in lines]
    contents = json.loads(b"[" + b",".join([head for head, _, _ in parts]) + b"]")
    return [
        _entry_of_parts(content, tab, text)
        for content, (_, tab, text) in zip(contents, parts, strict=True)  # torn ones may join
    ]


def _entry(line: bytes) -> Entry:
    head, tab, text = line.partition(b"\t")
    return _entry_of_parts(json.loads(head), tab, text)


def _entry_of_parts(content: Mapping[str, Any], tab: bytes, text: bytes) -> Entry:
    if not tab:  # of format version 1
        return entry_of_version_1(content["block"], content)
    if not text.startswith(b"{") or not text.endswith(b"}") or b"\0" in text:
        raise ValueError("the report is torn")
    shards = tuple([ShardEntry(*shard) for shard in content["shards"]])
    return Entry(content["block"], shards, StoredReport(text), content["time"])


def entry_of_version_1(block_id: str, content: Mapping[str, Any]) -> Entry:
    """Of format version 1."""
    shards = tuple([ShardEntry(*shard) for shard in content["shards"]])
    return Entry(block_id, shards, dict(content["report"]), content["time"])


def read_lines(path: Path, content: bytes) -> dict[str, Entry]:
    # after the last line end there is nothing, or a line that a crash has cut
    header, *lines = content.split(b"\n")[:-1] or [b""]
    if lines:
        check_version(path, header)
    with suppress(ValueError, KeyError, TypeError):
        return {entry.block_id: entry for entry in _entries(lines)}
    entries: dict[str, Entry] = {}
    for line in lines:
        try:
            entry = _entry(line)
        except (ValueError, KeyError, TypeError):
            _logger.warning("%s: a damaged line is skipped, its block is done again", path)
        else:
            entries[entry.block_id] = entry
    return entries


def check_version(path: Path, content: bytes) -> Any:
    """The content of a JSON object that this version of tomodask can read."""
    try:
        parsed = json.loads(content)
        version = int(parsed["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"{path} is damaged ({error}): remove it, and its blocks are done again"
        ) from None
    if version > FORMAT_VERSION:
        raise FormatError(
            f"{path} is of format version {version}, this tomodask reads up to {FORMAT_VERSION}: "
            "go on with the version that started the run, or a newer one"
        )
    return parsed
