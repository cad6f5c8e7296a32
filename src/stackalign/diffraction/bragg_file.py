"""Bragg peaks of the images of files, in a table, journalled and resumable."""

import csv
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign._results import flagged_frames
from stackalign.device import default_memory_limit
from stackalign.errors import DataError
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.provenance import provenance
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from ._file_inputs import FrameFiles, check_centers, combined_mask, paths_of, plain_center, stated_centers
from ._no_pattern import doubts_of_file
from .peaks import bragg_peaks
from .persistence import bragg_peaks_persistence

__all__ = ["PeakTable", "peaks_file"]

OUTPUTS = (".csv",)
RECORD = "_peaks.json"
METHODS = ("matched", "persistence")
LARGEST_CHUNK = 16
"""Frames; finding peaks takes long enough that a stop should be heard, and progress seen, after a few."""


@dataclass(frozen=True)
class PeakTable:
    """How many peaks were found in each of several files.

    Parameters
    ----------
    output : Path
        Table with the columns file, frame, row, col, intensity, snr.
    files : list of dict
        For each file: input, images, peaks, flags (with a sentence each, where the images show no pattern),
        flagged_frames, and message, empty where it could be used.
    blind : list of tuple
        (file, frame) of images without a valid pixel.
    """

    output: Path
    files: list[dict[str, Any]]
    blind: list[tuple[str, int]] = field(default_factory=list)

    @property
    def status(self) -> str:
        """Status: "failed" where a file could not be used, "flagged" where one shows no pattern, else "done"."""
        if any(row["message"] for row in self.files):
            return "failed"
        return "flagged" if any(row.get("flags") for row in self.files) else "done"


def peaks_file(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    method: str = "matched",
    center: Any = None,
    mask: NDArray[np.bool_] | None = None,
    dataset: str | None = None,
    workers: int | None = None,
    memory_limit: int | None = None,
    open_options: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
    command: str | None = None,
    **settings: Any,
) -> PeakTable:
    """Find the Bragg peaks of all images of files, and write a table of them.

    Parameters
    ----------
    sources : path-like or sequence of path-like
        Files that `diffread` reads; one that cannot be used does not stop the others.
    output : path-like
        .csv; ``<stem>_peaks.json`` beside it says what made it.
    method : {"matched", "persistence"}
        `bragg_peaks` or `bragg_peaks_persistence`.
    center : tuple of float, numpy.ndarray or callable, optional
        (row, col), or (N, 2) one for each image, or a function that gives either for a path: the table then has a
        column radius, the distance of each peak in pixels.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid.
    dataset : str, optional
        Which dataset, series or HDU.
    workers : int, optional
        1: no thread is started.
    memory_limit : int, optional
        Bytes for buffers.
    open_options : mapping, optional
        More options of `stackalign.io.open`, such as ``skip_frames`` or ``allow_external``.
    resume, overwrite : bool
        Go on with an interrupted run of the same inputs and settings; replace an existing output.
    progress : callable, optional
    stop : StopRequest, optional
    executor : concurrent.futures.Executor, optional
        Where the chunks are worked on; the output has the same bytes.
    command : str, optional
        For the provenance.
    **settings
        Of the method: ``min_snr``, ``width``, ``min_distance``, or ``prominence``, ``min_distance``.

    Returns
    -------
    PeakTable

    Raises
    ------
    DataError
        No file could be used, or the output cannot be written.
    OutputExistsError
        The output exists and `overwrite` is off.
    FinishedError
        With `resume`: a run of the same plan has finished this output.
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    final, limit = Path(output), memory_limit or default_memory_limit()
    if method not in METHODS:
        msg = f"method must be one of {', '.join(METHODS)}, got {method!r}"
        raise ValueError(msg)
    if final.suffix.lower() not in OUTPUTS:
        msg = f"output {final} has no known extension; known are {' '.join(OUTPUTS)}"
        raise DataError(msg)
    files = FrameFiles(paths_of(sources), dataset, memory_limit, open_options)
    parameters = {"method": method, **settings}
    stated = stated_centers(center, files)
    planned = parameters | {"dataset": dataset, "center": [plain_center(stated[path]) for path in files.paths]}
    plan = runs.Plan("peaks", files.described, planned, {"mask": runs.array_digest(mask)})
    with runs.Run(final, plan, suffix=RECORD, resume=resume, overwrite=overwrite) as run:
        job = runs.FrameJob(run, progress=progress, stop=stop, workers=workers, executor=executor)
        tables: dict[int, tuple[int, dict[str, NDArray[Any]]]] = {}
        doubts: dict[int, dict[str, str]] = {}

        def one(k: int, path: Path, reader: Any, source: runs.Source) -> None:
            columns, n = runs.Columns(), reader.info.shape[0]
            middle = check_centers(stated[path], reader.info.shape, str(path))
            chunk = _PeakChunk(method, settings, combined_mask(mask, reader))
            pieces = ChunkPlan.from_budget(n, 4 * reader.info.pattern_bytes, limit // 2, LARGEST_CHUNK)
            job.work(reader, chunk, columns, pieces, stage=path.name, key=f"rows-{k}", source=source)
            tables[k] = (n, _with_radius(columns.arrays(), middle))
            doubts[k] = doubts_of_file(reader, chunk.mask)

        files.each(run, one, lambda k: job.forget(f"rows-{k}"))
        table = _table(final, files, tables, doubts)
        _write(run.data, [(files.paths[k], columns) for k, (_, columns) in sorted(tables.items())])
        inputs = [{"path": str(p), **d} for p, d in zip(files.paths, files.described, strict=True)]
        made = provenance(parameters, inputs, device="cpu", command=command)
        run.publish({"files": table.files, "blind": table.blind, "provenance": made}, status=table.status)
    return table


@dataclass(frozen=True)
class _PeakChunk:
    """Find the peaks of the images of a chunk; picklable."""

    method: str
    settings: Mapping[str, Any]
    mask: NDArray[np.bool_] | None

    def __call__(self, images: NDArray[Any], first: int) -> runs.Part:
        rows = [self._of_frame(image, k) for k, image in enumerate(images, first)]
        return runs.Part({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})

    def _of_frame(self, image: NDArray[Any], frame: int) -> dict[str, NDArray[Any]]:
        if is_blind(image, self.mask):
            # As of a detector that dropped out: that frame has no peaks, the others do. The row is not written.
            blank = np.full(1, np.nan)
            return {"frame": np.array([frame]), "row": blank, "col": blank, "intensity": blank, "snr": blank}
        options: dict[str, Any] = dict(self.settings)
        if self.method == "matched":
            peaks = bragg_peaks(image, mask=self.mask, **options)
        else:
            peaks = bragg_peaks_persistence(image, mask=self.mask, relative=True, **options)
        position = np.asarray(peaks.position, np.float64).reshape(-1, 2)
        return {
            "frame": np.full(len(position), frame),
            "row": position[:, 0],
            "col": position[:, 1],
            "intensity": np.asarray(peaks.intensity, np.float64),
            "snr": np.asarray(peaks.snr, np.float64),
        }


def _with_radius(columns: dict[str, NDArray[Any]], center: Any) -> dict[str, NDArray[Any]]:
    """Add the distance of each peak from its image's centre, where that is known."""
    if center is None:
        return columns
    middle = np.asarray(center, np.float64)
    middle = middle[columns["frame"]] if middle.ndim == 2 else middle[None]
    radius = np.hypot(columns["row"] - middle[:, 0], columns["col"] - middle[:, 1])
    return columns | {"radius": radius}


def is_blind(image: NDArray[Any], mask: NDArray[np.bool_] | None) -> bool:
    """Tell whether no pixel is a number where a mask has valid ones; one that has none is an error of its own."""
    seen = np.isfinite(image)
    if mask is None or mask.shape != seen.shape or not mask.any():
        return not seen.any()
    return not (seen & mask).any()


def _table(
    output: Path,
    files: FrameFiles,
    tables: Mapping[int, tuple[int, dict[str, NDArray[Any]]]],
    doubts: Mapping[int, dict[str, str]],
) -> PeakTable:
    rows: list[dict[str, Any]] = []
    blind: list[tuple[str, int]] = []
    for k, path in enumerate(files.paths):
        if k not in tables:
            rows.append({"input": str(path), "message": files.failures[path]})
            continue
        n, columns = tables[k]
        nothing = np.isnan(columns["row"])
        blind += [(str(path), int(frame)) for frame in columns["frame"][nothing]]
        without = set(columns["frame"][nothing].tolist())
        frames = flagged_frames(("empty" if frame in without else "" for frame in range(n)), str(path))
        row = {"input": str(path), "images": n, "peaks": int((~nothing).sum()), "flags": doubts[k]}
        rows.append({**row, "flagged_frames": frames, "message": ""})
    return PeakTable(output, rows, blind)


def _write(path: Path, tables: list[tuple[Path, dict[str, NDArray[Any]]]]) -> None:
    with (
        full_disk_as_data_error(path, str(path)),
        path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        known = any("radius" in columns for _, columns in tables)
        writer = csv.writer(stream)
        writer.writerow(["file", "frame", "row", "col", "intensity", "snr", *(["radius"] if known else [])])
        for source, columns in tables:
            values = (columns[name].tolist() for name in ("frame", "row", "col", "intensity", "snr"))
            more = [[f"{radius:.4f}"] for radius in columns["radius"].tolist()] if known else repeat([])
            writer.writerows(
                [str(source), frame, f"{row:.4f}", f"{col:.4f}", f"{intensity:.8g}", f"{snr:.6g}", *radius]
                for (frame, row, col, intensity, snr), radius in zip(zip(*values, strict=True), more, strict=False)
                if row == row
            )
