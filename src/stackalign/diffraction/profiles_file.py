"""Radial profiles and polar images of the images of files, journalled and resumable."""

import csv
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign._results import flagged_frames
from stackalign.device import default_memory_limit
from stackalign.errors import DataError
from stackalign.io._hdf5_memory import write_datasets
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.provenance import provenance
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from ._file_inputs import FrameFiles, check_centers, combined_mask, paths_of, plain_center, stated_centers
from ._no_pattern import doubts_of_file
from .center import autocenter
from .profile import AzimuthalProfile, azimuthal_average

__all__ = ["ProfileTable", "profile_file"]

OUTPUTS = (".csv", ".npz", ".h5")
RECORD = "_profile.json"
CHUNK_BYTES = 1 << 26
_PADDING = {"intensity": np.nan, "variance": np.nan, "weight": 0.0}


@dataclass(frozen=True)
class ProfileTable:
    """Profiles of the images of several files.

    Parameters
    ----------
    output : Path
    files : list of dict
        For each file: input, images, uncertain (centres that were found and are not certain), flags (with a sentence
        each, where the images show no pattern), flagged_frames, and message, empty where it could be used.
    radii : int
        Length of the longest profile.
    first : dict of Path to AzimuthalProfile
        Of each file the profiles of its images, for pictures.
    """

    output: Path
    files: list[dict[str, Any]]
    radii: int
    first: Mapping[Path, AzimuthalProfile]

    @property
    def status(self) -> str:
        """Status: "failed" where a file could not be used, "flagged" for doubts of centres or patterns, else "done"."""
        if any(row["message"] for row in self.files):
            return "failed"
        return "flagged" if any(row.get("uncertain") or row.get("flags") for row in self.files) else "done"


def profile_file(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    center: Any = None,
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
    **settings: Any,
) -> ProfileTable:
    """Average the images of files around their centres (`azimuthal_average`), all into one file.

    Parameters
    ----------
    sources : path-like or sequence of path-like
        Files that `diffread` reads; one that cannot be used does not stop the others.
    output : path-like
        .csv with long columns, or .npz or .h5 with arrays; ``<stem>_profile.json`` beside it says what made it.
    center : tuple of float, numpy.ndarray or callable, optional
        (row, col), or (N, 2) one for each image, or a function that gives either for a path; that which `autocenter`
        finds for each image by default.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid.
    dataset : str, optional
        Which dataset, series or HDU.
    device, workers
        As for `azimuthal_average`.
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
        ``n_angles``, ``angular_bounds``, ``radial_bounds``, ``step``, ``split``, ``ellipse`` of `azimuthal_average`.

    Returns
    -------
    ProfileTable

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
    stated = stated_centers(center, files)
    parameters = {**settings, "dataset": dataset, "center": [plain_center(stated[path]) for path in files.paths]}
    plan = runs.Plan("profile", files.described, parameters, {"mask": runs.array_digest(mask)})
    with runs.Run(final, plan, suffix=RECORD, resume=resume, overwrite=overwrite) as run:
        job = runs.FrameJob(run, progress=progress, stop=stop, workers=workers, executor=executor)
        tables: dict[int, dict[str, NDArray[Any]]] = {}
        doubts: dict[int, dict[str, str]] = {}

        def one(k: int, path: Path, reader: Any, source: runs.Source) -> None:
            middle = check_centers(stated[path], reader.info.shape, str(path))
            columns = _Profiles()
            chunk = _ProfileChunk(middle, combined_mask(mask, reader), settings, device, workers)
            pieces = ChunkPlan.from_budget(
                reader.info.shape[0], 4 * reader.info.pattern_bytes, min(limit // 2, 4 * CHUNK_BYTES)
            )
            job.work(reader, chunk, columns, pieces, stage=path.name, key=f"rows-{k}", source=source)
            tables[k], doubts[k] = columns.arrays(), doubts_of_file(reader, chunk.mask)

        files.each(run, one, lambda k: job.forget(f"rows-{k}"))
        inputs = [{"path": str(p), **d} for p, d in zip(files.paths, files.described, strict=True)]
        made = provenance(settings, inputs, device=device, command=command)
        table = _table(final, files, tables, doubts, made)
        _write(run.data, [(files.paths[k], columns) for k, columns in sorted(tables.items())])
        run.publish({"files": table.files, "radii": table.radii, "provenance": made}, status=table.status)
    return table


@dataclass(frozen=True)
class _ProfileChunk:
    """Average the images of a chunk; picklable."""

    center: Any
    mask: NDArray[np.bool_] | None
    settings: Mapping[str, Any]
    device: str
    workers: int | None

    def __call__(self, images: NDArray[Any], first: int) -> runs.Part:
        n = len(images)
        center, confidence, flags = self.center, np.full(n, np.nan), [""] * n
        if isinstance(center, np.ndarray):
            center = center[first : first + n]
        if center is None:
            centers = autocenter(images, mask=self.mask, device=self.device, workers=self.workers)
            center, confidence = centers.center, np.asarray(centers.confidence, np.float64)
            flags = [" ".join(words) for words in centers.flags]
        made = azimuthal_average(
            images, center, mask=self.mask, device=self.device, workers=self.workers, **self.settings
        )
        columns = {
            "intensity": made.intensity,
            "variance": made.variance,
            "weight": made.weight,
            "center": np.broadcast_to(made.centers, (n, 2)).copy(),
            "confidence": confidence,
            "flags": np.array(flags),
        }
        grid = {"radius": made.radius} | ({} if made.angle is None else {"angle": made.angle})
        return runs.Part(columns | grid)


class _Profiles(runs.Columns):
    """Collector of profiles: those of a chunk with fewer radii are filled up with NaN."""

    def __init__(self) -> None:
        super().__init__()
        self._grid: dict[str, NDArray[Any]] = {}

    def add(self, part: runs.Part) -> None:
        """Append the profiles of a part."""
        columns = dict(part.columns)
        grid: dict[str, NDArray[Any]] = {name: columns.pop(name) for name in ("radius", "angle") if name in columns}
        if not self._grid or grid["radius"].size > self._grid["radius"].size:
            self._grid = grid
        super().add(runs.Part(columns))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """All profiles, of one length."""
        if not self._parts:
            return {}
        self._parts = [_padded(part, self._grid["radius"].size) for part in self._parts]
        return super().arrays() | self._grid

    def restore(self, arrays: Mapping[str, NDArray[Any]], done: int) -> None:
        """Take over saved profiles."""
        columns = dict(arrays)
        self._grid = {name: columns.pop(name) for name in ("radius", "angle") if name in columns}
        super().restore(columns, done)


def _padded(columns: Mapping[str, NDArray[Any]], size: int) -> dict[str, NDArray[Any]]:
    """Fill profiles up to a number of radii."""
    filled = dict(columns)
    for name, value in _PADDING.items():
        values = columns[name]
        missing = size - values.shape[-1]
        if missing:
            pad = [(0, 0)] * (values.ndim - 1) + [(0, missing)]
            filled[name] = np.pad(values, pad, constant_values=value)
    return filled


def _table(
    output: Path,
    files: FrameFiles,
    tables: Mapping[int, dict[str, NDArray[Any]]],
    doubts: Mapping[int, dict[str, str]],
    made: dict[str, Any],
) -> ProfileTable:
    rows: list[dict[str, Any]] = []
    profiles: dict[Path, AzimuthalProfile] = {}
    for k, path in enumerate(files.paths):
        if k not in tables:
            rows.append({"input": str(path), "message": files.failures[path]})
            continue
        columns = tables[k]
        frames = flagged_frames(columns["flags"].tolist(), str(path))
        row = {"input": str(path), "images": len(columns["intensity"]), "uncertain": len(frames)}
        rows.append({**row, "flags": doubts[k], "flagged_frames": frames, "message": ""})
        profiles[path] = AzimuthalProfile(
            columns["radius"], columns.get("angle"), columns["intensity"], columns["variance"], columns["weight"],
            columns["center"], made,
        )  # fmt: skip
    return ProfileTable(output, rows, max(p.radius.size for p in profiles.values()), profiles)


def _write(output: Path, parts: list[tuple[Path, dict[str, NDArray[Any]]]]) -> None:
    """All profiles in one file, NaN beyond the radii of the shorter ones."""
    longest = max((columns for _, columns in parts), key=lambda columns: columns["radius"].size)
    filled = [(path, _padded(columns, longest["radius"].size)) for path, columns in parts]
    arrays = {"radius": longest["radius"]}
    for name in ("intensity", "variance", "weight", "center", "confidence", "flags"):
        arrays[name] = np.concatenate([columns[name] for _, columns in filled])
    counts = [len(columns["intensity"]) for _, columns in filled]
    arrays["source"] = np.array([str(path) for (path, _), n in zip(filled, counts, strict=True) for _ in range(n)])
    arrays["frame"] = np.concatenate([np.arange(n) for n in counts])
    if "angle" in longest:
        arrays["angle"] = longest["angle"]
    with full_disk_as_data_error(output, str(output), sum(a.nbytes for a in arrays.values())):
        if output.suffix.lower() == ".npz":
            np.savez_compressed(output, **arrays)  # type: ignore[arg-type]  # a name may not be allow_pickle
        elif output.suffix.lower() == ".h5":
            write_datasets(output, arrays)
        else:
            _write_csv(output, arrays)


def _write_csv(path: Path, arrays: dict[str, Any]) -> None:
    """One row per file, frame, sector and radius."""
    angle = arrays.get("angle")
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["file", "frame", "center_row", "center_col", *([] if angle is None else ["angle_deg"]), "radius_px",
             "intensity", "variance", "weight"]
        )  # fmt: skip
        for k, (name, frame, center) in enumerate(
            zip(arrays["source"], arrays["frame"], arrays["center"], strict=True)
        ):
            rows = np.atleast_2d(arrays["intensity"][k])
            for a, intensity in enumerate(rows):
                sector = [] if angle is None else [f"{angle[a]:.10g}"]
                other = [np.atleast_2d(arrays[n][k])[a] for n in ("variance", "weight")]
                for radius, *numbers in zip(arrays["radius"], intensity, *other, strict=True):
                    if numbers[2] > 0:
                        start = [name, int(frame), f"{center[0]:.6f}", f"{center[1]:.6f}", *sector]
                        writer.writerow([*start, f"{radius:.10g}", *(f"{v:.10g}" for v in numbers)])
