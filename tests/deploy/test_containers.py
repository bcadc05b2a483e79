"""Both container recipes build from files that are there, with extras that there are.

No image is built here: that takes a registry for the base and minutes. What can rot without one is
held: names of files, extras and arguments, and that both recipes do the same.
"""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINERFILE = (ROOT / "deploy" / "Containerfile").read_text()
DEFINITION = (ROOT / "deploy" / "tomodask.def").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def instructions():
    """(name, rest) of each instruction of the Containerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def sections():
    """Header and sections of the Apptainer definition, by name."""
    head, *rest = re.split(r"^%(\w+)\n", DEFINITION, flags=re.MULTILINE)
    return {"header": head} | dict(zip(rest[::2], rest[1::2], strict=True))


def test_every_file_that_is_copied_exists_and_the_package_needs_no_other():
    copied = [rest.split()[:-1] for name, rest in instructions() if name == "COPY"]
    into_image = {source for sources in copied for source in sources}
    into_sif = {line.split()[0] for line in sections()["files"].splitlines() if line.strip()}
    assert into_image == into_sif
    assert all((ROOT / name).exists() for name in into_image)
    needed = {"pyproject.toml", "tomodask", PROJECT["readme"], *PROJECT["license-files"]}
    assert into_image == needed


@pytest.mark.parametrize("recipe", [CONTAINERFILE, DEFINITION], ids=["Containerfile", "def"])
def test_extras_that_are_named_exist(recipe):
    named = re.findall(r"EXTRAS=([\w,-]+)", recipe)
    assert len(named) == 2, "the default, and the example with GPUs"
    for extras in named:
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])


def test_arguments_are_declared_before_they_are_used():
    declared: set[str] = set()
    for name, rest in instructions():
        if name == "ARG":
            declared.add(rest.partition("=")[0])
        assert set(re.findall(r"\$\{(\w+)\}", rest)) <= declared
        if name == "FROM":
            declared = set()  # an argument ends with the stage it was declared in
    arguments = re.findall(r"^ +(\w+)=", sections()["arguments"], re.MULTILINE)
    assert set(re.findall(r"\{\{ (\w+) \}\}", DEFINITION)) == set(arguments)


def test_both_have_the_same_python_and_the_same_steps():
    assert "docker.io/library/python:3.12-slim" in CONTAINERFILE
    assert "BASE=python:3.12-slim" in DEFINITION
    least = PROJECT["requires-python"].removeprefix(">=")
    assert f"{least} is the least" in CONTAINERFILE
    assert f"{least} is the least" in DEFINITION
    for step in (
        "python3 -m venv /opt/tomodask",
        "/opt/tomodask/bin/pip install --no-cache-dir",
        "apt-get install -y --no-install-recommends ca-certificates python3 python3-venv",
    ):
        assert step in " ".join(rest for name, rest in instructions() if name == "RUN")
        assert step in sections()["post"]


def test_the_steps_are_sound_shell():
    known = {"header", "arguments", "files", "post", "environment", "runscript", "help"}
    assert set(sections()) == known
    scripts = [rest for name, rest in instructions() if name == "RUN"]
    scripts += [sections()[name] for name in ("post", "environment", "runscript")]
    for script in scripts:
        subprocess.run(["sh", "-n", "/dev/stdin"], input=script, text=True, check=True)


def test_it_runs_as_nobody_special_and_holds_no_secret():
    names = [name for name, _ in instructions()]
    assert ("USER", "1000") in instructions()
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "RUN")
    assert not re.search(r"token|password|secret", CONTAINERFILE + DEFINITION, re.IGNORECASE)
