"""The files beside a cropped stack: results, and the picture."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stackalign.errors import DataError, OutputExistsError
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.atomic import replace_path, write_text_atomic
from stackalign.io.formats import STORES, writer_of
from stackalign.io.provenance import dump_json
from stackalign.io.stacks import COMPRESSIONS, writable_extensions
from stackalign.runs import record_path

from .result import CropResult

__all__ = ["LIST_LIMIT", "RESULTS", "ResultPaths", "check_output", "prepare_results", "result_paths", "write_results"]

RESULTS = "_results.json"

LIST_LIMIT = 100_000
"""Patterns up to which the per-pattern lists stand in the JSON; beyond, it would have hundreds of megabytes."""


@dataclass(frozen=True)
class ResultPaths:
    """Names of the files beside an output."""

    json: Path
    npz: Path
    picture: Path


def result_paths(output: Path) -> ResultPaths:
    """Derive ``<stem>_results.json``, ``<stem>_results.npz`` and ``<stem>_visualization.png``.

    Where ``<stem>_results.json`` is that of another output, as ``o.npy`` beside ``o.h5``, the stem is ``o_h5``.
    """
    record = record_path(output, RESULTS)
    stem = record.name.removesuffix(RESULTS)
    return ResultPaths(record, output.with_name(stem + "_results.npz"), output.with_name(stem + "_visualization.png"))


def check_output(output: Path, compression: str | None = None) -> None:
    """Refuse a name that nothing can be written under, before any work is done.

    Raises
    ------
    DataError
        The extension is not known, or its format has no compression.
    OutputExistsError
        The name is that of a folder.
    """
    extension = output.suffix.lower()
    if extension not in writable_extensions():
        msg = f"output {output} has no known extension; known are {' '.join(writable_extensions())}"
        raise DataError(msg)
    if compression not in COMPRESSIONS:
        msg = f"compression {compression!r} is not known; choose none, lz4, zstd or gzip"
        raise DataError(msg)
    if compression not in (None, "none") and not writer_of(output).compressed:
        msg = f"output {output} cannot be compressed ({compression} was asked for); write .zarr or .h5 instead"
        raise DataError(msg)
    if compression == "gzip" and extension in STORES:
        msg = f"output {output} cannot be compressed by gzip, whose bytes differ from run to run; choose lz4 or zstd"
        raise DataError(msg)
    if output.is_dir() and extension not in STORES:
        msg = f"output {output} is a folder; give a file name"
        raise OutputExistsError(msg)


def prepare_results(result: CropResult, output: Path, folder: Path) -> tuple[dict[str, Any], dict[Path, Path]]:
    """Draw the picture where the configuration asks for it, store the arrays of long stacks, and give the contents.

    Parameters
    ----------
    result : CropResult
    output : Path
        Final name of the cropped stack.
    folder : Path
        Where the files are prepared.

    Returns
    -------
    contents : dict
        Of the JSON.
    files : dict
        From each prepared file to its final name.
    """
    paths = result_paths(output)
    files: dict[Path, Path] = {}
    if result.config.visualization:
        from stackalign.plot.crop import save_crop_figure

        with full_disk_as_data_error(folder, str(paths.picture)):
            save_crop_figure(result, folder / "picture.png")
        files[folder / "picture.png"] = paths.picture
    long = result.analysis.n_patterns > LIST_LIMIT
    contents: dict[str, Any] = result.to_dict(rows=not long)
    if long:
        arrays = {"analysis": result.analysis.arrays(), "validation": result.validation.arrays()}
        for section, columns in arrays.items():
            contents[section] |= {key: {"file": paths.npz.name, "array": key} for key in columns}
        with full_disk_as_data_error(folder, str(paths.npz)):
            np.savez_compressed(folder / "results.npz", **arrays["analysis"], **arrays["validation"])  # type: ignore[arg-type]
        files[folder / "results.npz"] = paths.npz
    return contents, files


def write_results(result: CropResult, output: Path) -> ResultPaths:
    """Write the files beside an output that was written in memory, the JSON last; existing ones are replaced."""
    paths = result_paths(output)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as folder:
        contents, files = prepare_results(result, output, Path(folder))
        for source, target in files.items():
            replace_path(source, target, overwrite=True)
    write_text_atomic(paths.json, dump_json({**contents, "output": str(output)}))
    return paths
