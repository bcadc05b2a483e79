"""From a scan to a denoised volume: one command, its stages found again, any workers, any kill."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tomodask import steps
from tomodask.cluster.local import Workers, local_cluster
from tomodask.errors import (
    DiskFullError,
    FormatError,
    InputError,
    MissingInputError,
    OutputExistsError,
    RecipeError,
)
from tomodask.layers import Layer, resolve
from tomodask.learn.apply import applied
from tomodask.learn.model import load_model
from tomodask.learn.noise2inverse import inputs_of, mean_of
from tomodask.runlog import with_whole_paths
from tomodask.splitstore import SplitStore
from tomodask.volumestore import Volume, volume_metadata

NETWORK = {"unet": {"features": 4, "depth": 1, "convs": 1}}
TRAINING = {
    "voxels": 20 * 4096, "batch_voxels": 4096, "patch": 32, "precision": "float32", "rows": 64,
}  # fmt: skip
DENOISE = {"network": NETWORK, "training": TRAINING}
SMALL = {"volume": {"chunk_rows": 8}, "center": 24.0}


@pytest.fixture(scope="module")
def client():
    with local_cluster(Workers(2, 1, 2**30)) as client:
        yield client


@pytest.fixture(scope="module")
def scan(raw_file, client, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.zarr"
    options = {"pixel_size_um": 2.0, "gain": 4.0}
    return steps.ingest(raw_file.path, path, client=client, ingest=options)


@pytest.fixture(scope="module")
def made(scan, client, tmp_path_factory) -> Path:
    """A denoised volume, its model and splits beside it."""
    output = tmp_path_factory.mktemp("made") / "volume.zarr"
    result = steps.denoise(scan, output, client=client, denoise=DENOISE, **SMALL)
    assert {"split", "train", "denoise"} == set(result.progress)
    return output


def test_the_volume_says_what_denoised_it(made, raw_file):
    metadata = volume_metadata(made)
    denoised = metadata["denoised"]
    assert metadata["complete"]
    assert denoised["kind"] == "noise2inverse"
    assert denoised["mode"] == "quality"
    assert denoised["training"]["voxels_seen"] == 20 * 4096
    assert len(denoised["weights"]) == 64
    assert Volume.open(made).read().shape == (40, 48, 48)


def test_it_is_the_mean_of_the_networks_outputs_over_the_splits(made, scan, client, tmp_path):
    """Whole slices from kept splits, against blocks that make their own."""
    store = SplitStore.open(made.with_name("volume.splits"))
    model = load_model(made.with_name("volume.model"))
    network = applied(model)
    splits = np.stack([store.split(k).read() for k in range(store.num_splits)])
    seen = inputs_of(store.num_splits, model.strategy)
    outputs = [network(mean_of(splits, which, store.weights)) for which in seen]
    expected = np.mean(outputs, axis=0)
    expected[store.full.read() == 0] = 0
    known = np.isfinite(expected)  # rows that were learnt from or held out
    assert known.all()
    found = Volume.open(made).read()
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_the_same_command_finds_all_done(made, scan, client):
    result = steps.denoise(scan, made, client=client, denoise=DENOISE, **SMALL)
    assert result.progress == {}


def test_one_worker_makes_the_same_bytes(made, scan, one_worker, tmp_path, bytes_of):
    """From the first split to the last voxel."""
    again = tmp_path / "volume.zarr"
    steps.denoise(scan, again, client=one_worker, denoise=DENOISE, **SMALL)
    assert bytes_of(again) == bytes_of(made)
    splits, expected = (path.with_name("volume.splits") for path in (again, made))
    for name in ("split0.zarr", "split1.zarr", "full.zarr"):
        assert bytes_of(splits / name) == bytes_of(expected / name)


def test_a_lost_block_is_made_again_and_nothing_else(made, scan, client, tmp_path, bytes_of):
    for path in made.parent.iterdir():
        copy = shutil.copytree if path.is_dir() else shutil.copy
        copy(path, tmp_path / path.name)
    output = tmp_path / made.name
    before = bytes_of(output)
    shard = next(file for file in sorted((output / "0" / "c").rglob("*")) if file.is_file())
    shard.unlink()
    result = steps.denoise(scan, output, client=client, denoise=DENOISE, **SMALL)
    assert set(result.progress) == {"denoise"}
    assert result.progress["denoise"].blocks_done == 1
    assert bytes_of(output) == before


def test_fast_mode_on_a_scan_is_fast_mode_on_its_reconstruction(made, scan, client, tmp_path):
    model = made.with_name("volume.model")
    plain = tmp_path / "fbp.zarr"
    steps.reconstruct(scan, plain, client=client, **SMALL)
    fast = {"mode": "fast"}
    steps.denoise(scan, tmp_path / "a.zarr", model, client=client, denoise=fast, **SMALL)
    volume = {"chunk_rows": 4}
    steps.denoise(plain, tmp_path / "b.zarr", model, client=client, denoise=fast, volume=volume)
    a, b = (Volume.open(tmp_path / name).read() for name in ("a.zarr", "b.zarr"))
    np.testing.assert_array_equal(a, b)
    quality = Volume.open(made).read()
    assert not np.array_equal(a, quality)


def test_neighbouring_slices_are_the_same_across_blocks(scan, client, tmp_path):
    """2.5D: a block of 8 rows sees the rows of the next one."""
    options = {**DENOISE, "slices": 3}
    output = tmp_path / "v.zarr"
    steps.denoise(scan, output, client=client, denoise=options, **SMALL)
    plain = tmp_path / "fbp.zarr"
    steps.reconstruct(scan, plain, client=client, **SMALL)
    model = tmp_path / "v.model"
    fast = tmp_path / "fast.zarr"
    steps.denoise(
        plain, fast, model, client=client, denoise={"mode": "fast"}, volume={"chunk_rows": 4}
    )
    whole = applied(load_model(model))(Volume.open(plain).read())
    whole[Volume.open(plain).read() == 0] = 0
    # oneDNN may add up otherwise for another number of slices at a time
    np.testing.assert_allclose(Volume.open(fast).read(), whole, atol=1e-6 * np.abs(whole).max())


def test_3d_networks_see_the_blocks_above_and_below(scan, client, tmp_path):
    network = {"nano": {"features": 4, "dims": 3}}
    output, plain = tmp_path / "v.zarr", tmp_path / "fbp.zarr"
    options = {"network": network, "training": {**TRAINING, "patch": 16}}
    steps.denoise(scan, output, client=client, denoise=options, **SMALL)
    steps.reconstruct(scan, plain, client=client, **SMALL)
    fast = tmp_path / "fast.zarr"
    steps.denoise(
        plain, fast, tmp_path / "v.model", client=client, denoise={"mode": "fast"},
        volume={"chunk_rows": 8},
    )  # fmt: skip
    whole = applied(load_model(tmp_path / "v.model"))(Volume.open(plain).read())
    whole[Volume.open(plain).read() == 0] = 0
    np.testing.assert_allclose(Volume.open(fast).read(), whole, atol=1e-5 * np.abs(whole).max())


def test_thinned_photons_are_learnt_from(scan, client, tmp_path):
    options = {**DENOISE, "splits": {"kind": "thinning", "num_splits": 2}}
    output = tmp_path / "v.zarr"
    steps.denoise(scan, output, client=client, denoise=options, **SMALL)
    store = SplitStore.open(tmp_path / "v.splits")
    first, second = (store.split(k).read() for k in range(2))
    full = store.full.read()
    noise = [split - full for split in (first, second)]
    inside = np.isfinite(full) & (full != 0)
    assert np.abs(np.mean((first - second)[inside])) < 0.02 * np.abs(full[inside]).mean()
    assert all(np.std(one[inside]) > 0 for one in noise)
    assert np.isfinite(Volume.open(output).read()).all()


def test_training_alone_makes_a_model_that_can_be_tuned(scan, client, tmp_path):
    first = steps.train(scan, tmp_path / "a.model", client=client, denoise=DENOISE, center=24.0)
    assert first.report["ended"] == "all voxels of the budget are seen"
    tuned = {**DENOISE, "start": str(tmp_path / "a.model")}
    second = steps.train(scan, tmp_path / "b.model", client=client, denoise=tuned, center=24.0)
    a, b = (load_model(tmp_path / name) for name in ("a.model", "b.model"))
    assert a.network == b.network
    assert any(not np.array_equal(a.weights[name], b.weights[name]) for name in a.weights)
    assert second.report["start"] == tuned["start"]


def test_a_recipe_with_denoise_runs_all_steps(scan, client, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    tree = {"source": str(scan), "output": str(tmp_path / "v.zarr"), "denoise": DENOISE, **SMALL}
    recipe.write_text(json.dumps(tree))
    result = steps.run(recipe, client=client)
    assert set(result.progress) == {"split", "train", "denoise"}
    assert volume_metadata(result.volume)["complete"]


# ---- bad input ---------------------------------------------------------------------------------


def test_more_splits_than_views_are_refused(scan, client, tmp_path):
    options = {**DENOISE, "splits": {"num_splits": 8}}
    with pytest.raises(InputError, match="60 views in 8 splits"):
        steps.denoise(scan, tmp_path / "v.zarr", client=client, denoise=options, **SMALL)


def test_a_model_of_other_values_is_refused(made, raw_file, client, tmp_path):
    plain = steps.ingest(raw_file.path, tmp_path / "s.zarr", client=client)
    with pytest.raises(InputError, match=r"trained on values in 1/mm.*has 1/pixel"):
        steps.denoise(
            plain, tmp_path / "v.zarr", made.with_name("volume.model"), client=client, **SMALL
        )


def test_a_missing_or_damaged_model_is_refused_before_anything_is_made(
    made, scan, client, tmp_path
):
    with pytest.raises(MissingInputError, match="there is no model"):
        steps.denoise(scan, tmp_path / "v.zarr", tmp_path / "none", client=client, **SMALL)
    broken = shutil.copytree(made.with_name("volume.model"), tmp_path / "broken")
    weights = broken / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(FormatError, match="damaged or was replaced"):
        steps.denoise(scan, tmp_path / "v.zarr", broken, client=client, **SMALL)
    assert not (tmp_path / "v.zarr").exists()


def test_a_volume_has_no_splits(made, client, tmp_path):
    with pytest.raises(InputError, match="give the scan, or a trained model"):
        steps.denoise(made, tmp_path / "v.zarr", client=client, denoise=DENOISE)
    with pytest.raises(RecipeError, match="of which there are no splits: take mode fast"):
        steps.denoise(made, tmp_path / "v.zarr", made.with_name("volume.model"), client=client)


def test_another_training_does_not_replace_a_model_unasked(made, scan, client):
    other = {**DENOISE, "training": {**TRAINING, "seed": 5}}
    with pytest.raises(OutputExistsError, match="holds a model of another scan or with other"):
        steps.train(scan, made.with_name("volume.model"), client=client, denoise=other, center=24.0)


def test_slices_that_hang_together_are_refused(scan, client, tmp_path):
    geometry = {"source_distance_mm": 100.0}
    with pytest.raises(RecipeError, match="splits can't be made block by block"):
        steps.denoise(
            scan, tmp_path / "v.zarr", client=client, denoise=DENOISE, geometry=geometry,
            algorithm="fdk", center=24.0,
        )  # fmt: skip


def test_elements_of_a_job_array_refuse_to_train(scan, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    tree = {"source": str(scan), "output": str(tmp_path / "v.zarr"), "denoise": DENOISE}
    recipe.write_text(json.dumps(tree))
    with pytest.raises(RecipeError, match="trains one network for all"):
        steps.prepare(recipe)


def test_filters_are_learnt_and_applied_as_a_model(scan, client, tmp_path):
    options = {"method": "noise2filter"}
    output = tmp_path / "v.zarr"
    result = steps.denoise(scan, output, client=client, denoise=options, **SMALL)
    assert set(result.progress) == {"train", "denoise"}
    assert volume_metadata(output)["denoised"]["kind"] == "noise2filter"
    assert steps.denoise(scan, output, client=client, denoise=options, **SMALL).progress == {}
    again = tmp_path / "again.zarr"
    steps.denoise(scan, again, tmp_path / "v.model", client=client, **SMALL)
    np.testing.assert_array_equal(Volume.open(again).read(), Volume.open(output).read())
    with pytest.raises(RecipeError, match="applied to projections: give the scan"):
        steps.denoise(output, tmp_path / "b.zarr", tmp_path / "v.model", client=client)


def test_splits_of_all_rows_are_kept_when_asked(scan, client, tmp_path):
    few = {**DENOISE, "training": {**TRAINING, "rows": 16}}
    first = steps.train(scan, tmp_path / "a.model", client=client, denoise=few, center=24.0)
    full = SplitStore.open(first.splits).full
    assert np.isnan(full.read()).any(axis=(1, 2)).sum() == 24  # of 40 rows
    steps.train(
        scan, tmp_path / "a.model", client=client, denoise={**few, "keep_splits": True}, center=24.0
    )
    store = SplitStore.open(first.splits)
    assert np.isfinite(store.full.read()).all()
    together = np.mean([store.split(k).read() for k in range(store.num_splits)], axis=0)
    np.testing.assert_allclose(together, store.full.read(), atol=1e-5 * np.abs(together).max())


def test_paths_of_models_are_whole_for_who_works_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    layer = {"source": "s.zarr", "output": "v.zarr", "denoise": {"model": "a", "start": "b"}}
    whole = with_whole_paths(resolve([Layer("call", layer)])[0])
    assert whole.denoise.model == str(tmp_path / "a")
    assert whole.denoise.start == str(tmp_path / "b")
    plain = resolve([Layer("call", {"source": "s.zarr", "output": "v.zarr"})])[0]
    assert with_whole_paths(plain).denoise is None


def test_a_full_disk_at_a_checkpoint_keeps_the_one_before(scan, one_worker, tmp_path):
    """The worker's next checkpoint has no room: the run says so, and goes on when there is some."""
    model = tmp_path / "a.model"
    one_worker.run(fill_the_disk, str(tmp_path))
    try:
        with pytest.raises(DiskFullError, match=r"no space is left for .*a.model"):
            steps.train(scan, model, client=one_worker, denoise=DENOISE, center=24.0)
    finally:
        one_worker.run(empty_the_disk)
    assert not (model / "model.json").exists()
    made = steps.train(scan, model, client=one_worker, denoise=DENOISE, center=24.0)
    assert made.report["voxels_seen"] == 20 * 4096


def fill_the_disk(folder: str) -> None:
    """In a worker: no checkpoint but the first finds room."""
    import errno

    from tomodask.learn import checkpoint

    original = checkpoint.swap_in

    def full(path, content, *rest):
        if Path(path).suffix == ".safetensors" and "step-000000000" not in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        original(path, content, *rest)

    checkpoint.original_swap_in, checkpoint.swap_in = original, full


def empty_the_disk() -> None:
    from tomodask.learn import checkpoint

    checkpoint.swap_in = checkpoint.original_swap_in
