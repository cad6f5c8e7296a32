"""The drift of the frames of a file, and the file of aligned frames; journalled and resumable."""

import os
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign._blas import on_one_thread
from stackalign._masks import file_mask
from stackalign.device import default_memory_limit, working
from stackalign.errors import DataError, Interrupted
from stackalign.io import StackReader
from stackalign.io.images import image_extensions, write_images
from stackalign.io.provenance import provenance
from stackalign.io.stacks import is_fits, open_stack, writable_extensions
from stackalign.ops import asarray, device_of, resample_affine
from stackalign.ops._check import n_workers
from stackalign.ops.transfer import to_numpy
from stackalign.runs import ChunkPlan, Progress, ProgressCallback, StopRequest

from ._record import from_arrays, from_record, to_arrays, to_record
from .result import DriftResult
from .series import filled_frames, require_frames, solved

__all__ = ["DriftFile", "drift_file", "load_drift_file"]

RECORD = "_drift.json"

_ESTIMATE = "estimate"

BYTES_PER_PIXEL = 48
"""Of a frame that is resampled: as it is, in float64, its spline coefficients, and the result."""

LARGEST_CHUNK = 1 << 24
"""Pixels of the frames that are resampled together."""


@dataclass(frozen=True)
class DriftFile:
    """What became of a series in a file.

    Parameters
    ----------
    source, output : Path
    average_path : Path or None
        Where the average was written.
    result : DriftResult
    provenance : dict
    seconds : float
    first, average : numpy.ndarray or None
        (H, W) the reference frame, and the mean of the aligned frames that are not flagged, for pictures; None where a
        run had nothing to do.
    unaligned : numpy.ndarray or None
        (H, W) mean of the frames as they are.
    """

    source: Path
    output: Path
    average_path: Path | None
    result: DriftResult
    provenance: Mapping[str, Any] = field(repr=False)
    seconds: float
    first: NDArray[Any] | None = field(default=None, repr=False)
    average: NDArray[Any] | None = field(default=None, repr=False)
    unaligned: NDArray[Any] | None = field(default=None, repr=False)

    @property
    def status(self) -> str:
        """Status: "flagged" where the drift of a frame should not be trusted, else "done"."""
        return "done" if self.result.ok.all() else "flagged"


def drift_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    average: str | os.PathLike[str] | None = None,
    mask: NDArray[np.bool_] | None = None,
    max_step: float | None = None,
    pairs_per_frame: int = 8,
    reference: int = 0,
    order: int = 3,
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
) -> DriftFile:
    """Find the drift of the frames of a file (`estimate_drift`) and write them aligned.

    Frames are read several times rather than held. Beside the output stands ``<stem>_drift.json`` with shifts, error
    bars and flags.

    Parameters
    ----------
    source : path-like
        A stack of at least three frames.
    output : path-like
        Aligned frames, .npy, .h5, .zarr, .tif or .fits; float32, or float64 for a source of that type.
    average : path-like, optional
        Image of the mean of the aligned frames that are not flagged.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid.
    max_step, pairs_per_frame, reference
        As for `estimate_drift`.
    order : int
        0, 1 or 3, of the resampling.
    dataset : str, optional
        Which dataset, series or HDU.
    device : str
        Where frames are resampled; the drift is found on the CPU.
    workers : int, optional
        Number of CPU threads.
    memory_limit : int, optional
        Bytes for buffers.
    open_options : mapping, optional
        More options of `stackalign.io.open`.
    resume, overwrite : bool
        Go on with an interrupted run of the same inputs and settings; replace an existing output.
    progress : callable, optional
    stop : StopRequest, optional
    executor : concurrent.futures.Executor, optional
        Where frames are resampled; the output has the same bytes.
    command : str, optional
        For the provenance.

    Returns
    -------
    DriftFile

    Raises
    ------
    DataError
        The file cannot be used; nothing is left under the final names.
    OutputExistsError
        The output exists and `overwrite` is off.
    FinishedError
        With `resume`: a run of the same plan has finished this output.
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    began = time.perf_counter()
    workers = n_workers(workers)
    final, limit = Path(output), memory_limit or default_memory_limit()
    mean_path = None if average is None else Path(average)
    _check_outputs(Path(source), final, mean_path)
    opener = partial(open_stack, source, dataset=dataset, memory_limit=limit, **(open_options or {}))
    settings = {"max_step": max_step, "pairs_per_frame": pairs_per_frame, "reference": reference, "order": order}
    with closing(opener()) as reader:
        n, height, width = reader.info.shape
        require_frames(n)
        _check_reference(reference, n, source)
        valid = file_mask(mask, reader.info.mask, (height, width), of=f"the frames of {source}")
        described = runs.input_record(reader, dataset=dataset, **(open_options or {}))
        parameters = {**settings, "average": None if mean_path is None else mean_path.name}
        plan = runs.Plan("drift", [described], parameters, {"mask": runs.array_digest(valid)})
        beside = [] if mean_path is None else [mean_path]
        with runs.Run(
            final, plan, suffix=RECORD, resume=resume, overwrite=overwrite, readers=[reader], beside=beside
        ) as run:
            frames = _ReadFrames(reader, valid, stop)
            with working(workers), on_one_thread():
                result = _estimated(run, frames, settings, progress, workers, limit)
            job = runs.FrameJob(run, progress=progress, stop=stop, workers=workers, executor=executor)
            chunk = _Resample(result, valid, order, device, workers)
            _aligned(run, job, reader, chunk, limit, runs.Source.of(opener, described["fingerprint"]))
            mean = _averaged(run, result, limit)
            made = provenance(
                {name: value for name, value in settings.items() if value is not None},
                [{"path": str(source), "shape": [n, height, width]}],
                device=device if executor is not None else device_of(asarray(np.zeros(1), device)),
                command=command,
            )
            names = {"input": str(source), "output": str(final), "average": None if average is None else str(average)}
            record = {**names, "drift": to_record(result), "provenance": made}
            files = _average_file(run, mean_path, mean)
            run.publish(record, files, status="done" if result.ok.all() else "flagged")
        first = frames.read(reference, reference + 1)[0]
        plain = _plain_mean(frames)
    seconds = time.perf_counter() - began
    return DriftFile(Path(source), final, mean_path, result, made, seconds, first, mean, plain)


def load_drift_file(record: Mapping[str, Any]) -> DriftFile:
    """Make the result of a finished run from its record.

    Parameters
    ----------
    record : mapping
        What ``<stem>_drift.json`` or a `FinishedError` holds.

    Returns
    -------
    DriftFile
        Without pictures.
    """
    average = record["average"]
    return DriftFile(
        Path(record["input"]),
        Path(record["output"]),
        None if average is None else Path(average),
        from_record(record["drift"]),
        record["provenance"],
        0.0,
    )


def _check_outputs(source: Path, final: Path, average: Path | None) -> None:
    known = (*writable_extensions(), *image_extensions())
    for path, what in ((final, "output"), (average, "average")):
        if path is None:
            continue
        if path.suffix.lower() not in (known if what == "output" else image_extensions()) and not is_fits(path):
            msg = f"{what} {path} has no known extension; known are {' '.join(dict.fromkeys(known))}"
            raise DataError(msg)
        if path.exists() and path.resolve() == source.resolve():
            msg = f"{what} {path} is the input; choose another name"
            raise DataError(msg)
    if average is not None and average.absolute().parent != final.absolute().parent:
        msg = f"average {average} must be in the folder of the output, {final.absolute().parent}"
        raise DataError(msg)
    if average is not None and average.name == final.name:
        msg = f"average and output are both {final}; choose another name"
        raise DataError(msg)


def _check_reference(reference: int, n: int, source: object) -> None:
    if not 0 <= reference < n:
        msg = f"{source} has the frames 0 to {n - 1}, there is no frame {reference} to be the reference"
        raise DataError(msg)


class _ReadFrames:
    """Frames of a file, read as they are asked for."""

    def __init__(self, reader: StackReader, valid: NDArray[np.bool_] | None, stop: StopRequest | None) -> None:
        self._reader, self._valid = reader, valid
        self._stop = StopRequest() if stop is None else stop
        n, height, width = reader.info.shape
        self.shape = (n, height, width)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        if self._stop:
            msg = "stopped while the drift was estimated"
            raise Interrupted(msg)
        block = np.empty((stop - start, *self.shape[1:]), self._reader.info.dtype)
        self._reader.read(start, stop, block)
        return filled_frames(block, self._valid)


def _estimated(
    run: runs.Run,
    frames: _ReadFrames,
    settings: Mapping[str, Any],
    progress: ProgressCallback | None,
    workers: int | None,
    limit: int,
) -> DriftResult:
    """The drift, saved once it is known, since every frame of the output follows from it."""
    if run.journal.has_arrays(_ESTIMATE):
        return from_arrays(run.journal.load_arrays(_ESTIMATE), settings["reference"])
    # A run that is interrupted before anything is known belongs to this plan all the same.
    run.note(estimated=False)
    n, height, width = frames.shape
    report = Progress.reporter(progress, "drift", n, 4 * height * width)
    result = solved(
        frames,
        max_step=settings["max_step"],
        pairs_per_frame=settings["pairs_per_frame"],
        reference=settings["reference"],
        workers=workers,
        budget=limit // 2,
        report=report,
    )
    with run.checkpoint():
        run.journal.save_arrays(_ESTIMATE, **to_arrays(result))
        run.note(estimated=True)
    return result


@dataclass(frozen=True)
class _Resample:
    """Move the frames of a chunk; picklable."""

    result: DriftResult
    valid: NDArray[np.bool_] | None
    order: int
    device: str
    workers: int | None

    def __call__(self, block: NDArray[Any], first: int) -> runs.Part:
        dtype = _written_type(block.dtype)
        frames = block.astype(dtype)
        if self.valid is not None:
            frames[:, ~self.valid] = np.nan
        matrices = self.result.matrices()[first : first + len(frames)]
        moved = resample_affine(asarray(frames, self.device), matrices, order=self.order, workers=self.workers)
        return runs.Part({}, to_numpy(moved).astype(dtype, copy=False))


def _written_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def _aligned(
    run: runs.Run, job: runs.FrameJob, reader: StackReader, chunk: _Resample, limit: int, source: runs.Source
) -> None:
    """Resample what is not done yet."""
    info = reader.info
    n, height, width = info.shape
    output = runs.StackOutput(
        run, (n, height, width), _written_type(info.dtype), scan_shape=info.scan_shape, remote=job.remote
    )
    pixels = height * width
    plan = ChunkPlan.from_budget(n, pixels * BYTES_PER_PIXEL, limit // 2, max(1, LARGEST_CHUNK // pixels))
    try:
        job.work(reader, chunk, runs.Columns(), plan, stage="resample", output=output, source=source)
        output.finish()
    finally:
        output.close()


def _averaged(run: runs.Run, result: DriftResult, limit: int) -> NDArray[np.float32]:
    """Mean of the frames that were written and are not flagged, or of all where all are.

    They are added one by one in order, so that its bytes depend on neither chunks nor workers.
    """
    chosen = result.ok if result.ok.any() else np.ones(len(result), np.bool_)
    with closing(open_stack(run.data, memory_limit=limit)) as reader:
        total, count = np.zeros(reader.info.shape[1:]), np.zeros(reader.info.shape[1:])
        block = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
        for k in np.flatnonzero(chosen):
            reader.read(int(k), int(k) + 1, block)
            seen = np.isfinite(block[0])
            total[seen] += block[0][seen]
            count += seen
    mean = np.full(total.shape, np.nan, np.float32)
    np.divide(total, count, out=mean, where=count > 0, casting="unsafe")
    return mean


def _average_file(run: runs.Run, final: Path | None, mean: NDArray[np.float32]) -> dict[Path, Path]:
    """Write the average beside the data; where it is to go."""
    if final is None:
        return {}
    piece = run.data.with_name("average" + final.suffix)
    write_images(piece, mean, overwrite=True)
    return {piece: final}


def _plain_mean(frames: _ReadFrames) -> NDArray[np.float32]:
    """Mean of the frames as they are, of at most 64 of them."""
    some = np.unique(np.linspace(0, frames.shape[0] - 1, 64).astype(int))
    total = np.zeros(frames.shape[1:])
    for k in some:
        total += frames.read(int(k), int(k) + 1)[0]
    return (total / len(some)).astype(np.float32)
