"""Commands in processes of their own that share nothing but imported modules, with checkpoints after every chunk."""

import functools
import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import forkserver, get_context
from pathlib import Path
from typing import Any

from faults.injected import at_event, deny, fill_device, obey_permissions

__all__ = ["COMMANDS", "DEVICE_CALLS", "EVENTS", "PRELOAD", "Ended", "Fault", "run_child", "start_child"]

DEVICE_CALLS, EVENTS = "calls of the backend: ", "events in the folder: "
"""Begin the last line of a child that counts them."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "crop.npy": ("crop", "{d}/in{x}", "--no-visualization", "--chunk-size", "7", "--workers", "1"),
    "crop.h5": ("crop", "{d}/in{x}", "--no-visualization", "--chunk-size", "7", "--compression", "lz4"),
    "crop.zarr": ("crop", "{d}/in{x}", "--no-visualization", "--chunk-size", "7"),
    "align.npy": ("align", "{d}/in{x}", "--max-shift", "9", "--memory-limit", "3MB"),
    "drift.npy": ("drift", "{d}/in{x}", "--memory-limit", "500kB"),
    "nfold.tif": ("nfold", "{d}/in{x}", "--fold", "2", "--center", "19,17", "--memory-limit", "500kB"),
    "center.csv": ("center", "{d}/short{x}", "--memory-limit", "30kB"),
    "peaks.csv": ("peaks", "{d}/short{x}", "--width", "1.5", "--memory-limit", "30kB"),
    "profile.npz": ("profile", "{d}/in{x}", "--center", "19,17", "--memory-limit", "100kB"),
    "mask.npy": ("mask", "{d}/in{x}", "--max-std", "50"),
}
"""Output and command line of each; ``{d}`` is the folder of the inputs, ``{x}`` their extension."""

PRELOAD = [
    "faults.warm", "stackalign.cli.__main__", "stackalign.crop", "stackalign.registration.files",
    "stackalign.drift.files",
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
    event : int, optional
        Number of the event in the folder of the output, from 0, before which it acts.
    act : str
        Name of a signal, or "gone", "denied", "cut", "paused".
    victims : tuple of Path
        Inputs that are cut; or for "paused" two files: one that is made, and one that it waits for.
    """

    limit: int | None = None
    permissions: bool = False
    device_call: int | None = None
    device_calls: int = 1
    event: int | None = None
    act: str = ""
    victims: tuple[Path, ...] = ()

    def acting(self, out: Path) -> Callable[[], object]:
        """What it does at its event."""

        def pause() -> None:
            reached, go = self.victims
            reached.touch()
            while not go.exists():
                time.sleep(0.001)

        acts: dict[str, Callable[[], object]] = {
            "": lambda: None,
            "gone": lambda: shutil.rmtree(out, ignore_errors=True),
            "denied": lambda: deny(out),
            "cut": lambda: [os.truncate(path, 4000) for path in self.victims],
            "paused": pause,
        }
        return acts.get(self.act) or (lambda: os.kill(os.getpid(), signal.Signals[self.act]))


@functools.cache
def _start_server() -> None:
    """Start the process that the children are copies of; its path is that of the environment alone."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)
    try:
        forkserver.ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def start_child(words: tuple[str, ...], log: Path, fault: Fault | None = None) -> Any:
    """Start a command."""
    _start_server()
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
    from stackalign.cli.__main__ import main
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
    out = Path(words[words.index("-o") + 1]).parent
    met = None if fault.event is None else at_event(out, fault.event, fault.acting(out))
    code = 70
    try:
        main(list(words))
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:
        traceback.print_exc()
    if called is not None:
        sys.stderr.write(f"{DEVICE_CALLS}{called()}\n")
    if met is not None:
        sys.stderr.write(f"{EVENTS}{met()}\n")
    sys.stderr.flush()
    os._exit(code)
