"""The command line: answers, exit codes, and one message for bad input."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr

from tomodask.cli import COMMANDS, execute
from tomodask.volumestore import volume_metadata

PNG = b"\x89PNG\r\n\x1a\n"
SMALL = ("volume.chunk_rows=4", "--workers", "1")


@pytest.fixture(scope="module")
def made(raw_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    arguments = ["reconstruct", str(raw_file.path), str(folder / "volume.zarr"), *SMALL]
    assert execute(arguments) == 0
    return folder


@pytest.fixture
def answer(capsys):
    """Run a command with --json and return what it answered."""

    def run(*arguments: str) -> dict:
        capsys.readouterr()
        assert execute([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


def test_each_command_has_a_flag_for_json(capsys):
    for command in COMMANDS:
        assert execute([command.__name__, "--help"]) == 0
        assert "--json" in capsys.readouterr().out, command.__name__


def test_raw_file_to_volume_in_one_command(made, raw_file):
    assert (made / "volume.scan.zarr").is_dir()
    with xr.open_dataset(made / "volume.zarr", engine="tomodask") as dataset:
        assert dataset.sizes == {"z": 40, "y": 48, "x": 48}
        assert float(dataset.attenuation.mean()) > 0


def test_ingest_then_reconstruct_answer_in_json(answer, raw_file, tmp_path):
    scan = str(tmp_path / "scan.zarr")
    first = answer("ingest", str(raw_file.path), scan, "--workers", "1")
    assert first["complete"]
    assert first["bytes_read"] == raw_file.truth.projections.nbytes
    assert answer("ingest", str(raw_file.path), scan) == {"scan": scan, "complete": True}
    result = answer("reconstruct", scan, str(tmp_path / "v.zarr"), *SMALL)
    assert result["center"] == pytest.approx(raw_file.truth.center_of_rotation, abs=0.3)
    assert result["stages"]["reconstruct"]["rows"] == 40


def test_center_prints_it_and_draws_it(answer, capsys, raw_file, tmp_path):
    picture = tmp_path / "center.png"
    found = answer("center", str(raw_file.path), "--picture", str(picture))
    assert found["center"] == pytest.approx(raw_file.truth.center_of_rotation, abs=0.3)
    assert picture.read_bytes().startswith(PNG)
    assert execute(["center", str(raw_file.path)]) == 0
    assert f"center {found['center']:.2f}" in capsys.readouterr().out


@pytest.mark.parametrize("extra", [(), ("--slice", "7")], ids=["cuts", "slice"])
def test_preview_draws_raw_files_scans_and_volumes(answer, made, raw_file, tmp_path, extra):
    for source in (raw_file.path, made / "volume.scan.zarr", made / "volume.zarr"):
        picture = tmp_path / f"{source.name}.png"
        told = answer("preview", str(source), str(picture), *extra)
        assert picture.read_bytes().startswith(PNG)
        assert told["grey_range"][0] < told["grey_range"][1]


def test_info_says_what_everything_is(answer, made, raw_file, tmp_path):
    assert "DXchange" in " ".join(answer("info", str(raw_file.path)).values())
    assert answer("info", str(made / "volume.scan.zarr"))["what"] == "scan store of tomodask"
    volume = answer("info", str(made / "volume.zarr"))
    assert volume["complete"] == "yes"
    assert volume["shape"].startswith("40 x 48 x 48")
    recipe = tmp_path / "recipe.yaml"
    assert execute(["init", str(recipe), "--source", "tooth.h5"]) == 0
    assert answer("info", str(recipe))["source"] == "tooth.h5"


def test_export_writes_a_stack_with_one_grey_range(answer, made, tmp_path):
    volume = str(made / "volume.zarr")
    told = answer("export", volume, str(tmp_path / "stack"), "--dtype", "uint8", "--rows", "3:9")
    files = sorted((tmp_path / "stack").glob("*.tif*"))
    assert len(files) == 6
    assert tifffile.imread(files[0]).dtype == np.uint8
    assert told["grey_range"][0] < told["grey_range"][1]
    answer("export", volume, str(tmp_path / "v.h5"), "--format", "hdf5", "--dtype", "float32")
    assert (tmp_path / "v.h5").is_file()


def test_run_takes_a_recipe_with_overrides_and_explains(answer, made, raw_file, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    output = tmp_path / "volume.zarr"
    assert execute(
        ["init", str(recipe), "--source", str(raw_file.path), "--output", str(output)]
    ) == 0  # fmt: skip
    told = answer("run", str(recipe), "rows=4:12", "--workers", "1", "--explain")
    assert told["recipe"]["rows"] == [4, 12]
    assert told["origins"]["rows"] == "key=value"
    assert told["origins"]["cluster.workers"] == "flag"
    assert not output.exists()
    scan = f"scan={made / 'volume.scan.zarr'}"
    result = answer("run", str(recipe), "rows=4:12", "volume.chunk_rows=4", scan, "--workers", "1")
    assert result["stages"]["reconstruct"]["rows"] == 8


def test_explain_in_words_says_where_a_value_came_from(capsys, raw_file, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"source: {raw_file.path}\ncenter: 24\n")
    assert execute(["run", str(recipe), "--explain", "backend=reference"]) == 0
    told = capsys.readouterr().out
    assert f"center = 24.0  # {recipe}" in told
    assert "backend = reference  # key=value" in told
    assert "angle_sign = 1  # default" in told


def _swapped(path: Path, raw_file) -> Path:
    path.write_bytes(raw_file.path.read_bytes())
    with h5py.File(path, "r+") as file:
        exchange = file["exchange"]
        exchange.move("data_white", "was_white")
        exchange.move("data_dark", "data_white")
        exchange.move("was_white", "data_dark")
    return path


def _without_flats(path: Path, raw_file) -> Path:
    path.write_bytes(raw_file.path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["exchange/data_white"]
    return path


def _angles_short(path: Path, raw_file) -> Path:
    path.write_bytes(raw_file.path.read_bytes())
    with h5py.File(path, "r+") as file:
        del file["exchange/theta"]
        file["exchange/theta"] = np.arange(7.0)
    return path


def _truncated(path: Path, raw_file) -> Path:
    path.write_bytes(raw_file.path.read_bytes()[:20_000])
    return path


def _not_hdf5(path: Path, raw_file) -> Path:
    path.write_text("nothing of the kind")
    return path


def _dangling(path: Path, raw_file) -> Path:
    with h5py.File(path, "w") as file:
        file["exchange/data"] = h5py.ExternalLink("gone.h5", "/entry/data")
        file["exchange/theta"] = np.arange(7.0)
    return path


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path, raw_file: path, "does not exist"),
        (_not_hdf5, "HDF5"),
        (_truncated, "truncated"),
        (_dangling, "gone.h5"),
        (_angles_short, "angles"),
        (_swapped, "swapped"),
        (_without_flats, "--flats"),
    ],
    ids=["missing", "not HDF5", "truncated", "dangling", "angles", "swapped", "no flats"],
)
def test_bad_files_end_with_exit_code_2_and_one_message(capsys, raw_file, tmp_path, make, message):
    source = make(tmp_path / "bad.h5", raw_file)
    output = tmp_path / "volume.zarr"
    assert execute(["reconstruct", str(source), str(output), "--center", "24", *SMALL]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith("tomodask:")]) == 1
    assert not (volume_metadata(output) or {"complete": False})["complete"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("filter=hann",), "no key 'filter'"),
        (("--filter", "han"), "hann"),
        (("--rows", "5"), "START:STOP"),
        (("--backend", "furier"), "did you mean 'fourier'"),
        (("--no-such-flag",), "--no-such-flag"),
        # refused by the plan
        (("--memory", "0.3GB"), "GiB"),
        (("volume.chunk_rows=32", "--memory", "401MiB"), "smallest block"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_bad_settings_end_with_exit_code_2_or_4_and_one_message(
    capsys, made, tmp_path, extra, message
):
    arguments = ["reconstruct", str(made / "volume.scan.zarr"), str(tmp_path / "volume.zarr")]
    code = 4 if "--memory" in extra else 2
    assert execute([*arguments, "--center", "24", "--workers", "1", *extra]) == code
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not (tmp_path / "volume.zarr").exists()


def test_output_of_another_recipe_is_refused(capsys, made):
    arguments = ["reconstruct", str(made / "volume.scan.zarr"), str(made / "volume.zarr")]
    assert execute([*arguments, *SMALL, "--center", "3"]) == 2
    assert "--overwrite" in capsys.readouterr().err


def test_the_installed_command_starts(raw_file):
    done = subprocess.run(
        [sys.executable, "-m", "tomodask", "info", str(raw_file.path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "DXchange" in done.stdout
