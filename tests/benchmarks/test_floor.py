"""Floors are counts: they must grow as the work does, and tell a stage's distance."""

import pytest


@pytest.fixture
def floor(load_benchmark):
    return load_benchmark("floor")


LIMITS = {"fma_gflop_s": 100.0, "triad_gb_s": 50.0}


def test_twice_the_slices_take_twice_as_long_in_every_stage(floor) -> None:
    one = floor.stage_floors(floor.GriddingSizes(16, 100, 64, 128, 96), LIMITS)
    two = floor.stage_floors(floor.GriddingSizes(32, 100, 64, 128, 96), LIMITS)
    for name, stage in one.items():
        for measure, value in stage.items():
            assert two[name][measure] == pytest.approx(2 * value)


def test_a_stage_can_be_faster_than_neither_arithmetic_nor_memory(floor) -> None:
    sizes = floor.GriddingSizes(16, 100, 64, 128, 96)
    for stage in floor.stage_floors(sizes, LIMITS).values():
        assert stage["floor_seconds"] >= stage["flop"] / 100e9
        assert stage["floor_seconds"] >= stage["bytes"] / 50e9


def test_a_stage_at_its_floor_is_once_its_floor(floor) -> None:
    floors = floor.stage_floors(floor.GriddingSizes(16, 100, 64, 128, 96), LIMITS)
    seconds = {name: stage["floor_seconds"] for name, stage in floors.items()}
    table = floor.beside_floors(seconds | {"something else": 1.0}, floors)
    assert [row.get("times_floor") for row in table] == [1, 1, 1, None]
