"""From what the user named to jobs: which files are read, and where each goes."""

import glob
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from stackalign.errors import DataError
from stackalign.io import is_sidecar
from stackalign.io.formats import STORES
from stackalign.io.stacks import readable_extensions, writable_extensions

__all__ = ["Job", "check_outputs", "expand", "input_names", "plan_jobs"]

_ZARR_MARKS = ("zarr.json", ".zarray", ".zgroup")
"""A folder that holds one of these is a store, and one input."""


@dataclass(frozen=True)
class Job:
    """One input and where it goes."""

    source: Path
    output: Path


def expand(sources: Sequence[str], readable: Iterable[str]) -> list[Path]:
    """Turn files, folders and globs into files, in order, each once; "-" stands for names on standard input."""
    files: list[Path] = []
    # Archives and headers are opened when they are named; in a folder they stand beside the data.
    known = {extension.lower() for extension in readable} - {".zip", ".xml"}
    for text in input_names(sources):
        path = Path(text)
        if not _names_several(text):
            files.append(path)
        elif path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.name.lower().endswith(tuple(known)) and not p.name.startswith(".")
            )
            inside = [p for p in inside if not _is_part(p)]
            if not inside:
                msg = f"folder {path} holds no file that can be read ({' '.join(sorted(known))})"
                raise DataError(msg)
            files += _without_later_parts(inside)
        else:
            inside = sorted(p for p in map(Path, glob.glob(text, recursive=True)) if not _is_part(p))
            if not inside:
                msg = f"nothing matches {text}; check the name"
                raise DataError(msg)
            files += _without_later_parts(inside)
    return _without_sidecars(list(dict.fromkeys(files)))


def input_names(sources: Sequence[str]) -> list[str]:
    """Replace "-" by the names on standard input, one a line, or each before a zero byte (``find -print0``)."""
    names: list[str] = []
    for text in sources:
        if text != "-":
            names.append(text)
            continue
        if sys.stdin.isatty():
            msg = "- stands for file names on standard input: pipe a list into the command, one name a line"
            raise ValueError(msg)
        piped = sys.stdin.read()
        lines = [line for line in (piped.split("\0") if "\0" in piped else piped.splitlines()) if line.strip()]
        if not lines:
            msg = "standard input names no file"
            raise DataError(msg)
        names += lines
    return names


def _without_sidecars(files: list[Path]) -> list[Path]:
    """Leave out files that only describe another one of them, as a shell's ``*`` names both."""
    data = {(file.parent, file.stem) for file in files if not is_sidecar(file)}
    return [file for file in files if not is_sidecar(file) or (file.parent, file.stem) not in data]


def _is_part(path: Path) -> bool:
    """Tell whether a file is read through another one beside it: Arina data, later parts of a TVIPS series."""
    arina = re.fullmatch(r"(.+?)(_data_\d+)?\.h5", path.name)
    if arina is not None and not arina[1].endswith("_master") and (path.parent / f"{arina[1]}_master.h5").exists():
        return True
    series = re.fullmatch(r"(.+)_(\d{3})\.tvips", path.name)
    return series is not None and series[2] != "000" and (path.parent / f"{series[1]}_000.tvips").exists()


def _without_later_parts(paths: list[Path]) -> list[Path]:
    """Leave out what is read through the first file of a Merlin series."""
    merlin = [path for path in paths if path.suffix.lower() == ".mib" and path.is_file()]
    if not merlin:
        return paths
    from stackalign.io.mib import series_from

    later: set[Path] = set()
    for path in merlin:
        if path not in later:
            later |= set(series_from(path)[1:])
    return [path for path in paths if path not in later]


def _names_several(text: str) -> bool:
    """Tell whether an input is a folder or a glob; a file whose name looks like a glob is a file."""
    path = Path(text)
    if not path.is_dir():
        return not path.exists() and glob.has_magic(text)
    return path.suffix.lower() not in STORES and not any((path / name).exists() for name in _ZARR_MARKS)


def check_outputs(jobs: Iterable[Job], known: Sequence[str]) -> None:
    """Refuse outputs that cannot be written, before the work.

    Raises
    ------
    ValueError
        The extension is of no format that can be written: wrong usage.
    DataError
        It is a folder, and of no format that is one.
    """
    for output in (job.output for job in jobs):
        if not output.name.lower().endswith(tuple(known)):
            msg = f"output {output} has no known extension; known are {' '.join(dict.fromkeys(known))}"
            raise ValueError(msg)
        if output.is_dir() and output.suffix.lower() not in STORES:
            msg = f"output {output} is a folder; give a file name"
            raise DataError(msg)


def plan_jobs(
    sources: Sequence[str],
    output: Path,
    prefix: str = "cropped_",
    *,
    writable: Iterable[str] | None = None,
) -> list[Job]:
    """Decide where each input goes: one input to the file named, several into the folder named.

    In a folder an output has the name of its input after `prefix`, and its extension where that can be written.
    """
    piped, sources = "-" in sources, input_names(sources)
    files = expand(sources, readable_extensions(pictures=False))
    many = piped or len(files) > 1 or any(map(_names_several, sources))
    writable = {extension.lower() for extension in (writable_extensions() if writable is None else writable)}
    is_folder = output.is_dir() and output.suffix.lower() not in writable
    if not many and not is_folder:
        if not output.parent.is_dir():
            trouble = (
                "is a file; choose another output" if output.parent.exists() else "does not exist; create it first"
            )
            msg = f"the folder {output.parent} of the output {trouble}"
            raise DataError(msg)
        return [Job(files[0], output)]
    if output.exists() and not output.is_dir():
        msg = f"output {output} is a file; several inputs need a folder"
        raise DataError(msg)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"output folder {output} cannot be made ({error.strerror})"
        raise DataError(msg) from error
    jobs: list[Job] = []
    taken: set[str] = set()
    for file in files:
        extension = file.suffix.lower() if file.suffix.lower() in writable else ".h5"
        # Stems must differ: a.mib and a.npy in one folder would share their results and their picture.
        named = f"{prefix}{file.name.replace('.', '_')}"
        candidates = chain([f"{prefix}{file.stem}", named], (f"{named}_{k}" for k in count(2)))
        stem = next(name for name in candidates if name not in taken)
        taken.add(stem)
        jobs.append(Job(file, output / (stem + extension)))
    return jobs
