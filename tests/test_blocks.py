"""Blocks cover a volume, each chunk row once, whatever the budget."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.blocks import (
    SUB_BYTES,
    TARGET_BYTES,
    chunk_rows_done,
    plan_blocks,
    rows_per_block,
    rows_per_sub_block,
    sub_blocks,
)
from tomodask.errors import MemoryBudgetError
from tomodask.geometry import ParallelBeam


def detector(rows: int) -> ParallelBeam:
    return ParallelBeam(np.linspace(0, 1, 3), rows, 8, center_of_rotation=3.5)


@given(
    nz=st.integers(1, 300),
    chunk_rows=st.sampled_from([1, 4, 32]),
    chunks=st.integers(1, 5),
    halo=st.integers(0, 40),
    first_row=st.integers(0, 20),
    data=st.data(),
)
def test_blocks_write_every_row_that_is_not_done_once(
    nz, chunk_rows, chunks, halo, first_row, data
):
    num_chunks = math.ceil(nz / chunk_rows)
    done = data.draw(st.sets(st.integers(0, num_chunks - 1)))
    beam = detector(nz + first_row + 3)
    blocks = plan_blocks(
        (nz, 8, 8),
        beam,
        first_row=first_row,
        halo=halo,
        chunk_rows=chunk_rows,
        block_rows=chunks * chunk_rows,
        done=done,
    )
    written = np.zeros(nz, int)
    for block in blocks:
        start, stop = block.write.rows
        written[start:stop] += 1
        assert start % chunk_rows == 0
        assert stop % chunk_rows == 0 or stop == nz
        assert stop - start <= chunks * chunk_rows
        assert (block.needed.start, block.needed.stop) == (first_row + start, first_row + stop)
        assert block.read.start == max(0, block.needed.start - halo)
        assert block.read.stop == min(beam.det_rows, block.needed.stop + halo)
    expected = np.array([row // chunk_rows not in done for row in range(nz)], int)
    np.testing.assert_array_equal(written, expected)


@given(nz=st.integers(1, 200), before=st.integers(1, 6), after=st.integers(1, 6), keep=st.data())
def test_a_run_goes_on_under_another_budget(nz, before, after, keep):
    """Whatever blocks were finished under one block size, another size writes just the rest."""
    first = plan_blocks((nz, 8, 8), detector(nz), chunk_rows=4, block_rows=4 * before)
    finished = keep.draw(st.lists(st.sampled_from(first), unique=True))
    done = chunk_rows_done([block.id for block in finished], 4, nz)
    second = plan_blocks((nz, 8, 8), detector(nz), chunk_rows=4, block_rows=4 * after, done=done)
    written = np.zeros(nz, int)
    for block in [*finished, *second]:
        written[slice(*block.write.rows)] += 1
    np.testing.assert_array_equal(written, 1)


@given(
    fixed=st.integers(0, 10**6),
    per_row=st.integers(1, 10**5),
    budget=st.integers(1, 10**8),
    halo=st.integers(0, 50),
    grain=st.sampled_from([1, 8, 32, 48]),
)
def test_a_planned_sub_block_fits_into_its_budget_or_is_refused(
    fixed, per_row, budget, halo, grain
):
    def need(rows: int) -> int:
        return fixed + per_row * (rows + 2 * halo)

    try:
        rows = rows_per_sub_block(need, budget, 32, halo, bytes_per_row=4096, grain=grain)
    except MemoryBudgetError:
        assert need(32) > budget
    else:
        assert rows % 32 == 0
        assert need(rows) <= budget


def test_a_sub_block_is_worth_its_halo_and_its_files_and_decodes_no_chunk_twice():
    def rows(bytes_per_row: int, halo: int = 0, grain: int = 1) -> int:
        return rows_per_sub_block(lambda _: 0, 1, 8, halo, bytes_per_row, grain)

    assert rows(SUB_BYTES) == 8
    assert rows(SUB_BYTES // 16) == 16
    assert rows(SUB_BYTES, halo=10) == 40
    assert rows(SUB_BYTES, grain=32) == 32
    assert rows(SUB_BYTES, grain=12) == 24
    assert rows(TARGET_BYTES, grain=32) == 8  # a foreign stack of huge chunks: not at any price


def test_a_refusal_names_the_memory_and_what_to_change():
    with pytest.raises(MemoryBudgetError, match=r"0\.31 GiB .* has 0\.10 GiB.*chunk_rows=8"):
        rows_per_sub_block(lambda rows: rows * 10 * 2**20, int(0.1 * 2**30), 32, 0, 2**20)


@given(
    sub_rows=st.sampled_from([4, 32, 160]),
    num_rows=st.integers(1, 5000),
    workers=st.integers(0, 1000),
    bytes_per_row=st.integers(1, 2**30),
)
def test_blocks_are_whole_sub_blocks_and_leave_work_for_every_worker(
    sub_rows, num_rows, workers, bytes_per_row
):
    rows = rows_per_block(sub_rows, num_rows, workers, bytes_per_row)
    assert rows % sub_rows == 0
    assert rows == sub_rows or rows * bytes_per_row <= TARGET_BYTES
    parts = math.ceil(num_rows / sub_rows)
    assert math.ceil(num_rows / rows) >= min(workers, parts)


def test_a_block_holds_several_sub_blocks_where_there_are_rows_enough():
    assert rows_per_block(32, 128, workers=1, bytes_per_row=2**22) == 128
    assert rows_per_block(32, 1024, workers=1, bytes_per_row=2**22) == 256
    assert rows_per_block(32, 2048, workers=2, bytes_per_row=2**18) == 256
    assert rows_per_block(32, 2048, workers=1000, bytes_per_row=2**24) == 32


@given(
    nz=st.integers(1, 200),
    sub_rows=st.integers(1, 40),
    halo=st.integers(0, 30),
    first_row=st.integers(0, 20),
)
def test_sub_blocks_write_and_need_what_their_block_does(nz, sub_rows, halo, first_row):
    beam = detector(nz + first_row + 3)
    (block,) = plan_blocks(
        (nz, 8, 8), beam, first_row=first_row, halo=halo, chunk_rows=nz, block_rows=nz
    )
    parts = sub_blocks(block, sub_rows, halo, beam.det_rows)
    assert [row for part in parts for row in range(*part.write.rows)] == list(range(nz))
    assert max(part.write.shape[0] for part in parts) <= sub_rows
    assert (parts[0].read.start, parts[-1].read.stop) == (block.read.start, block.read.stop)
    for part in parts:
        assert part.needed.start == first_row + part.write.start[0]
        assert part.read == part.needed.grow(halo, beam.det_rows)
        assert part.write.shape[1:] == (8, 8)
