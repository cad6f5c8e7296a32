"""Commands in processes of their own that share nothing but imported modules, with checkpoints after every chunk."""

import os
import resource
import sys
import traceback
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from faults.injected import fill_device, obey_permissions

__all__ = ["COMMANDS", "DEVICE_CALLS", "PRELOAD", "Ended", "Fault", "run_child", "start_child"]

DEVICE_CALLS = "calls of the backend: "
"""Begins the last line of a child that counts them."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "crop.npy": ("crop", "{d}/in{x}", "--no-visualization", "--chunk-size", "7", "--workers", "1"),
    "crop.h5": ("crop", "{d}/in{x}", "--no-visualization", "--chunk-size", "7", "--compression", "lz4"),
    "crop.zarr": ("crop", "{d}/in{x}", "--no-visualization", "--chunk-size", "7"),
    "align.npy": ("align", "{d}/in{x}", "--max-shift", "9", "--memory-limit", "3MB"),
    "nfold.tif": ("nfold", "{d}/in{x}", "--fold", "2", "--center", "19,17", "--memory-limit", "500kB"),
    "center.csv": ("center", "{d}/short{x}", "--memory-limit", "30kB"),
    "peaks.csv": ("peaks", "{d}/short{x}", "--width", "1.5", "--memory-limit", "30kB"),
    "profile.npz": ("profile", "{d}/in{x}", "--center", "19,17", "--memory-limit", "100kB"),
    "mask.npy": ("mask", "{d}/in{x}", "--max-std", "50"),
}
"""Output and command line of each; ``{d}`` is the folder of the inputs, ``{x}`` their extension."""

PRELOAD = [
    "faults.children", "stackalign.cli.__main__", "stackalign.crop", "stackalign.registration.files",
    "stackalign.diffraction.symmetry_file", "stackalign.diffraction.centers_file", "stackalign.diffraction.bragg_file",
    "stackalign.diffraction.profiles_file", "stackalign.diffraction.masks_file", "stackalign.io.hdf5_writer",
    "stackalign.cli._crop_jobs", "stackalign.cli._align_jobs", "hdf5plugin", "zarr",
]  # fmt: skip

_context = get_context("forkserver")
_context.set_forkserver_preload(PRELOAD)


@dataclass(frozen=True)
class Ended:
    """How a child ended: its exit code, negative for a signal, and what it printed on stderr."""

    code: int
    err: str

    @property
    def plain(self) -> bool:
        """Whether there is no traceback."""
        return "Traceback" not in self.err and "Fatal" not in self.err


@dataclass(frozen=True)
class Fault:
    """What a child meets by itself.

    Parameters
    ----------
    limit : int, optional
        Largest file in bytes.
    permissions : bool
        Whether the permissions of files hold, which they do not for root.
    device_call : int, optional
        Number of the first call of a backend, from 0, for which the device has no memory.
    device_calls : int
        How many calls in a row have none.
    """

    limit: int | None = None
    permissions: bool = False
    device_call: int | None = None
    device_calls: int = 1


def start_child(words: tuple[str, ...], log: Path, fault: Fault | None = None) -> Any:
    """Start a command."""
    process = _context.Process(target=_work, args=(words, str(log), fault or Fault()), daemon=True)
    process.start()
    return process


def run_child(words: tuple[str, ...], log: Path, fault: Fault | None = None, *, seconds: float = 120.0) -> Ended:
    """Run a command to its end."""
    process = start_child(words, log, fault)
    process.join(seconds)
    assert process.exitcode is not None, f"{words} did not end"
    return Ended(process.exitcode, log.read_text())


def _work(words: tuple[str, ...], log: str, fault: Fault) -> None:
    """Run the command line in this process, with small pieces."""
    from stackalign.cli.__main__ import app
    from stackalign.diffraction import bragg_file, centers_file, masks_file
    from stackalign.io import hdf5_writer, zarr_writer
    from stackalign.runs import Run

    stream = open(log, "w", buffering=1)  # noqa: SIM115 -- until the process ends
    os.dup2(stream.fileno(), 2)
    os.dup2(stream.fileno(), 1)
    Run.due = lambda run: True  # type: ignore[method-assign]
    centers_file.LARGEST_CHUNK = bragg_file.LARGEST_CHUNK = 2
    masks_file.LEAST_FRAMES, masks_file.BLOCK_BYTES = 5, 1
    zarr_writer._SHARD_BYTES, zarr_writer._CHUNK_BYTES, hdf5_writer._CHUNK_BYTES = 10_500, 2000, 2000
    if fault.limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (fault.limit, resource.RLIM_INFINITY))
    if fault.permissions:
        obey_permissions()
    called = None if fault.device_call is None else fill_device(fault.device_call, fault.device_calls)
    code = 70
    try:
        app(list(words))
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    if called is not None:
        sys.stderr.write(f"{DEVICE_CALLS}{called()}\n")
    sys.stderr.flush()
    os._exit(code)
