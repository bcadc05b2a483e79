"""Measured scans, one command each: the centre that is known, a volume that is sharp, upright."""

import json
from pathlib import Path

import numpy as np
import pytest

from tomodask.cli import execute
from tomodask.errors import MissingInputError
from tomodask.ingest import open_source
from tomodask.volumestore import Volume, volume_metadata

pytestmark = pytest.mark.real


@pytest.fixture
def reconstruct(capsys, tmp_path):
    """Run one command on a raw scan; returns its answer and the volume."""

    def run(source: Path, *flags: str) -> tuple[dict, np.ndarray]:
        output = tmp_path / "volume.zarr"
        capsys.readouterr()
        assert execute(["reconstruct", str(source), str(output), *flags, "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert volume_metadata(output)["complete"]
        return answer, Volume.open(output).read_level(0)

    return run


def negativity(image: np.ndarray) -> float:
    """Mean square of what lies below 0: a wrong centre draws dark crescents in the air."""
    return float(np.mean(np.minimum(image, 0) ** 2))


def test_tooth(reconstruct, data_dir):
    source = data_dir / "tooth_aps" / "tooth.h5"
    answer, volume = reconstruct(source)
    assert answer["center"] == pytest.approx(296.0, abs=1)
    assert answer["center_confident"]
    assert volume.shape == (2, 640, 640)
    assert np.isfinite(volume).all()
    slice_ = volume[0]
    x = np.arange(640) - 319.5
    inside = np.hypot(x[None], x[:, None]) < 150
    # Enamel is the brightest tissue, about 0.008 a pixel; air around the tooth is 0.
    assert np.percentile(slice_[inside], 99) == pytest.approx(0.008, rel=0.2)
    assert abs(np.median(slice_[inside & (np.hypot(x[None], x[:, None]) > 140)])) < 4e-4


def test_tooth_is_cleanest_at_the_centre_found(reconstruct, data_dir):
    source = data_dir / "tooth_aps" / "tooth.h5"
    below = []
    for center in ("293.9", "295.9", "297.9"):
        _, volume = reconstruct(source, "--center", center, "--overwrite")
        below.append(negativity(volume[0]))
    assert below[1] < min(below[0], below[2])


def test_i12_hdf5_and_tiff_give_the_same_volume(reconstruct, data_dir):
    folder = data_dir / "i12_24737"
    answer, from_hdf5 = reconstruct(folder / "i12_24737.h5")
    assert answer["center"] == pytest.approx(86.0, abs=1)
    assert answer["center_confident"]
    assert answer["stages"]["reconstruct"]["counts"]["filled_pixels"] >= 1
    assert np.isfinite(from_hdf5).all()
    flags = ["--flats", str(folder / "flat_00001.tiff"), "--darks", str(folder / "dark_00001.tiff")]
    angles = ["--angles", str(folder / "angles.txt"), "--angles-lines", "10:101"]
    again, from_tiff = reconstruct(folder / "tiffs", *flags, *angles, "--overwrite")
    assert again["center"] == answer["center"]
    np.testing.assert_array_equal(from_tiff, from_hdf5)
    # The rod attenuates most; liquid fills the capsule's lower rows, not its upper ones.
    assert from_hdf5[:, 60:100, 50:100].max() > 0.1
    assert from_hdf5[120, 40:120, 40:120].mean() > 3 * abs(from_hdf5[10, 40:120, 40:120].mean())


def test_i12_asks_which_lines_of_a_longer_angle_file(capsys, data_dir, tmp_path):
    folder = data_dir / "i12_24737"
    arguments = ["reconstruct", str(folder / "tiffs"), str(tmp_path / "v.zarr")]
    assert execute([*arguments, "--angles", str(folder / "angles.txt")]) == 2
    told = capsys.readouterr().err
    assert "111" in told
    assert "91" in told
    assert "--angles-lines" in told


def test_k11_reads_and_admits_that_its_centre_can_not_be_told(reconstruct, data_dir):
    answer, volume = reconstruct(data_dir / "k11_diad" / "k11-18014.nxs")
    assert volume.shape == (22, 26, 26)
    assert np.isfinite(volume).all()
    assert answer["center_confident"] is False


def test_a_dangling_link_is_named(data_dir):
    with pytest.raises(MissingInputError, match=r"\.hdf|\.h5|\.nxs"):
        open_source(data_dir / "formats" / "i12_112482_360scan_dangling.nxs")
