"""Files on systems that have no positioned reads and writes, and open no folders."""

import subprocess
import sys

import numpy as np
import pytest

from stackalign.io._portable import remove_tree

EMULATED = """
import os, sys
for name in ("O_CLOEXEC", "pread", "pwrite", "preadv", "posix_fadvise", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
opened = os.open

def without_folders(path, flags, *rest, **more):
    if os.path.isdir(path):
        raise PermissionError(13, "Permission denied", str(path))
    return opened(path, flags, *rest, **more)

os.open = without_folders
from stackalign.crop import CroppingConfig, crop_file
crop_file(sys.argv[1], sys.argv[2], CroppingConfig(visualization=False))
"""


@pytest.mark.parametrize("extension", [".npy", ".h5", ".pt"])
def test_crop_without_calls_of_posix(extension, tmp_path) -> None:
    stack = np.random.default_rng(0).poisson(5, (8, 32, 32)).astype(np.uint16)
    np.save(tmp_path / "in.npy", stack)
    subprocess.run([sys.executable, "-c", EMULATED, tmp_path / "in.npy", tmp_path / f"out{extension}"], check=True)
    from stackalign.crop import CroppingConfig, crop_file

    crop_file(tmp_path / "in.npy", tmp_path / f"here{extension}", CroppingConfig(visualization=False))
    assert (tmp_path / f"out{extension}").read_bytes() == (tmp_path / f"here{extension}").read_bytes()


def test_a_tree_is_removed_and_links_are_not_followed(tmp_path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    folder = tmp_path / "folder"
    (folder / "deep" / "deeper").mkdir(parents=True)
    (folder / "deep" / "file").write_text("y")
    (folder / "link").symlink_to(tmp_path / "kept")
    remove_tree(folder)
    assert not folder.exists()
    assert (tmp_path / "kept" / "file").read_text() == "x"
