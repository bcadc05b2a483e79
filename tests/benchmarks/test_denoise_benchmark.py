"""Methods that denoise get the same noisy scan, and are held against the same clean volume."""

import json
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from matplotlib.image import imread

torch = pytest.importorskip("torch")

SIZE = "--columns 48 --rows 8 --views 80 --threads 1 --points 1 --voxels 2e5 --seconds 60"
QUICK = ["fbp", "fbp_window", "tv_3d", "nano", "supervised"]


@pytest.fixture
def denoise(load_benchmark, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    before = torch.get_num_threads()
    module = load_benchmark("denoise")
    monkeypatch.setitem(module.SUPERVISED, "supervised", "nano")
    yield module
    torch.set_num_threads(before)


@pytest.fixture
def scan(denoise):
    return denoise.make_scan(48, 6, 80, 20.0, 7, 1)


def test_it_scores_methods_and_adds_to_what_is_there(denoise, tmp_path: Path) -> None:
    output = tmp_path / "denoise.json"
    run = [*SIZE.split(), "--work", str(tmp_path / "work"), "--output", str(output)]
    denoise.main([*run, "--only", *QUICK[1:]])
    before = json.loads(output.read_text())["methods"]
    denoise.main([*run, "--only", "fbp", "--pictures", str(tmp_path)])
    report = json.loads(output.read_text())
    methods = report["methods"]
    assert list(methods) == QUICK  # in the order of the table
    assert {name: methods[name] for name in before} == before
    for one in methods.values():
        assert len(one["fsc"]) == 20
        assert one["seconds"] > 0
        assert -1 <= one["ssim"] <= 1
    assert methods["fbp_window"]["psnr_db"] > methods["fbp"]["psnr_db"] + 3
    assert methods["nano"]["voxels_seen"] >= 2e5
    last = methods["nano"]["curve"][-1]
    assert last["voxels"] == methods["nano"]["voxels_seen"]
    assert report["compared"] == denoise.compared(methods)
    panels = imread(tmp_path / "denoise.png")
    assert panels.shape[1] > panels.shape[0] > 200
    assert (tmp_path / "denoise_curve.png").stat().st_size > 5000
    with pytest.raises(SystemExit, match="another photons"):
        denoise.main([*run, "--photons", "30", "--only", "fbp"])


def test_differences_are_those_of_the_psnr(denoise) -> None:
    methods = {
        name: {"psnr_db": value, "seconds": seconds}
        for name, value, seconds in (
            ("unet", 18.0, 4.0),
            ("auto_denoise", 16.5, 5.0),
            ("tv", 17, 1),
        )
    }
    assert denoise.compared(methods) == {
        "in_2d_over_auto_denoise_db": 1.5,
        "in_2d_over_tv_in_2d_db": 1.0,
        "seconds_of_auto_denoise_over_unet": 1.25,
    }


def test_half_of_the_photons_are_absorbed_and_noise_is_theirs(denoise) -> None:
    scan = denoise.make_scan(64, 8, 96, 1000.0, 7, 1)  # many: the log is nearly linear
    rays = scan.exact > 1e-6
    assert float(1 - np.exp(-scan.exact[rays]).mean()) == pytest.approx(0.5, abs=1e-3)
    weighted = (scan.y - scan.exact) * np.sqrt(scan.photons * np.exp(-scan.exact))
    assert float(weighted.std()) == pytest.approx(1, rel=0.02)  # of 49152 pixels: 0.3 %


def test_the_mean_of_the_splits_is_what_all_views_give(scan) -> None:
    made = scan.splits
    mean = np.tensordot(made.weights, made.splits, 1)
    assert np.abs(mean - scan.full).max() < 1e-5 * np.abs(scan.full).max()
    assert np.abs(scan.full - scan.clean)[:, scan.mask].std() > scan.solid / 2


def test_psnr_is_relative_to_the_clean_range_within_the_disc(scan) -> None:
    off = scan.clean + np.float32(0.1 * scan.data_range)
    off[:, 0, 0] = 1e6  # not compared
    assert scan.psnr(off) == pytest.approx(20, abs=1e-3)
    assert scan.scores(scan.clean)["resolution_voxels"] is None


@pytest.mark.parametrize("dimensions", [2, 3])
def test_non_local_means_by_slabs_are_those_of_the_whole(denoise, dimensions: int) -> None:
    pytest.importorskip("skimage")
    from denoisers import non_local_means

    whole = denoise.make_scan(32, 12, 48, 20.0, 7, 1)
    how = {"cutoff": 0.6, "patch": 3, "distance": 2, "strength": 0.7}
    one, three = (
        non_local_means(dimensions)(replace(whole, threads=threads), **how) for threads in (1, 3)
    )
    assert np.abs(three - one).max() < 1e-5 * np.abs(one).max()  # sums begin elsewhere
    assert np.std((one - whole.clean)[:, whole.mask]) < 0.6 * np.std(
        (whole.full - whole.clean)[:, whole.mask]
    )


def test_a_mirrored_volume_is_refused(denoise, scan) -> None:
    denoise._refuse_wrong("fbp", scan, scan.full)
    with pytest.raises(SystemExit, match="fbp correlates by"):
        denoise._refuse_wrong("fbp", scan, scan.full[:, ::-1])


def test_supervised_targets_are_the_truth_of_what_is_seen(denoise, scan, tmp_path: Path) -> None:
    import learned

    network = learned.Network("a", {"nano": {}}, slices=3)
    options = network.training(learned.Budget(1.0, 1e4), 48)
    store = learned.store_splits(scan, tmp_path / "splits", options)
    job = learned.train_job(network, options, store, scan, tmp_path / "training")
    noiseless = replace(scan, y=scan.exact)
    inputs, targets = next(learned._batches(job, noiseless, 4))
    assert inputs.shape == (4, 3, 48, 48)
    assert torch.allclose(inputs[:, 1:2], targets, atol=1e-3)
    assert float((inputs[:, :1] - targets).std()) > 0.01  # a neighbour is another slice


def test_auto_denoise_learns_from_the_same_splits(denoise, scan) -> None:
    pytest.importorskip("autoden", reason="auto-denoise, a peer, is not installed")
    from peers.auto_denoise import denoise as peer

    found = peer(scan, 0.5)
    assert found.seconds > 0.4
    assert found.voxels_seen == found.parameters["epochs"] * 4 * scan.full.size
    assert scan.psnr(found.volume) > scan.psnr(scan.full) + 3
