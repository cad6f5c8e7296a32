"""Imported by the process that children are copies of: every command is run once, so that they have its kernels."""

import contextlib
import io
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from crop.oracle import disks
from faults.children import COMMANDS
from stackalign.cli.__main__ import app

with (
    TemporaryDirectory() as folder,
    contextlib.redirect_stdout(io.StringIO()),
    contextlib.redirect_stderr(io.StringIO()),
):
    np.save(Path(folder, "in.npy"), disks(60))
    np.save(Path(folder, "short.npy"), disks(60)[:2])
    for name, command in COMMANDS.items():
        if name.endswith((".zarr", ".h5")):  # zarr has a thread, which is not copied, and HDF5 locks
            continue
        words = [word.replace("{d}", folder).replace("{x}", ".npy") for word in command]
        more = () if "--workers" in words else ("--workers", "1")  # no thread
        with contextlib.suppress(SystemExit):
            app([*words, *more, "-o", str(Path(folder, name))])
