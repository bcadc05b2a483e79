"""Scans that are not there yet look like scans, and their noise like counts."""

import pickle

import numpy as np
import pytest

from tomodask.ingest import open_source
from tomodask.ingest.source import SourceOptions
from tomodask.standin import NoiseFrames, SomeFrames, sampled_compression, stated_scan


def test_any_part_of_the_noise_is_that_part():
    frames = NoiseFrames((70, 40, 64), np.dtype(np.uint16))
    whole = frames.read(slice(None), slice(None))
    assert whole.shape == frames.shape
    assert whole.dtype == np.uint16
    part = pickle.loads(pickle.dumps(frames)).read(slice(20, 50), slice(33, 40))
    assert np.array_equal(part, whole[20:50, 33:40])
    middle = whole[:, :, 32].astype(float)  # dimmed by an object; the noise is that of photons
    edge = whole[:, :, 0].astype(float)
    assert middle.mean() < 0.7 * edge.mean()
    assert edge.var() == pytest.approx(edge.mean() - 100, rel=0.1)


def test_some_frames_are_those_of_the_stack():
    frames = NoiseFrames((70, 40, 64), np.dtype(np.uint16))
    some = SomeFrames(frames, 32, 16)
    assert some.shape == (16, 40, 64)
    assert some.first_index == 32
    expected = frames.read(slice(34, 48), slice(0, 5))
    assert np.array_equal(some.read(slice(2, None), slice(0, 5)), expected)


def test_steps_and_shape_are_read_from_a_text():
    steps, source = stated_scan("100x2400x2048x1024", "uint16", SourceOptions(energy_kev=20.0))
    assert (steps, source.shape, source.energy_kev) == (100, (2400, 2048, 1024), 20.0)
    assert set(source.stacks()) == {"projections", "flats", "darks"}
    assert stated_scan("60x40x48", "uint8", SourceOptions())[0] == 1
    assert source.fingerprint() == source.fingerprint()


def test_compression_is_that_of_the_frames(raw_file):
    sampled = sampled_compression(open_source(raw_file.path))
    assert 0.5 < sampled < 1  # 16 bits with some 14 bits of signal and noise
    _, large = stated_scan("60x40000x40000", "uint16", SourceOptions())
    assert sampled_compression(large) is None  # never a read of gigabytes
