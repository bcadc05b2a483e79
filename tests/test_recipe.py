"""One validated model: unknown keys are named, later layers win, the hash knows what matters."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tomodask.cli.options import layer_of_flags
from tomodask.commented import write_commented
from tomodask.errors import MissingInputError, RecipeError
from tomodask.layers import Layer, assignments, environment_layer, recipe_file, resolve
from tomodask.preprocess import CORRECTIONS
from tomodask.recipe import Recipe, parse_range, run_hash


def recipe(*overrides: str, **settings) -> Recipe:
    return resolve([Layer("test", settings), assignments(overrides)])[0]


def names(recipe: Recipe) -> list[str]:
    return [next(iter(choice)) for choice in recipe.corrections]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cnter": 5}, r"no key 'cnter'.*did you mean 'center'"),
        ({"volume": {"chunk_row": 8}}, r"no key 'volume\.chunk_row'.*did you mean 'chunk_rows'"),
        ({"cluster": {"workres": 8}}, r"no key 'cluster\.workres'.*did you mean 'workers'"),
        ({"ingest": {"flat": "a"}}, r"ingest has no parameter 'flat'.*did you mean 'flats'"),
        ({"algorithm": "fpb"}, r"algorithm 'fpb' is unknown: did you mean 'fbp'"),
        ({"algorithm": {"fbp": {"fliter": "hann"}}}, r"algorithm\.fbp .*'fliter'.*'filter'"),
        ({"corrections": ["flatfeild"]}, r"'flatfeild' is unknown: did you mean 'flatfield'"),
        ({"backend": "furier"}, r"backend 'furier' is unknown: did you mean 'fourier'"),
        ({"rows": "9:3"}, r"range 9:3 holds nothing"),
        ({"rows": "all"}, r"START:STOP .* not 'all'"),
        ({"center": "middle"}, r"center 'middle'.*'auto'"),
        ({"cluster": {"memory": "lots"}}, r"memory 'lots'.*'8GB'"),
        ({"cluster": {"workers": 0}}, r"cluster\.workers = 0"),
        ({"volume": {"chunk_rows": 33}}, r"volume\.chunk_rows = 33"),
        ({"angle_sign": 2}, r"angle_sign = 2"),
    ],
)
def test_a_mistake_is_named_with_what_was_expected(settings, message):
    with pytest.raises(RecipeError, match=message):
        recipe(**settings)


def test_later_layers_win_and_origins_are_kept():
    resolved, origins = resolve(
        [
            Layer("file", {"center": 3, "volume": {"chunk_rows": 8, "compression": "lz4"}}),
            environment_layer({"TOMODASK_VOLUME__CHUNK_ROWS": "4", "TOMODASK_DATA": "/elsewhere"}),
            assignments(["center=5.5"]),
            Layer("flag", {"backend": "reference"}),
        ]
    )
    assert (resolved.center, resolved.backend) == (5.5, "reference")
    assert (resolved.volume.chunk_rows, resolved.volume.compression) == (4, "lz4")
    assert origins["center"] == "key=value"
    assert origins["volume.chunk_rows"] == "environment"
    assert origins["volume.compression"] == "file"
    assert origins["backend"] == "flag"


def test_a_correction_named_by_a_flag_takes_its_usual_place():
    assert names(recipe("corrections.stripes={}")) == ["flatfield", "minus_log", "stripes"]
    assert names(recipe("corrections.outliers={}")) == ["outliers", "flatfield", "minus_log"]
    both = recipe("corrections.stripes={}", "corrections.outliers={}")
    assert names(both) == ["outliers", "flatfield", "minus_log", "stripes"]
    assert names(recipe("corrections.minus_log=false")) == ["flatfield"]


def test_a_parameter_of_a_listed_correction_changes_in_place():
    listed = recipe(
        "corrections.flatfield.statistic=median", corrections=["flatfield", "minus_log"]
    )
    assert names(listed) == ["flatfield", "minus_log"]
    assert listed.corrections[0]["flatfield"]["statistic"] == "median"


def test_an_algorithm_keeps_what_was_set_before():
    chosen = recipe("algorithm.fbp.filter=hann", algorithm={"fbp": {"padding": 3.0}})
    assert chosen.algorithm["fbp"]["filter"] == "hann"
    assert chosen.algorithm["fbp"]["padding"] == 3.0


def test_a_flag_for_the_chosen_algorithm_reaches_whichever_was_chosen():
    hann = layer_of_flags({"filter": "hann"})
    assert resolve([hann])[0].algorithm["fbp"]["filter"] == "hann"
    padded = Layer("file", {"algorithm": {"fbp": {"padding": 3.0}}})
    assert resolve([padded, hann])[0].algorithm["fbp"]["padding"] == 3.0
    named = layer_of_flags({"algorithm": "fbp", "filter": "hann"})
    assert resolve([padded, named])[0].algorithm["fbp"]["filter"] == "hann"
    with pytest.raises(RecipeError, match=r"algorithm\.fbp has no parameter 'num_iterations'"):
        resolve([layer_of_flags({"algorithm": "fbp", "num_iterations": 5})])


def test_a_geometry_that_is_not_set_leaves_the_digest_alone():
    assert "geometry" not in Recipe().numerics()
    cone = recipe("geometry.source_distance_mm=50")
    assert run_hash(cone, center=1.0) != run_hash(Recipe(), center=1.0)
    assert cone.geometry.couples_rows
    assert not Recipe().geometry.couples_rows
    with pytest.raises(RecipeError, match="source_distance_mm"):
        recipe("geometry.source_distance_mm=0")


def test_corrections_follow_the_signal():
    assert [type(c).__name__ for c in Recipe().correction_list("transmission")] == [
        "Flatfield",
        "MinusLog",
    ]
    assert [type(c).__name__ for c in Recipe().correction_list("emission")] == ["Flatfield"]


def test_the_hash_knows_what_changes_bytes_and_nothing_else():
    same = [
        recipe(source="a", output="b"),
        recipe("cluster.workers=7", "cluster.memory=3GB", source="c", output="d"),
        recipe("overwrite=true"),
        recipe(algorithm={"fbp": {"filter": "ramp"}}),
        recipe(corrections=None),
    ]
    assert len({run_hash(r, center=1.0) for r in same}) == 1
    others = [
        recipe("rows=0:4"),
        recipe("backend=reference"),
        recipe("algorithm.fbp.filter=hann"),
        recipe("corrections.stripes={}"),
        recipe("volume.chunk_rows=16"),
        recipe("angle_sign=-1"),
    ]
    hashes = {run_hash(r, center=1.0) for r in [same[0], *others]}
    assert len(hashes) == 1 + len(others)
    assert run_hash(same[0], center=1.5) not in hashes


def test_what_is_stored_makes_the_same_recipe_again():
    first = recipe("rows=2:9", "corrections.stripes.size=31", "cluster.memory=2GB", source="s.h5")
    again = resolve([Layer("stored", yaml.safe_load(yaml.safe_dump(first.as_dict())))])[0]
    assert again == first


def test_a_commented_recipe_is_a_recipe(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    write_commented(path, source="tooth.h5", output="tooth.zarr")
    loaded, _ = resolve([recipe_file(path)])
    assert (loaded.source, loaded.output) == ("tooth.h5", "tooth.zarr")
    assert run_hash(loaded) == run_hash(Recipe())
    text = path.read_text()
    for name, field in Recipe.model_fields.items():
        assert f"# {field.description}" in text
        assert f"\n{name}:" in text
    with pytest.raises(RecipeError, match="never overwritten"):
        write_commented(path)


def test_a_recipe_that_is_not_one_is_refused(tmp_path: Path):
    with pytest.raises(MissingInputError, match="tomodask init"):
        recipe_file(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(RecipeError, match="key: value"):
        recipe_file(tmp_path / "list.yaml")
    (tmp_path / "broken.yaml").write_text("a: [1,\n")
    with pytest.raises(RecipeError, match="not YAML"):
        recipe_file(tmp_path / "broken.yaml")


def test_every_correction_survives_the_way_through_yaml():
    required = {"paganin": {"delta_beta": 100.0, "energy_kev": 20.0, "distance_mm": 50.0}}
    for name, cls in CORRECTIONS.items():
        made = recipe(corrections=[{name: required.get(name, {})}]).correction_list("emission")[0]
        assert type(made) is cls
        assert dataclasses.is_dataclass(made)


def test_yaml_leaves_ranges_and_small_numbers_as_they_are_written(tmp_path: Path):
    (tmp_path / "r.yaml").write_text("rows: 10:20\ncolumns: [3, 9]\ncenter: 1e2\n")
    loaded, _ = resolve([recipe_file(tmp_path / "r.yaml")])
    assert (loaded.rows, loaded.columns, loaded.center) == ((10, 20), (3, 9), 100.0)


@given(start=st.integers(0, 10**6), length=st.integers(1, 10**6))
def test_ranges_are_read_as_written(start, length):
    assert parse_range(f"{start}:{start + length}") == (start, start + length)
    assert parse_range([start, start + length]) == (start, start + length)
