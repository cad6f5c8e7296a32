"""A mask of good pixels from files of images that should be alike, journalled and resumable."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops, runs
from stackalign._masks import FEW_VALID, check_mask
from stackalign.errors import DataError
from stackalign.io.images import write_images
from stackalign.io.provenance import provenance
from stackalign.io.stacks import writer_of
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from ._file_inputs import FrameFiles, paths_of
from .masks import PixelMask, PixelStatistics, check_mask_settings, combine_masks

__all__ = ["MaskFile", "mask_file"]

RECORD = "_mask.json"
BLOCK_BYTES = 1 << 26
LEAST_FRAMES = 16
"""Frames that are summed before they are merged: always the same number, so that the bits do not depend on memory."""


@dataclass(frozen=True)
class MaskFile:
    """The mask of several files' images.

    Parameters
    ----------
    output : Path
    pixels : PixelMask
        Of the images alone.
    valid : numpy.ndarray
        (H, W) boolean, what was written: combined with the mask that was given.
    failures : dict of Path to str
        Files that could not be used, and why.
    """

    output: Path
    pixels: PixelMask
    valid: NDArray[np.bool_]
    failures: dict[Path, str] = field(default_factory=dict)

    @property
    def found(self) -> PixelMask:
        """Earlier name of `pixels`."""
        return self.pixels

    @property
    def status(self) -> str:
        """Status: "failed" where a file could not be used, "short" where next to no pixel is valid, else "done"."""
        return "failed" if self.failures else "short" if self.valid.mean() < FEW_VALID else "done"

    def summary(self) -> dict[str, Any]:
        """In numbers."""
        return {
            "output": str(self.output),
            "images": self.pixels.n_images,
            "shape": list(self.valid.shape),
            "valid": int(self.valid.sum()),
            "valid_share": round(float(self.valid.mean()), 6),
            "refused": self.pixels.counts,
            "device": self.pixels.provenance["device"],
        }


def mask_file(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    limits: tuple[float, float] | float | None = (0.0, 3e4),
    max_std: float | None = None,
    dead: bool = False,
    detect: bool = False,
    beam_stop: bool = False,
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
) -> MaskFile:
    """Find the pixels that can be trusted (`mask_from_collection`) over all images of files, and write the mask.

    Parameters
    ----------
    sources : path-like or sequence of path-like
        Files that `diffread` reads.
    output : path-like
        .npy, .tif or .h5: True, or 1, where a pixel is valid. ``<stem>_mask.json`` beside it says what made it.
    limits, max_std, dead, detect, beam_stop
        See `mask_from_collection`.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid, to combine with.
    dataset : str, optional
        Which dataset, series or HDU.
    device, workers
        As for `mask_from_collection`.
    memory_limit : int, optional
        Bytes for buffers; blocks of at least 16 images are needed.
    open_options : mapping, optional
        More options of `stackalign.io.open`, such as ``skip_frames`` or ``allow_external``.
    resume, overwrite : bool
        Go on with an interrupted run of the same inputs and settings; replace an existing output.
    progress : callable, optional
    stop : StopRequest, optional
    executor : concurrent.futures.Executor, optional
        Where the blocks are worked on; the output has the same bytes.
    command : str, optional
        For the provenance.

    Returns
    -------
    MaskFile

    Raises
    ------
    DataError
        A file cannot be used, images differ in shape, or the output cannot be written.
    OutputExistsError
        The output exists and `overwrite` is off.
    FinishedError
        With `resume`: a run of the same plan has finished this output.
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    final = Path(output)
    check_mask_settings(limits, max_std)
    writer_of(final, images=True)  # refuses other formats before the work
    files = FrameFiles(paths_of(sources), dataset, memory_limit, open_options)
    if files.failures:  # a mask of some of the files would be another mask
        raise DataError(next(iter(files.failures.values())))
    _check_shapes(files, mask)
    settings = {"limits": limits, "max_std": max_std, "dead": dead, "dataset": dataset}
    settings |= {name: True for name, asked in (("detect", detect), ("beam_stop", beam_stop)) if asked}
    plan = runs.Plan("mask", files.described, settings, {"mask": runs.array_digest(mask)})
    with runs.Run(final, plan, suffix=RECORD, resume=resume, overwrite=overwrite) as run:
        job = runs.FrameJob(run, progress=progress, stop=stop, workers=workers, executor=executor)
        total = PixelStatistics(device, workers)

        def one(k: int, path: Path, reader: Any, source: runs.Source) -> None:
            collector = _Merged(workers)
            chunk = _StatisticsChunk(device, workers)
            job.work(reader, chunk, collector, _blocks(reader), stage=path.name, key=f"rows-{k}", source=source)
            kind = np.dtype(reader.info.dtype)
            total.dtype = kind if total.dtype in (None, kind) else np.dtype(np.float64)
            arrays = collector.arrays()
            total.merge(ops.StackStatistics(*(arrays[name] for name in _FIELDS)), int(arrays["n_images"]))

        files.each(run, one, lambda k: None)
        if files.failures:
            raise DataError(next(iter(files.failures.values())))
        judged = total.judged(limits=limits, max_std=max_std, dead=dead, detect=detect, beam_stop=beam_stop)
        valid = judged.mask if mask is None else combine_masks(judged, mask)
        made = MaskFile(final, judged, valid)
        # Formats of images know no truth values.
        write_images(run.data, valid if final.suffix.lower() == ".npy" else valid.astype(np.uint8), overwrite=True)
        inputs = [{"path": str(p), **d} for p, d in zip(files.paths, files.described, strict=True)]
        record = provenance(settings, inputs, device=judged.provenance["device"], command=command)
        run.publish({**made.summary(), "provenance": record}, status=made.status, summary=made.summary())
    return made


_FIELDS = ("count", "minimum", "maximum", "mean", "m2")


def _blocks(reader: Any) -> ChunkPlan:
    n = reader.info.shape[0]
    return ChunkPlan(n, max(1, min(n, max(LEAST_FRAMES, BLOCK_BYTES // max(1, reader.info.pattern_bytes)))))


def _check_shapes(files: FrameFiles, mask: NDArray[np.bool_] | None) -> None:
    first = files.described[0]
    frame = tuple(first["shape"][1:])
    for path, described in zip(files.paths, files.described, strict=True):
        if tuple(described["shape"][1:]) != frame:
            shape = tuple(described["shape"][1:])
            msg = f"images of {path} have the shape {shape}, those of {files.paths[0]} have {frame}; give one kind"
            raise DataError(msg)
    if mask is not None:
        check_mask(mask, frame, of="the images")


@dataclass(frozen=True)
class _StatisticsChunk:
    """Statistics of the images of a block; picklable."""

    device: str
    workers: int | None

    def __call__(self, images: NDArray[Any], first: int) -> runs.Part:
        statistics = ops.stack_statistics(ops.asarray(images, self.device), workers=self.workers)
        fields = {name: ops.to_numpy(getattr(statistics, name)) for name in _FIELDS}
        return runs.Part(fields | {"n_images": np.array(len(images))})


class _Merged:
    """Collector of statistics."""

    def __init__(self, workers: int | None) -> None:
        self._statistics = PixelStatistics("cpu", workers)

    def add(self, part: runs.Part) -> None:
        """Merge the statistics of the next block."""
        fields = (part.columns[name] for name in _FIELDS)
        self._statistics.merge(ops.StackStatistics(*fields), int(part.columns["n_images"]))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything so far."""
        return self._statistics.arrays()

    def restore(self, arrays: Mapping[str, NDArray[Any]], done: int) -> None:
        """Take over what was saved."""
        self._statistics.restore(arrays)
