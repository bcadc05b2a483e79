"""Runs whose slices hang together: the same as all at once, and they go on after a failure."""

from pathlib import Path

import numpy as np
import pytest

from tomodask import coupled, samples, steps
from tomodask.errors import BlocksFailedError, GeometryError
from tomodask.geometry import ParallelBeam
from tomodask.layers import Layer, resolve
from tomodask.projectors.operator import operator
from tomodask.reconstruct import SIRT
from tomodask.run_geometry import run_geometry
from tomodask.scan import Scan
from tomodask.volumestore import Volume

SETTINGS = {
    "ingest": {"pixel_size_um": 20.0},
    "center": 23.7,
    "geometry": {"source_distance_mm": 4.0},
    "algorithm": {"sirt": {"num_iterations": 3}},
    "volume": {"chunk_rows": 8},
    "cluster": {"workers": 1, "threads": 2, "memory": 2**30},
}


@pytest.fixture(scope="module")
def scan(raw_file, one_worker, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("coupled") / "scan.zarr"
    ingest = {"pixel_size_um": 20.0, "angles": "0:360:60"}  # FDK wants a full turn
    return steps.ingest(raw_file.path, path, ingest=ingest, client=one_worker)


def all_at_once(path: Path, **settings) -> np.ndarray:
    """The same steps on arrays in memory."""
    recipe = resolve([Layer("test", {**SETTINGS, **settings, "source": str(path)})])[0]
    scan = Scan.open(path)
    sinograms, beam = samples.corrected_sinograms(scan, recipe, 0, scan.geometry.det_rows)
    beam = beam.with_center(recipe.center)
    volume, views = run_geometry(recipe.geometry, beam, scan.geometry.det_rows)
    A = operator(volume, views, recipe.backend, threads=2)
    return recipe.reconstructor()(np.ascontiguousarray(sinograms), A)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"geometry": {"tilt_deg": 30.0}},
        {"algorithm": {"fdk": {"filter": "hann"}}},
        {
            "geometry": {},
            "backend": "numba_cpu",
            "algorithm": {"pdhg_tv": {"num_iterations": 3, "dimensions": 3, "circle": False}},
        },
    ],
    ids=["cone", "laminography", "FDK", "gradients in space"],
)
def test_a_coupled_run_is_the_same_as_all_at_once(scan, one_worker, tmp_path, settings):
    output = tmp_path / "volume.zarr"
    result = steps.reconstruct(scan, output, client=one_worker, **{**SETTINGS, **settings})
    assert {"iterate", "write"} <= set(result.progress)
    expected = all_at_once(scan, **settings)
    assert relative(Volume.open(output).read_level(0), expected) < 1e-4
    assert Volume.open(output).metadata["complete"]
    assert not list(tmp_path.glob(f"*{coupled.WORK_SUFFIX}*")), "scratch arrays are left"


def test_a_run_that_failed_goes_on_where_it_stopped(scan, one_worker, tmp_path, monkeypatch):
    output = tmp_path / "volume.zarr"
    whole = steps.reconstruct(scan, tmp_path / "other.zarr", client=one_worker, **SETTINGS)
    runs = []

    def refused(client, function, tasks, **options):
        raise BlocksFailedError("the disk of the volume is away")

    with monkeypatch.context() as patch:
        patch.setattr(coupled, "run_blocks", refused)
        with pytest.raises(BlocksFailedError, match="away"):
            steps.reconstruct(scan, output, client=one_worker, **SETTINGS)
    result = steps.reconstruct(scan, output, client=one_worker, listener=runs.append, **SETTINGS)
    assert result.progress["iterate"].blocks_done == 0, "what was iterated was done again"
    volumes = [Volume.open(path).read_level(0) for path in (output, whole.volume)]
    assert np.array_equal(*volumes)
    again = steps.reconstruct(scan, output, client=one_worker, **SETTINGS)
    assert again.progress == {}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"algorithm": "fbp"}, "fbp can't reconstruct from a cone beam: take --algorithm fdk"),
        ({"algorithm": "fbp", "geometry": {"tilt_deg": 9}}, "fbp can't .* tilted axis"),
        ({"algorithm": "fdk", "geometry": {}}, "fdk can't .* parallel beam: .*--source-distance"),
        ({"center": "auto"}, r"--center \(the middle is 23.5\)"),
        ({"backend": "finufft"}, "finufft can't project"),
        ({"geometry": {"source_distance_mm": 0.3}}, "lies within the volume"),
    ],
    ids=["fbp", "fbp of a tilted axis", "fdk", "centre", "backend", "source"],
)
def test_what_cannot_be_is_refused_before_anything_is_written(scan, tmp_path, settings, message):
    with pytest.raises(GeometryError, match=message):
        steps.reconstruct(scan, tmp_path / "volume.zarr", **{**SETTINGS, **settings})
    assert not (tmp_path / "volume.zarr").exists()


def test_slices_are_made_one_by_one_where_they_can_be(scan, one_worker, tmp_path):
    settings = {**SETTINGS, "geometry": {}}
    result = steps.reconstruct(scan, tmp_path / "volume.zarr", client=one_worker, **settings)
    assert set(result.progress) == {"reconstruct"}
    beam: ParallelBeam = Scan.open(scan).geometry
    assert Volume.open(result.volume).spec.shape == (beam.det_rows, 48, 48)
    assert SIRT(num_iterations=3) == resolve([Layer("test", settings)])[0].reconstructor()
