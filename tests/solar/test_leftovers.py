"""Temporary files that killed runs leave beside their outputs."""

import os
import subprocess
import sys

import pytest

from stackalign import solar
from stackalign.runs import find_leftovers, remove_leftovers


def gone() -> int:
    """Number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def old(path):
    path.write_bytes(b"SIMPLE  =")
    os.utime(path, (1e9, 1e9))
    return path


def test_only_those_of_dead_processes_are_removed(tmp_path) -> None:
    final = tmp_path / "a+b.fits"
    dead = old(tmp_path / f".a+b.{gone()}.part.fits")
    kept = [
        old(tmp_path / f".a+b.{os.getppid()}.part.fits"),
        old(tmp_path / f".other.{gone()}.part.fits"),
        old(tmp_path / "a+b.1.part.fits"),
    ]
    found = find_leftovers(tmp_path)
    assert found[final.name] == [dead]
    remove_leftovers(final, found[final.name])
    assert sorted(tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("how", ["map", "file"])
def test_writing_removes_them(tmp_path, how) -> None:
    made = solar.create_test_observation((40, 30), n_frames=1)
    source = solar.write_map(made.raster, tmp_path / "source.fits")
    left = old(tmp_path / f".out.{gone()}.part.fits")
    if how == "map":
        solar.write_map(made.raster, tmp_path / "out.fits")
    else:
        solar.write_corrected(source, tmp_path / "out.fits", solar.PixelTransform.identity())
    assert not left.exists()
    assert (tmp_path / "out.fits").exists()
