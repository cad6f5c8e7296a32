"""Optional packages: what is absent is named with its extra, and what the documentation names can be reached."""

import importlib.metadata
import re
import subprocess
import sys

import numpy as np
import pytest

from cli.runner import run
from stackalign import compat, diffraction
from stackalign.cli import info
from stackalign.compat import skued
from stackalign.errors import MissingDependencyError

SUBMODULES = ["plot.crop", "plot.diffraction", "plot.refine", "plot.registration", "plot.solar", "compat.skued"]


@pytest.fixture
def absent(monkeypatch):
    """Return a function that makes packages look as if they were not installed."""

    def hide(*names: str) -> None:
        for name in [n for n in sys.modules if n.partition(".")[0] in names]:
            monkeypatch.delitem(sys.modules, name)
        for name in names:
            monkeypatch.setitem(sys.modules, name, None)

    return hide


def test_what_is_absent_is_named(absent) -> None:
    absent("pywt", "skimage")
    with pytest.raises(MissingDependencyError, match=r"PyWavelets: pip install \"stackalign\[image\]\""):
        diffraction.baseline_dwt(np.ones((32, 32)))
    with pytest.raises(MissingDependencyError, match=r"scikit-image .*\"stackalign\[image\]\""):
        skued.diffread("picture.png")


def test_info_knows_every_extra() -> None:
    metadata = importlib.metadata.metadata("stackalign")
    extras = set(metadata.get_all("Provides-Extra") or ()) - {"all", "browser", "docs", "gpu12", "release", "test"}
    assert extras <= {extra for extra, _ in info._EXTRAS.values()}


@pytest.mark.parametrize("package", ["astropy", "sunpy", "reproject"])
def test_commands_name_what_is_absent(package, tmp_path) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from stackalign.cli.__main__ import main; main()"
    for name in ("target.fits", "reference.fits"):
        (tmp_path / name).write_bytes(b"SIMPLE  =")
    command = [sys.executable, "-c", code, "coalign", "target.fits", "reference.fits", "-o", "out"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert ran.returncode == 1
    assert re.fullmatch(rf'error: .*{package}.*"stackalign\[solar\]"\n', ran.stderr), ran.stderr


@pytest.mark.parametrize("name", SUBMODULES)
def test_modules_are_reached_by_attributes(name) -> None:
    parent, child = name.split(".")
    code = f"import stackalign as sa; print(sa.{name}.__name__); assert {child!r} in dir(sa.{parent})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == f"stackalign.{name}"


def test_unknown_attributes_are_refused() -> None:
    from stackalign import plot

    for module in (plot, compat):
        with pytest.raises(AttributeError, match="no_such_name"):
            _ = module.no_such_name


def test_the_package_can_be_run() -> None:
    ran = subprocess.run([sys.executable, "-m", "stackalign", "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"stackalign \S+\n", ran.stdout)


@pytest.mark.parametrize("quiet", [False, True])
def test_crop_without_matplotlib(tmp_path, monkeypatch, quiet) -> None:
    from stackalign.cli import _inputs

    monkeypatch.setattr(_inputs, "can_plot", lambda: False)
    stack = np.random.default_rng(0).poisson(5, (8, 32, 32)).astype(np.uint16)
    np.save(tmp_path / "scan.npy", stack)
    ran = run("crop", str(tmp_path / "scan.npy"), "-o", str(tmp_path / "out.npy"), *(["--quiet"] if quiet else []))
    assert ran.code == 0
    assert (tmp_path / "out.npy").exists()
    assert not list(tmp_path.glob("*.png"))
    assert ran.err.count("without matplotlib there are no pictures") == (not quiet)
    ran = run("crop", str(tmp_path / "scan.npy"), "-o", str(tmp_path / "b.npy"), "--report", str(tmp_path / "r.html"))
    assert ran.code == 1
    assert "matplotlib" in ran.err
    assert not (tmp_path / "b.npy").exists()
