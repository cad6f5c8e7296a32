"""What stands beside the wheel agrees with `pyproject.toml`: recipe of conda, images, licences."""

import json
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
OTHER_NAMES = {
    "matplotlib": "matplotlib-base",
    "dask[array]": "dask-core",
    "torch": "pytorch",
    "sunpy[map]": "sunpy",
    "cupy-cuda13x": "cupy",
    "pywavelets": "pywavelets",
}
"""Packages that conda-forge knows by other names."""


def split(requirement: str) -> tuple[str, str]:
    """Name and lower bound of a requirement."""
    name, bound = re.match(r"([A-Za-z0-9._\[\]-]+)\s*>=\s*([\d.]+)", requirement).groups()
    name = name.lower()
    return OTHER_NAMES.get(name, name), bound


def recipe() -> dict:
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    return yaml.safe_load((ROOT / "packaging" / "conda" / "recipe.yaml").read_text())


def test_the_recipe_has_the_requirements_of_the_project() -> None:
    requirements = recipe()["requirements"]
    run = {split(line) for line in requirements["run"] if not line.startswith("python ")}
    assert run == {split(line) for line in PROJECT["dependencies"]}
    constrained = {split(line) for line in requirements["run_constraints"]}
    optional = ("plot", "solar", "refine", "image", "hdf5", "dask", "gpu13", "torch")
    assert constrained == {split(line) for name in optional for line in EXTRAS[name]}
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_recipe_builds_what_is_released() -> None:
    contents = recipe()
    assert contents["package"]["name"] == PROJECT["name"]
    (command,) = contents["build"]["python"]["entry_points"]
    name, _, target = command.partition(" = ")
    assert PROJECT["scripts"] == {name: target}
    for path in contents["about"]["license_file"]:
        assert (ROOT / path).exists()


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.cuda"])
def test_images_copy_and_install_what_is_there(name) -> None:
    text = (ROOT / "packaging" / "docker" / name).read_text()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        *sources, _ = line.split()
        assert all((ROOT / source).exists() for source in sources), line
    (extras,) = re.findall(r'"\.\[([\w,]+)\]"', text)
    assert set(extras.split(",")) <= set(EXTRAS)
    assert re.search(r'^ENTRYPOINT \["stackalign"\]$', text, re.M)


def test_licences_of_the_core_are_permissive() -> None:
    script = runpy.run_path(str(ROOT / "packaging" / "licences.py"))
    packages = script["closure"](script["declared"]([]))
    assert {script["normalised"](split(line)[0]) for line in PROJECT["dependencies"]} <= set(packages)
    permissive = re.compile("MIT|BSD|Apache|ISC|PSF|Python Software|Zlib|CC0", re.I)
    for name, package in packages.items():
        licence = script["licence"](package)
        assert permissive.search(licence), f"{name}: {licence}"
        assert not re.search("GPL", licence), f"{name}: {licence}"
    assert "| numpy |" in script["table"](packages)


def test_the_bill_of_materials_is_cyclonedx() -> None:
    command = [sys.executable, ROOT / "packaging" / "licences.py", "--sbom", "--extras", "plot"]
    made = subprocess.run(command, capture_output=True, text=True, check=True)
    document = json.loads(made.stdout)
    assert document["bomFormat"] == "CycloneDX"
    names = {component["name"] for component in document["components"]}
    assert "numpy" in names
    assert all(c["purl"] == f"pkg:pypi/{c['name']}@{c['version']}" for c in document["components"])


def test_every_lower_bound_is_tested() -> None:
    """The script takes its requirements from the project, and names extras that exist."""
    text = (ROOT / ".ci" / "lower-bounds").read_text()
    (named,) = re.findall(r"for name in \(([^)]+)\)", text)
    extras = set(re.findall(r'"([\w-]+)"', named))
    assert extras <= set(EXTRAS)
    assert {"plot", "solar", "refine", "image", "hdf5", "dask"} <= extras
    assert subprocess.run(["bash", "-n", ROOT / ".ci" / "lower-bounds"], check=False).returncode == 0
