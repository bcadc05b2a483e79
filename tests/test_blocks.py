"""Blocks cover a volume, each chunk row once, whatever the budget."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomodask.blocks import MemoryNeed, chunk_rows_done, plan_blocks, rows_per_block
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
)
def test_a_planned_block_fits_into_its_budget_or_is_refused(fixed, per_row, budget, halo):
    need = MemoryNeed(fixed, per_row)
    try:
        rows = rows_per_block(need, budget, 32, halo, bytes_per_row=4096)
    except MemoryBudgetError:
        assert need.bytes(32 + 2 * halo) > budget
    else:
        assert rows % 32 == 0
        assert need.bytes(rows + 2 * halo) <= budget


def test_a_refusal_names_the_memory_and_what_to_change():
    with pytest.raises(MemoryBudgetError, match=r"0\.31 GiB .* has 0\.10 GiB.*chunk_rows=8"):
        rows_per_block(MemoryNeed(0, 10 * 2**20), int(0.1 * 2**30), 32, 0, 2**20)
