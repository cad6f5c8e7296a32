# SPDX-License-Identifier: BSD-3-Clause
"""The folder of compiled kernels: one for each state of the sources, of Numba and of the processor.

Numba decides by the file of a kernel alone whether what it compiled earlier still holds. But a kernel calls helpers of
other files, its flags are chosen in `_jit`, and parts of it are generated: the name of the folder is therefore a hash
of all sources of this package and of everything else that the code follows from. Two versions side by side have two
folders.
"""

import contextlib
import getpass
import hashlib
import json
import os
import platform
import re
import shutil
import stat
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import llvmlite
import numba
from llvmlite import binding

__all__ = ["Store", "open_store", "remove_stale", "sources_key"]

ROOM = 64 * 2**20
"""Free space in bytes that an empty folder wants; all kernels together take a tenth of it."""

CODE_SETTINGS = (
    "BOUNDSCHECK",
    "CPU_FEATURES",
    "CPU_NAME",
    "DEBUGINFO_DEFAULT",
    "DISABLE_INTEL_SVML",
    "ENABLE_AVX",
    "LOOP_VECTORIZE",
    "OPT",
    "SLP_VECTORIZE",
    "USING_SVML",
)
"""Settings of Numba that change compiled code and that Numba's own key leaves out."""

USERS = "users.jsonl"
"""File of a folder that lists the installations which have used it: they tell whether the folder is stale."""

_NAME = re.compile(r"stackalign-[0-9a-f]{16}")
_EARLIER = re.compile(r"compiled-.*|cpu_[0-9a-f]{40}")
"""What versions before this layout left in the package's own cache folder."""

DAY = 86400.0


@dataclass(frozen=True)
class Store:
    """Where compiled kernels are kept: ``folder`` is None where no folder can be used, ``reason`` says why not."""

    folder: Path | None
    reason: str = ""


def sources_key() -> str:
    """Hash of all that compiled kernels follow from."""
    total = hashlib.sha256()
    for file in sorted((f for f in files(__package__).iterdir() if f.name.endswith(".py")), key=lambda f: f.name):
        content = file.read_bytes()
        total.update(f"{file.name} {len(content)}\n".encode())
        total.update(content)
    machine = [platform.machine(), binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten()]
    settings = [repr(getattr(numba.config, name, None)) for name in CODE_SETTINGS]
    total.update("\n".join([numba.__version__, llvmlite.__version__, *machine, *settings]).encode())
    return total.hexdigest()[:16]


def own_base() -> Path:
    """Return the folder of the package beside the user's other caches."""
    parent = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(parent or Path.home() / ".cache") / "stackalign" / "numba"
    except RuntimeError:  # a user without a home
        return temporary_base()


def base_folder() -> Path:
    """Return what NUMBA_CACHE_DIR or Numba's own configuration says, else the package's own folder.

    Not beside the source, as Numba would have it: site-packages may be read-only, and an editable tree stays clean.
    """
    chosen = os.environ.get("NUMBA_CACHE_DIR") or numba.config.CACHE_DIR
    return Path(chosen) if chosen else own_base()


def temporary_base() -> Path:
    """Return a folder for temporary files that bears the user's name."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user whom the system does not know
        user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"stackalign-{re.sub(r'[^A-Za-z0-9.-]', '_', user)}"


def open_store(key: str) -> Store:
    """Find the folder for the kernels of a key, and make it; a temporary one where the first cannot be written."""
    wanted = base_folder() / f"stackalign-{key}"
    reason = _unfit(wanted)
    if not reason:
        return Store(wanted)
    reason = f"{wanted.parent} cannot hold compiled kernels ({reason})"
    try:
        base = temporary_base()
        base.mkdir(mode=0o700, exist_ok=True)
        other = base / wanted.name
        if _is_private(base) and not _unfit(other):
            return Store(other, reason)
    except OSError as error:
        reason = f"{reason}, nor can a temporary folder ({error.strerror or error})"
    return Store(None, reason)


def _unfit(folder: Path) -> str:
    """Make a folder for kernels; return why it cannot be used, or nothing."""
    if next(folder.glob("*.nbi"), None) is not None:
        with contextlib.suppress(OSError):  # what is there can be read, whether or not anything can be written
            _sign(folder)
        return ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
        free = shutil.disk_usage(folder).free
        _sign(folder)
    except OSError as error:
        return error.strerror or str(error)
    return "" if free > ROOM else f"{free / 1e6:.0f} MB are free"


def _is_private(folder: Path) -> bool:
    """Tell whether a folder among everybody's files is this user's alone: kernels are code that will be run."""
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode):
        return False
    return not hasattr(os, "getuid") or (about.st_uid == os.getuid() and not about.st_mode & 0o022)


def _installation() -> dict[str, str]:
    """Describe this installation: another state of the same one has left what is stale."""
    return {
        "package": str(Path(__file__).resolve().parent),
        "prefix": sys.prefix,
        "cpu": f"{platform.machine()} {binding.get_host_cpu_name()} {numba.config.CPU_NAME or ''}",
    }


def _sign(folder: Path) -> None:
    """Enter this installation in the list of those that use a folder."""
    line = json.dumps(_installation(), sort_keys=True) + "\n"
    with open(folder / USERS, "a+", encoding="utf-8") as file:
        file.seek(0)
        if line not in file.readlines():
            file.write(line)


def _users(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / USERS).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _is_stale(folder: Path) -> bool:
    """Tell whether no installation can use a folder again: each is gone, or is this one, which has another key."""
    try:
        users = _users(folder)
    except (OSError, ValueError):
        return time.time() - folder.stat().st_mtime > DAY  # one that is being made is not signed yet
    here = _installation()
    return all(user == here or not (Path(user["package"]).is_dir() and Path(user["prefix"]).is_dir()) for user in users)


def remove_stale(current: Path | None) -> list[Path]:
    """Remove the folders of earlier sources of this installation, and of installations that are gone.

    Parameters
    ----------
    current : Path or None
        The folder in use, which stays.

    Returns
    -------
    list of Path
        What was removed.
    """
    removed = []
    for base in dict.fromkeys([base_folder(), own_base(), temporary_base()]):
        if not base.is_dir():
            continue
        earlier = base == own_base()
        for entry in sorted(base.iterdir()):
            ours = entry.is_dir() and _NAME.fullmatch(entry.name) and entry != current and _is_stale(entry)
            if not (ours or (earlier and _EARLIER.fullmatch(entry.name))):
                continue
            if entry.is_dir():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)
            if not entry.exists():
                removed.append(entry)
    return removed
