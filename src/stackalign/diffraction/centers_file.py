"""Centres of the images of files, in a table, journalled and resumable; and such tables read again."""

import csv
import json
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign._results import flagged_frames
from stackalign.device import default_memory_limit
from stackalign.errors import DataError
from stackalign.io._reader import damage_as_data_error
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.provenance import dump_json, provenance
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from ._file_inputs import FrameFiles, combined_mask, paths_of
from ._no_pattern import doubts_of_file
from .center import Center, autocenter

__all__ = ["CenterTable", "center_file", "load_center_table", "read_centers"]

OUTPUTS = (".csv", ".json")
RECORD = "_centers.json"
COLUMNS = ("row", "col", "sigma", "confidence", "kind", "flags")
LEAST_GUIDED, GUIDES = 24, 5
"""Images of a scan from which most are looked at near the centres of so many."""
LARGEST_CHUNK = 16
"""Frames; finding a centre takes long enough that a stop should be heard, and progress seen, after a few."""


@dataclass(frozen=True)
class CenterTable:
    """Centres of all images of several files.

    Parameters
    ----------
    output : Path
    rows : list of dict
        One for each image: file, frame, row, col, sigma (standard error in pixels), confidence, kind and flags.
    failures : dict of Path to str
        Files that could not be used, and why.
    doubts: dict of str to dict
        By the path of a file whose images show no pattern: flags, each with a sentence.
    """

    output: Path
    rows: list[dict[str, Any]]
    failures: dict[Path, str] = field(default_factory=dict)
    doubts: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def flagged(self) -> int:
        """Number of images of which the centre is not certain."""
        return sum(bool(row["flags"]) for row in self.rows)

    @property
    def status(self) -> str:
        """Status: "failed" where a file could not be used, "flagged" where a centre is not certain, or "done"."""
        return "failed" if self.failures else "flagged" if self.flagged or self.doubts else "done"


def center_file(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    mask: NDArray[np.bool_] | None = None,
    dataset: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    memory_limit: int | None = None,
    open_options: Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
    command: str | None = None,
) -> CenterTable:
    """Find the centres (`autocenter`) of all images of files, and write a table of them.

    Parameters
    ----------
    sources : path-like or sequence of path-like
        Files that `diffread` reads; one that cannot be used does not stop the others.
    output : path-like
        .csv or .json; ``<stem>_centers.json`` beside it says what made it.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid.
    dataset : str, optional
        Which dataset, series or HDU.
    device, workers
        As for `autocenter`.
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

    Returns
    -------
    CenterTable

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
    if final.suffix.lower() not in OUTPUTS:
        msg = f"output {final} has no known extension; known are {' '.join(OUTPUTS)}"
        raise DataError(msg)
    files = FrameFiles(paths_of(sources), dataset, memory_limit, open_options)
    plan = runs.Plan("center", files.described, {"dataset": dataset}, {"mask": runs.array_digest(mask)})
    with runs.Run(final, plan, suffix=RECORD, resume=resume, overwrite=overwrite) as run:
        job = runs.FrameJob(run, progress=progress, stop=stop, workers=workers, executor=executor)
        tables: dict[int, dict[str, NDArray[Any]]] = {}
        doubts: dict[str, dict[str, str]] = {}

        def one(k: int, path: Path, reader: Any, source: runs.Source) -> None:
            columns = runs.Columns()
            together = combined_mask(mask, reader)
            chunk = _CenterChunk(together, device, workers, _guide(reader, together, device, workers))
            pieces = ChunkPlan.from_budget(
                reader.info.shape[0], 4 * reader.info.pattern_bytes, limit // 2, LARGEST_CHUNK
            )
            job.work(reader, chunk, columns, pieces, stage=path.name, key=f"rows-{k}", source=source)
            tables[k] = columns.arrays()
            if known := doubts_of_file(reader, together):
                doubts[str(path)] = known

        files.each(run, one, lambda k: job.forget(f"rows-{k}"))
        rows = [row for k, columns in sorted(tables.items()) for row in _rows(files.paths[k], columns)]
        table = CenterTable(final, rows, files.failures, doubts)
        _write(run.data, rows)
        inputs = [{"path": str(p), **d} for p, d in zip(files.paths, files.described, strict=True)]
        made = provenance({"dataset": dataset}, inputs, device=device, command=command)
        failures = {str(path): text for path, text in files.failures.items()}
        summary = {"images": len(rows), "flagged": table.flagged}
        frames = [frame for path in dict.fromkeys(row["file"] for row in rows) for frame in _flagged(rows, path)]
        record = {"failures": failures, "flags": doubts, "flagged_frames": frames, "provenance": made}
        run.publish(record, status=table.status, summary=summary)
    return table


def _guide(reader: Any, mask: NDArray[np.bool_] | None, device: str, workers: int | None) -> Center | None:
    """Centres of a few images all over a scan, near which those of the others are looked for; None of a short one."""
    shape = reader.info.shape
    if shape[0] < LEAST_GUIDED:
        return None
    frames = np.linspace(0, shape[0] - 1, GUIDES).astype(int)
    images = np.empty((GUIDES, *shape[1:]), reader.info.dtype)
    for k, frame in enumerate(frames):
        reader.read(int(frame), int(frame) + 1, images[k : k + 1])
    return autocenter(images, mask=mask, device=device, workers=workers)


@dataclass(frozen=True)
class _CenterChunk:
    """Find the centres of the images of a chunk; picklable."""

    mask: NDArray[np.bool_] | None
    device: str
    workers: int | None
    guide: Center | None = None

    def __call__(self, images: NDArray[Any], first: int) -> runs.Part:
        result = autocenter(images, mask=self.mask, guide=self.guide, device=self.device, workers=self.workers)
        centers = np.asarray(result.center, np.float64).reshape(-1, 2)
        return runs.Part(
            {
                "row": centers[:, 0],
                "col": centers[:, 1],
                "sigma": np.asarray(result.sigma, np.float64).reshape(-1),
                "confidence": np.asarray(result.confidence, np.float64).reshape(-1),
                "kind": np.array(result.kind),
                "flags": np.array([" ".join(flags) for flags in result.flags]),
            }
        )


def _flagged(rows: list[dict[str, Any]], path: str) -> list[dict[str, Any]]:
    return flagged_frames((row["flags"] for row in rows if row["file"] == path), path)


def _rows(path: Path, columns: dict[str, NDArray[Any]]) -> list[dict[str, Any]]:
    values = (columns[name].tolist() for name in COLUMNS)
    return [
        {"file": str(path), "frame": frame, **dict(zip(COLUMNS, row, strict=True))}
        for frame, row in enumerate(zip(*values, strict=True))
    ]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    with full_disk_as_data_error(path, str(path)):
        if path.suffix.lower() == ".json":
            path.write_text(dump_json(rows), encoding="utf-8")
            return
        with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
            writer = csv.DictWriter(stream, ("file", "frame", *COLUMNS))
            writer.writeheader()
            writer.writerows(rows)


def load_center_table(output: Path, record: dict[str, Any]) -> CenterTable:
    """Load what an earlier run has written, with the record that a `FinishedError` carries."""
    rows: list[dict[str, Any]] = _table_rows(output)
    for row in rows:
        row["frame"] = int(row["frame"])
        for name in ("row", "col", "sigma", "confidence"):
            row[name] = float("nan") if row[name] in (None, "") else float(row[name])
    return CenterTable(
        output, rows, {Path(path): text for path, text in record["failures"].items()}, record.get("flags", {})
    )


def read_centers(
    path: str | os.PathLike[str], source: str | os.PathLike[str] | None = None, *, n_images: int | None = None
) -> NDArray[np.float64]:
    """Read the centres of a file's images from a table.

    Parameters
    ----------
    path : path-like
        .csv or .json as `center_file` writes it, or .npy of the shape (N, 2).
    source : path-like, optional
        Which file's images, where the table has several: compared by name.
    n_images : int, optional
        How many there should be.

    Returns
    -------
    numpy.ndarray
        (N, 2) float64, (row, col) in pixel indices.

    Raises
    ------
    DataError
        The table cannot be read, has no such file, or another number of images.
    """
    table = Path(path)
    if not table.is_file():
        msg = f"table of centres {table} does not exist; `center_file` makes one"
        raise DataError(msg)
    with damage_as_data_error(str(table), "the centres"):
        if table.suffix.lower() == ".npy":
            centers = np.asarray(np.load(table, allow_pickle=False), np.float64)
        else:
            centers = _of_rows(_table_rows(table), table, source)
    if centers.ndim != 2 or centers.shape[1] != 2 or not len(centers):
        msg = f"{table} holds no centres (N, 2), but an array of the shape {centers.shape}"
        raise DataError(msg)
    if n_images is not None and len(centers) != n_images:
        of = "" if source is None else f" of {Path(source).name}"
        msg = f"{table} has {len(centers)} centres{of}, there are {n_images} images"
        raise DataError(msg)
    return centers


def _table_rows(table: Path) -> list[dict[str, Any]]:
    if table.suffix.lower() == ".json":
        rows = json.loads(table.read_text(encoding="utf-8"))
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            msg = f"{table} cannot be read as a table of centres: it holds no list of rows"
            raise DataError(msg)
        return rows
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as stream:
        return list(csv.DictReader(stream))


def _of_rows(rows: list[dict[str, Any]], table: Path, source: str | os.PathLike[str] | None) -> NDArray[np.float64]:
    if not rows or not {"row", "col"} <= rows[0].keys():
        msg = f"{table} has no columns row and col; `center_file` writes such a table"
        raise DataError(msg)
    names = list(dict.fromkeys(str(row.get("file", "")) for row in rows))
    if len(names) > 1:
        stem = None if source is None else Path(source).name
        chosen = [name for name in names if name == str(source)] or [n for n in names if Path(n).name == stem]
        if len(chosen) != 1:
            msg = f"{table} has the centres of {len(names)} files ({', '.join(names[:3])}), none of them for {source}"
            raise DataError(msg)
        rows = [row for row in rows if str(row["file"]) == chosen[0]]
    if "frame" in rows[0]:
        rows = sorted(rows, key=lambda row: int(row["frame"]))
    return np.array([[float(row["row"]), float(row["col"])] for row in rows])
