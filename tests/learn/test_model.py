"""A model on the disk is whole and what it says, or it is refused; it is never a pickle."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tomodask.errors import FormatError, InputError, MissingInputError, OutputExistsError

pytest.importorskip("safetensors")

from tomodask.learn import model as models
from tomodask.learn.model import (
    Model,
    check_fits,
    load_model,
    model_card,
    save_model,
)

OF_FORMAT_1 = Path(__file__).parent / "models" / "v1"


def model_of(seed=0, **changed):
    rng = np.random.default_rng(seed)
    weights = {
        "conv.weight": rng.normal(size=(2, 3, 3, 3)).astype(np.float32),
        "kept": np.array(0.5, np.float32),
    }
    made = Model(
        "noise2inverse", {"unet": {"features": 2}}, weights, slices=3, shift=0.1, scale=2.5,
        value_unit="1/mm", pixel_size_um=1.6, radius=(1, 13, 13), stride=(1, 4, 4),
        training={"voxels": 3e8}, data={"shape": [8, 16, 16]}, versions={"torch": "2.13"},
    )  # fmt: skip
    return replace(made, **changed)


def files_of(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def edit(path, **changed):
    """Change what a model's card says; None removes it."""
    card = json.loads((path / "model.json").read_text()) | changed
    kept = {name: value for name, value in card.items() if value is not None}
    (path / "model.json").write_text(json.dumps(kept))


def assert_same(one, other):
    assert one.card() == other.card()
    assert set(one.weights) == set(other.weights)
    for name, array in one.weights.items():
        np.testing.assert_array_equal(other.weights[name], array)
        assert other.weights[name].shape == array.shape


@pytest.fixture
def saved(tmp_path):
    save_model(tmp_path / "a.model", model_of())
    return tmp_path / "a.model"


def test_a_model_is_read_as_it_was_written(tmp_path):
    digest = save_model(tmp_path / "a.model", model_of())
    assert_same(model_of(), load_model(tmp_path / "a.model"))
    assert model_card(tmp_path / "a.model")["weights"]["sha256"] == digest


def test_a_model_of_format_1_is_read():
    """Made by version 0.1: it must be read for as long as there is tomodask."""
    found = load_model(OF_FORMAT_1)
    assert (found.kind, found.slices, found.depth, found.num_splits) == ("noise2inverse", 3, 1, 4)
    assert (found.shift, found.scale, found.value_unit) == (0.25, 1.5, "1/mm")
    assert (found.radius, found.stride, found.equivariant) == ((1, 5, 5), (1, 2, 2), True)
    assert found.network == {"unet": {"features": 2, "depth": 1, "convs": 1, "dims": 2}}
    assert sum(float(np.abs(array).sum()) for array in found.weights.values()) == pytest.approx(
        json.loads((OF_FORMAT_1 / "expected.json").read_text())["sum_of_weights"], rel=1e-6
    )


# ---- replaced, or not --------------------------------------------------------------------------


def test_a_model_is_replaced_only_where_that_is_asked_for(saved):
    with pytest.raises(OutputExistsError, match=r"holds a model already.*--overwrite"):
        save_model(saved, model_of(1))
    assert_same(model_of(), load_model(saved))
    save_model(saved, model_of(1), overwrite=True)
    assert_same(model_of(1), load_model(saved))
    assert len(files_of(saved)) == 2


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [("thesis.tex", "text"), ("model.json", '{"layers": 3}'), ("model.json", "torn")],
)
def test_what_is_not_a_model_is_never_written_into(tmp_path, name, content, overwrite):
    path = tmp_path / "folder"
    path.mkdir()
    (path / name).write_text(content)
    with pytest.raises(OutputExistsError, match="choose another path"):
        save_model(path, model_of(), overwrite=overwrite)
    assert files_of(path) == {name: content.encode()}


def test_a_file_is_never_replaced_by_a_model(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="is a file"):
        save_model(tmp_path / "file", model_of(), overwrite=True)


def test_other_files_in_a_models_folder_are_kept(saved):
    (saved / "notes.safetensors").write_text("mine")
    save_model(saved, model_of(1), overwrite=True)
    assert files_of(saved)["notes.safetensors"] == b"mine"


# ---- killed, or no space -----------------------------------------------------------------------


def counted_writes(monkeypatch, fail_at, error):
    """Every `os.write` from the one of that number on fails, after a part of it."""
    write, number = os.write, 0

    def failing(descriptor, content):
        nonlocal number
        number += 1
        if number <= fail_at:
            return write(descriptor, content)
        write(descriptor, content[: len(content) // 2])
        raise error

    monkeypatch.setattr(os, "write", failing)


@pytest.mark.parametrize("fail_at", [0, 1])
def test_a_full_disk_leaves_the_model_before_and_nothing_else(saved, monkeypatch, fail_at):
    before = files_of(saved)
    with monkeypatch.context() as patched:
        counted_writes(patched, fail_at, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            save_model(saved, model_of(1), overwrite=True)
    assert files_of(saved) == before


def test_a_full_disk_leaves_weights_that_both_models_have(saved, monkeypatch):
    save_model(saved, model_of(1), overwrite=True)
    before = files_of(saved)
    with monkeypatch.context() as patched:
        counted_writes(patched, 1, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            save_model(saved, model_of(1, data={"shape": [1, 2, 3]}), overwrite=True)
    assert files_of(saved) == before


@pytest.mark.parametrize("fail_at", [0, 1])
def test_after_a_full_disk_a_first_model_can_be_written(tmp_path, monkeypatch, fail_at):
    path = tmp_path / "a.model"
    with monkeypatch.context() as patched:
        counted_writes(patched, fail_at, OSError(errno.ENOSPC, "No space left on device"))
        with pytest.raises(OSError, match="No space left"):
            save_model(path, model_of())
    with pytest.raises(FormatError, match="is no model"):
        load_model(path)
    save_model(path, model_of())
    assert_same(model_of(), load_model(path))


class Killed(BaseException):
    """A kill, after which nothing is cleaned up."""


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_a_kill_leaves_the_old_model_or_the_new_one(saved, monkeypatch, renames):
    done = 0
    rename, unlink = Path.replace, Path.unlink

    def dying(self, target):
        nonlocal done
        done += 1
        if done > renames:
            raise Killed
        return rename(self, target)

    def dead(self, missing_ok=False):
        if done < renames or done > 2:
            unlink(self, missing_ok)
        else:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", dying)
        patched.setattr(Path, "unlink", dead)
        with pytest.raises(Killed):
            save_model(saved, model_of(1), overwrite=True)
    assert_same(model_of(1) if renames == 2 else model_of(), load_model(saved))
    save_model(saved, model_of(2), overwrite=True)
    assert_same(model_of(2), load_model(saved))
    assert len(files_of(saved)) == 2


def test_what_json_can_not_hold_is_told_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError):
        save_model(tmp_path / "a.model", model_of(training={"loss": np.float32(1)}))
    assert not (tmp_path / "a.model").exists()


# ---- damaged, of another kind, a pickle --------------------------------------------------------


def test_no_model_is_told_from_a_damaged_one(tmp_path):
    with pytest.raises(MissingInputError, match=r"no model .*a folder with model.json"):
        load_model(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FormatError, match=r"is no model.*a folder with model.json"):
        load_model(tmp_path / "empty")


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.ckpt", "folder/net.pt"])
def test_pickles_are_refused_unread(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"never read")
    given = path if "/" not in name else path.parent
    with pytest.raises(FormatError, match=r"net.* is a pickle, which could run code"):
        load_model(given)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"format_version": 2}, "format version 2, this tomodask reads up to 1: update tomodask"),
        ({"format_version": "new"}, "is no model"),
        ({"kind": "classifier"}, "is of kind 'classifier'"),
        ({"weights": None}, "does not say what its weights are"),
        ({"weights": {"file": "weights.safetensors"}}, "does not say what its weights are"),
        ({"slices": 4}, "damaged: a model with slices=4"),
        ({"slices": "3"}, "damaged: a model with slices='3'"),
        ({"scale": 0.0}, "damaged: a model with scale=0.0"),
        ({"radius": [1, 2]}, r"damaged: a model with radius=\(1, 2\)"),
        ({"stride": [1, 0, 4]}, r"damaged: a model with stride=\(1, 0, 4\)"),
        ({"radius": None}, "is damaged: 'radius'"),
        ({"colour": "red"}, "is damaged: .*colour"),
    ],
)
def test_a_card_that_can_not_be_is_refused(saved, changed, told):
    edit(saved, **changed)
    with pytest.raises(FormatError, match=told):
        load_model(saved)


@pytest.mark.parametrize("card", ["", "[1, 2]", "null", '"text"', '{"kind":'])
def test_a_torn_card_is_refused(saved, card):
    (saved / "model.json").write_text(card)
    with pytest.raises(FormatError, match=r"is no model \("):
        load_model(saved)


def test_weights_outside_of_the_folder_are_not_read(saved):
    other = saved.with_name("weights.safetensors")
    shutil.copy(saved / "weights.safetensors", other)
    named = json.loads((saved / "model.json").read_text())["weights"]
    edit(saved, weights=named | {"file": "../weights.safetensors"})
    with pytest.raises(FormatError, match=r"'\.\./weights.safetensors', weights.safetensors is"):
        load_model(saved)


def test_damaged_weights_are_refused_by_their_size_or_checksum(saved):
    weights = saved / "weights.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-4])
    with pytest.raises(FormatError, match=f"{len(content) - 4} bytes, model.json says"):
        load_model(saved)
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(FormatError, match="has the checksum"):
        load_model(saved)
    weights.unlink()
    with pytest.raises(FormatError, match="can't be read"):
        load_model(saved)


# ---- what it is for ----------------------------------------------------------------------------


def test_a_model_is_refused_for_values_of_another_unit_or_other_slices():
    check_fits(model_of(), "1/mm", "scan.zarr", slices=3)
    with pytest.raises(InputError, match=r"values in 1/mm, scan.zarr has 1/pixel"):
        check_fits(model_of(), "1/pixel", "scan.zarr")
    with pytest.raises(InputError, match=r"3 neighbouring slices, denoise.slices=5"):
        check_fits(model_of(), "1/mm", "scan.zarr", slices=5)


@pytest.mark.parametrize(("size", "is_told"), [(1.6, 0), (1.9, 0), (2.1, 1), (1.2, 1), (None, 0)])
def test_voxels_of_another_size_are_told(caplog, size, is_told):
    check_fits(model_of(), "1/mm", "scan.zarr", voxel_size_um=size)
    assert len(caplog.records) == is_told
    assert all("trained on voxels of 1.6 um" in record.message for record in caplog.records)


def test_a_model_that_can_not_be_is_refused_before_it_is_written():
    with pytest.raises(InputError, match="slices=2"):
        model_of(slices=2)
    with pytest.raises(InputError, match="scale=nan"):
        model_of(scale=float("nan"))


def test_pickles_have_no_reader_here():
    """Nothing in the module could unpickle."""
    assert "pickle" not in vars(models)
    assert "torch" not in vars(models)
