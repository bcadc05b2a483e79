"""A wheelhouse installs without an index, and only what was put into it."""

import inspect
import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def write_wheel(folder, name, version, code, requires=(), script=None):
    """A wheel by hand; it takes no build backend and no index."""
    import base64
    import hashlib
    import pathlib
    import zipfile

    about = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: hpc"]
    files = {
        f"{name}.py": code,
        f"{about}/METADATA": "\n".join(metadata + [f"Requires-Dist: {r}" for r in requires]) + "\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if script:
        files[f"{about}/entry_points.txt"] = f"[console_scripts]\n{script}\n"
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        record += f"{path},sha256={digest.decode()},{len(text.encode())}\n"
    wheel = f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(pathlib.Path(folder) / wheel, "w") as archive:
        for path, text in (files | {f"{about}/RECORD": record + f"{about}/RECORD,,\n"}).items():
            archive.writestr(path, text)
    return wheel


BACKEND = """
def build_wheel(folder, config_settings=None, metadata_directory=None):
    code = "def main(): import helper; print('tomodask', helper.VERSION)"
    return write_wheel(
        folder, "tomodask", "9.9", code, ["helper>=1; extra == 'hpc'"], "tomodask = tomodask:main"
    )
"""


@pytest.fixture
def offline():
    """Environment in which pip finds no index, whatever the machine's settings are."""
    settings = {"PIP_CONFIG_FILE": "/dev/null", "PIP_INDEX_URL": "http://127.0.0.1:9/"}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHONPATH"))}
    return kept | settings


@pytest.fixture
def checkout(tmp_path):
    """A project of one module that stands in for tomodask; its extra needs a package `helper`."""
    folder = tmp_path / "checkout"
    (folder / "deploy").mkdir(parents=True)
    (folder / "tomodask").mkdir()
    shutil.copy(ROOT / "deploy" / "wheelhouse.sh", folder / "deploy")
    for name in ("README.md", "LICENSE"):
        (folder / name).touch()
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["tomodask"]\n'
    )
    (folder / "tomodask" / "backend.py").write_text(inspect.getsource(write_wheel) + BACKEND)
    (tmp_path / "index").mkdir()
    write_wheel(tmp_path / "index", "helper", "1.5", "VERSION = 'with its helper 1.5'")
    return folder


def make(checkout, *arguments, environment):
    return subprocess.run(
        [
            "bash",
            str(checkout / "deploy" / "wheelhouse.sh"),
            "--python",
            sys.executable,
            *arguments,
        ],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


def install(wheelhouse, venv, environment):
    return subprocess.run(
        ["bash", str(wheelhouse / "install.sh"), str(venv), sys.executable],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def wheelhouse(checkout, offline, tmp_path):
    index = ["--", "--no-index", "--find-links", str(tmp_path / "index")]
    done = make(checkout, "--output", str(tmp_path / "wheels"), *index, environment=offline)
    assert done.returncode == 0, done.stderr
    return tmp_path / "wheels"


def test_a_wheelhouse_installs_without_an_index_what_was_put_into_it(wheelhouse, offline, tmp_path):
    """The dependency of an extra comes along, the command runs; a changed wheel is refused."""
    assert len(list(wheelhouse.glob("*.whl"))) == 2
    moved = wheelhouse.rename(tmp_path / "carried over")
    done = install(moved, tmp_path / "my venv", offline)
    assert done.returncode == 0, done.stderr
    assert "tomodask with its helper 1.5" in done.stdout

    write_wheel(moved, "helper", "1.5", "VERSION = 'of somebody else'")
    shutil.rmtree(next((tmp_path / "my venv").glob("lib/python*/site-packages/helper-*")))
    done = install(moved, tmp_path / "my venv", offline)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr


@pytest.mark.parametrize(
    ("made_for", "advice"),
    [
        ("3.7 x86_64 28", "--python-version"),
        ("{}.{} pdp11 28", "pdp11"),
        ("{}.{} MACHINE 999", "--glibc"),
    ],
)
def test_another_python_machine_or_c_library_is_named(
    wheelhouse, offline, tmp_path, made_for, advice
):
    text = made_for.format(*sys.version_info).replace("MACHINE", os.uname().machine)
    (wheelhouse / "python.txt").write_text(text + "\n")
    done = install(wheelhouse, tmp_path / "venv", offline)
    assert done.returncode == 2
    assert advice in done.stderr
    assert not (tmp_path / "venv").exists()


def test_old_wheels_are_not_mixed_with_new_ones(checkout, offline, tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "helper-0.1-py3-none-any.whl").touch()
    done = make(checkout, "--output", str(tmp_path / "wheels"), environment=offline)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert make(checkout, "--ouput", "x", environment=offline).returncode == 2


@pytest.mark.slow
def test_the_whole_of_tomodask_reconstructs_from_a_wheelhouse(offline, tmp_path):
    """Made where there is an index, installed and run where there is none."""
    done = make(ROOT, "--output", str(tmp_path / "wheels"), environment=dict(os.environ))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next((tmp_path / "wheels").glob("tomodask-*.whl"))) as archive:
        packed = {name for name in archive.namelist() if name.startswith("tomodask/")}
    assert {f"tomodask/{path}" for path in ("cli/__init__.py", "py.typed")} <= packed
    done = install(tmp_path / "wheels", tmp_path / "venv", offline)
    assert done.returncode == 0, done.stderr
    answer = subprocess.run(
        [tmp_path / "venv" / "bin" / "tomodask", "demo", "--json", "--output", tmp_path / "demo"],
        cwd=tmp_path,
        env=offline,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert json.loads(answer.stdout)["psnr_db"] > 15
