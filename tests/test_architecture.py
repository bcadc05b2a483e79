"""Imports point one way, and `import tomodask` stays quick."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tomodask

ROOT = Path(tomodask.__file__).parent
PACKAGES = {
    "learn",
    "blockwise",
    "geometry",
    "ingest",
    "preprocess",
    "calibrate",
    "projectors",
    "reconstruct",
    "cluster",
    "cli",
}

BASE = {
    "learn.options",
    "tomodask",
    "arrays",
    "threads",
    "garbage",
    "errors",
    "geometry",
    "projections",
    "blocks",
    "phantom",
    "ellipsoids",
    "quality",
}
METHODS = {"preprocess", "calibrate", "projectors", "reconstruct", "learn"}
# files of `learn` that are on other shelves than its methods
LEARN_APART = {
    "options",
    "apply",
    "model",
    "checkpoint",
    "trainlog",
    "patches",
    "judging",
    "precision",
    "training",
    "segments",
}
STORAGE = {
    "learn.model",
    "learn.checkpoint",
    "learn.trainlog",
    "splitstore",
    "ingest",
    "scan",
    "frames",
    "spread",
    "shards",
    "shardcodec",
    "directfile",
    "pyramid",
    "ledger",
    "ledgerlines",
    "lease",
    "runfolder",
    "inventory",
    "volumestore",
}
RUNTIME = {
    "blockwise",
    "cluster",
    "plan",
    "learn.apply",
    "learn.patches",
    "learn.judging",
    "learn.precision",
    "learn.training",
    "learn.segments",
}
FRONT = {
    "recipe",
    "commented",
    "layers",
    "provenance",
    "pipeline",
    "runplan",
    "runlog",
    "runstate",
    "writers",
    "control",
    "planning",
    "foresee",
    "foresee_coupled",
    "measure",
    "measure_rays",
    "forecast",
    "hardware",
    "standin",
    "workload",
    "planfact",
    "coupled",
    "run_geometry",
    "stream",
    "denoising",
    "learned",
    "filtering",
    "learning",
    "splitting",
    "splitrows",
    "profiling",
    "samples",
    "pictures",
    "geometry_picture",
    "preview",
    "describe",
    "query",
    "export",
    "demo",
    "custody",
    "elements",
    "inprocess",
    "jobarray",
    "doctor",
    "steps",
    "cli",
    "testing",
    "testing_rays",
    "__main__",
}

# shelf: modules on it, shelves it may import, foreign packages it may import at the top of a file
SHELVES = {
    "base": (BASE, ["base"], {"numpy", "scipy"}),
    "methods": (
        METHODS,
        ["base", "methods"],
        {"numpy", "scipy", "numba", "array_api_compat"},
    ),
    "storage": (
        STORAGE,
        ["base", "storage"],
        {"numpy", "zarr", "h5py", "hdf5plugin", "tifffile", "google_crc32c", "numcodecs"},
    ),
    "runtime": (
        RUNTIME,
        ["base", "methods", "storage", "runtime"],
        {"numpy", "dask", "distributed", "psutil"},
    ),
    "front": (FRONT, ["base", "methods", "storage", "runtime", "front"], None),
}
# A package that only few files on a shelf may import.
ONLY_IN = {
    "finufft": {"projectors/finufft.py"},
    "astra": {"projectors/astra.py", "projectors/astra_rays.py"},
    "safetensors": {"learn/model.py", "learn/checkpoint.py", "learn/training.py"},
    "llvmlite": {
        "projectors/vectors.py",
        "projectors/joseph_window.py",
        "preprocess/kernels/vectors.py",
    },
}
TORCH_OUTSIDE = {"projectors/torch_gradients.py"}  # of `learn`, where it may be imported
# Methods that build on another one.
METHOD_IMPORTS = {
    "calibrate": {"calibrate", "projectors"},
    "reconstruct": {"reconstruct", "projectors"},
    "preprocess": {"preprocess", "projectors"},
    "projectors": {"projectors"},
    "learn": {"learn", "projectors", "reconstruct"},
}

FILES = sorted(ROOT.rglob("*.py"))


def module_of(file: Path) -> str:
    """'scan', or the package's name for files in one."""
    relative = file.relative_to(ROOT)
    if relative.parts[0] == "learn" and relative.stem in LEARN_APART:
        return f"learn.{relative.stem}"
    if len(relative.parts) > 1:
        return relative.parts[0]
    return "tomodask" if relative.stem == "__init__" else relative.stem


def shelf_of(module: str) -> str:
    found = [name for name, (modules, _, _) in SHELVES.items() if module in modules]
    assert len(found) == 1, f"module {module} is on {len(found)} shelves: {found}; give it one"
    return found[0]


def imports(file: Path) -> set[str]:
    """Dotted names imported at the top of a file, not under TYPE_CHECKING or in functions."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where a name comes from"
            if node.module == "tomodask":
                names.update(f"tomodask.{alias.name}" for alias in node.names)
            else:
                names.add(node.module or "")
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_point_one_way(file):
    module = module_of(file)
    shelf = shelf_of(module)
    _, allowed_shelves, allowed_packages = SHELVES[shelf]
    for name in imports(file):
        top = name.split(".")[0]
        if top == "tomodask":
            parts = name.split(".")
            target = parts[1] if len(parts) > 1 else "tomodask"
            if target == "learn" and len(parts) > 2 and parts[2] in LEARN_APART:
                target = f"learn.{parts[2]}"
            assert shelf_of(target) in allowed_shelves, f"{file} ({shelf}) imports {name}"
            if shelf == "methods" and target in METHOD_IMPORTS:
                assert target in METHOD_IMPORTS[module], f"{module} imports {target}"
        elif top not in sys.stdlib_module_names and allowed_packages is not None:
            only = ONLY_IN.get(top)
            here = str(file.relative_to(ROOT))
            if top == "torch":
                assert here in TORCH_OUTSIDE or here.startswith("learn/"), f"{here} imports torch"
                continue
            assert here in only if only else top in allowed_packages, f"{here} imports {top}"


def test_every_package_is_known():
    found = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()}
    assert found == PACKAGES


@pytest.mark.parametrize(
    "module",
    ["tomodask", "tomodask.projectors", "tomodask.reconstruct", "tomodask.preprocess"],
)
def test_import_leaves_slow_packages_alone(module):
    code = (
        f"import sys, {module}\n"
        "slow = {'torch', 'cupy', 'astra', 'dask', 'distributed', 'zarr', 'numba', 'xarray'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_public_names_load_on_demand():
    for name in tomodask.__all__:
        assert getattr(tomodask, name) is not None
    assert set(tomodask.__all__) <= set(dir(tomodask))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tomodask.nothing


def test_files_hold_one_thing_each():
    """400 lines are the aim; a file well over it holds more than one thing."""
    long = {
        str(file.relative_to(ROOT)): lines
        for file in FILES
        if (lines := len(file.read_text().splitlines())) > 450
    }
    assert not long
