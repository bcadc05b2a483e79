"""The speed of tiles: runs at a tiny size, and what differs from whole slices is not timed."""

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")

TINY = "--networks unet:1 --slices 1 3 --side 144 --rows 3 --tile 128 --threads 1 --repeats 2"


@pytest.fixture
def inference(load_benchmark) -> ModuleType:
    before = torch.get_num_threads()
    yield load_benchmark("inference")
    torch.set_num_threads(before)


def test_it_reports_voxels_a_second_and_their_share_of_the_bare_networks(
    inference: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "inference.json"
    inference.main([*TINY.split(), "--output", str(output)])
    report = json.loads(output.read_text())
    assert [(one["slices"], one["tile"]) for one in report["results"]] == [
        (1, None), (1, 128), (3, None), (3, 128),
    ]  # fmt: skip
    for one in report["results"]:
        assert one["of_the_bare_network"] > 0
        assert one["volume_voxels_per_second"] > 0
        seen = one["voxels_seen_a_voxel"]
        assert seen == 1 if one["tile"] is None else seen > 2
    assert "of the bare network's speed" in capsys.readouterr().out


def test_tiles_that_differ_from_the_whole_are_not_timed(
    inference: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def blind(module: object, slices: int) -> object:
        return inference.ReceptiveField((slices // 2, 8, 8), (1, 8, 8))

    monkeypatch.setattr(inference, "measure_receptive_field", blind)
    with pytest.raises(SystemExit, match="not timed"):
        inference.main([*TINY.split(), "--tile", "64"])


def test_the_bare_network_is_given_as_many_voxels(inference: ModuleType) -> None:
    module = inference.network("unet:1", 1)
    field = inference.measure_receptive_field(module)
    tiled = inference.TiledNetwork(module, field, tile=128)
    shapes = inference.given_to(tiled, np.zeros((4, 144, 144), np.float32))
    assert set(shapes) == {shapes[0]}
    batch, channels, ny, nx = shapes[0]
    assert (channels, ny, nx) == (1, ny, ny)
    assert ny <= 128
    assert ny % 8 == 0
    assert len(shapes) * batch == 4 * len(tiled._spans(144)) ** 2
