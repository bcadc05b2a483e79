"""Training as laws: resumed is uninterrupted, nothing leaks from what is held out, NaN stops it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from tomodask.errors import DivergedError, FormatError
from tomodask.learn import training as module
from tomodask.learn.checkpoint import checkpoints_in, load_last
from tomodask.learn.judging import Judgement, compare, is_enough
from tomodask.learn.networks import make_network
from tomodask.learn.networks.weights import to_arrays
from tomodask.learn.options import TrainingOptions
from tomodask.learn.segments import Turn, take_turn
from tomodask.learn.training import Course, TrainJob, averaged_weights, train
from tomodask.learn.trainlog import read_log

NETWORK = {"unet": {"features": 4, "depth": 1, "convs": 1, "dims": 2}}
OPTIONS = TrainingOptions(
    voxels=12 * 4096, batch_voxels=4096, patch=32, patience=None, precision="float32"
)


@pytest.fixture
def job(splits, tmp_path) -> TrainJob:
    return TrainJob(
        folder=tmp_path / "m.training", splits=splits.path, digest="d", network=NETWORK, slices=1,
        depth=1, strategy="X:1", options=OPTIONS, shift=splits.metadata["shift"],
        scale=splits.metadata["scale"], radius=30.0, threads=1, memory=2**30,
    )  # fmt: skip


def run(job: TrainJob) -> dict[str, np.ndarray]:
    for _ in train(job):
        pass
    return averaged_weights(job)


def test_a_network_learns_the_object_and_not_the_noise(job, splits, truth):
    job = replace(job, options=replace(OPTIONS, voxels=80 * 4096))
    weights = run(job)
    net = make_network(NETWORK)
    net.load_state_dict({name: torch.from_numpy(w) for name, w in weights.items()})
    full = splits.full.read()
    with torch.inference_mode():
        x = torch.from_numpy((full - job.shift) / job.scale)[:, None]
        denoised = net(x)[:, 0].numpy() * job.scale + job.shift
    inside = np.hypot(*(np.mgrid[:64, :64] - 31.5)) < 30
    before, after = (np.mean((v - truth)[:, inside] ** 2) for v in (full, denoised))
    assert after < before / 2


def test_resumed_is_uninterrupted(job, monkeypatch):
    whole = run(replace(job, folder=job.folder.with_name("whole")))
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)  # after each step
    for number, course in enumerate(train(job)):
        if number == 4:  # as if killed: nothing more is written
            assert course.step == 5
            break
    assert load_last(job.folder).step == 5
    resumed = run(job)
    assert whole.keys() == resumed.keys()
    for name, weight in whole.items():
        np.testing.assert_array_equal(weight, resumed[name])


def test_turns_in_one_worker_and_in_many_are_one_training(job, monkeypatch):
    from tomodask.learn import segments

    whole = run(replace(job, folder=job.folder.with_name("whole")))
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    steps, ended, number = [], "", 0
    while not ended:
        report = take_turn(Turn(job, number))
        steps.append(report["step"])
        ended, number = report["ended"], number + 1
        if number % 3 == 0:
            segments._alive.clear()  # another worker takes over
    assert steps == list(range(1, 13))
    assert take_turn(Turn(job, number))["ended"] == ended  # asked again after the end
    for name, weight in averaged_weights(job).items():
        np.testing.assert_array_equal(weight, whole[name])


def test_a_torn_checkpoint_is_passed_over(job, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    for course in train(job):
        if course.step == 3:
            break
    last = checkpoints_in(job.folder)[-1]
    last.write_bytes(last.read_bytes()[:1000])
    assert load_last(job.folder).step == 2


def test_at_most_two_checkpoints_stay(job, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 0.0)
    run(job)
    assert len(checkpoints_in(job.folder)) == 2


def test_another_job_does_not_go_on_with_these_weights(job):
    run(job)
    other = replace(job, digest="other", options=replace(OPTIONS, seed=1))
    _, _, _, course = module.begin(other)
    assert course.step == 0


def test_a_loss_that_is_no_number_stops_and_keeps_the_weights_before(job, monkeypatch):
    original = module.loss_of

    def spoilt(net, batch, job, course):
        loss = original(net, batch, job, course)
        return loss * float("nan") if course.step == 6 else loss

    monkeypatch.setattr(module, "loss_of", spoilt)
    with pytest.raises(DivergedError, match=r"nan at step 6 of 12.*kept in .*learning_rate"):
        run(job)
    kept = load_last(job.folder)
    assert kept.step == 6
    assert all(bool(torch.isfinite(tensor).all()) for tensor in kept.tensors.values())


def test_the_log_has_each_step_once_after_a_kill(job, monkeypatch):
    monkeypatch.setattr(module, "CHECKPOINT_SECONDS", 1e9)
    loop = train(job)
    told = module.TrainLog.__call__

    def dying(self, report, steps):
        told(self, report, steps)
        if report["step"] == 7:
            raise KeyboardInterrupt

    monkeypatch.setattr(module.TrainLog, "__call__", dying)
    with pytest.raises(KeyboardInterrupt):
        next(loop)
    monkeypatch.setattr(module.TrainLog, "__call__", told)
    run(job)
    assert [line["step"] for line in read_log(job.folder)] == list(range(1, 13))
    assert any(file.is_file() for file in (job.folder / "tensorboard").iterdir())


def test_time_ends_a_training(job):
    timed = replace(job, options=replace(OPTIONS, voxels=1e12, seconds=0.5))
    run(timed)
    numbers = load_last(job.folder).numbers
    assert numbers["ended"] == "its time is over"
    assert numbers["step"] < 10_000


def test_the_rate_rises_then_falls_to_the_end():
    course, options = Course(100, "float32", "cpu"), TrainingOptions(warm_up=0.1)
    rates = []
    for course.step in range(101):
        rates.append(course.rate(options))
    peak = int(np.argmax(rates))
    assert peak == 10
    assert rates[peak] == pytest.approx(options.learning_rate)
    assert np.all(np.diff(rates[:peak]) >= 0)
    assert np.all(np.diff(rates[peak:]) < 0)
    assert rates[-1] == pytest.approx(0.02 * options.learning_rate)


def test_training_goes_on_from_a_models_weights(job, tmp_path):
    torch.manual_seed(9)
    start = tmp_path / "weights.safetensors"
    arrays = to_arrays(make_network(NETWORK))
    save_file(arrays, start)
    net, *_ = module.begin(replace(job, start=start))
    for name, weight in to_arrays(net).items():
        np.testing.assert_array_equal(weight, arrays[name])
    with pytest.raises(FormatError, match="weights of another network"):
        module.begin(
            replace(job, start=start, digest="e", network={"unet": {"features": 8, "depth": 1}})
        )


def test_weights_are_never_a_pickle(job):
    run(job)
    for path in Path(job.folder).rglob("*"):
        assert path.suffix not in (".pt", ".pth", ".pkl")
    header = checkpoints_in(job.folder)[-1].read_bytes()
    size = int.from_bytes(header[:8], "little")
    assert "tomodask" in json.loads(header[8 : 8 + size])["__metadata__"]


def test_a_gain_is_judged_in_pairs():
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, 50)  # the same in both, far above the gain
    best = (5 + noise).tolist()
    assert compare((4.99 + noise + rng.normal(0, 1e-3, 50)).tolist(), best, 1, 1).gained
    assert not compare((5 + noise + rng.normal(0, 0.1, 50)).tolist(), best, 1, 1).gained
    assert compare(best, [], 1, 1).gained


def test_training_ends_after_so_many_judgements_without_gain():
    def judged(*gains: bool) -> list[Judgement]:
        return [Judgement(i, i, 1.0, gain) for i, gain in enumerate(gains)]

    assert is_enough(judged(True, False, False), 2)
    assert not is_enough(judged(True, False, True, False), 2)
    assert not is_enough(judged(True, False, False), None)
