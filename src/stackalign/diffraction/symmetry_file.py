"""Averages by symmetry of the images of a file, in pieces, journalled and resumable."""

import os
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign._results import flagged_frames
from stackalign.backends._threads import governed
from stackalign.device import default_memory_limit
from stackalign.errors import DataError, OutputExistsError
from stackalign.io import StackReader, open_stack
from stackalign.io.formats import STORES
from stackalign.io.images import image_extensions
from stackalign.io.provenance import provenance
from stackalign.io.stacks import writable_extensions
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from ._file_inputs import check_centers, combined_mask
from ._no_pattern import doubts_of_file
from .center import autocenter
from .symmetry import nfold

__all__ = ["AveragedFile", "nfold_file"]

BYTES_PER_PIXEL = 24
LARGEST_CHUNK = 1 << 26
RECORD = "_nfold.json"


class AveragedFile(NamedTuple):
    """How many images were averaged, of how many the centre that was found is not certain, and doubts of the file.

    The doubts are flags with a sentence, where the images show no pattern.
    """

    images: int
    uncertain: int
    flags: Mapping[str, str] = MappingProxyType({})


@governed
def nfold_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    fold: int,
    *,
    center: tuple[float, float] | NDArray[np.floating[Any]] | None = None,
    mask: NDArray[np.bool_] | None = None,
    fill_value: float = np.nan,
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
) -> AveragedFile:
    """Write the averages (`nfold`) of all images of a file.

    Parameters
    ----------
    source, output : path-like
        A file that `diffread` reads, and one that can be written; ``<stem>_nfold.json`` beside it says what made it.
    fold : int
    center : tuple of float or numpy.ndarray, optional
        (row, col), or (N, 2) one for each image; that which `autocenter` finds for each image by default.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid.
    fill_value : float
    dataset : str, optional
        Which dataset, series or HDU.
    device, workers
        As for `nfold`.
    memory_limit : int, optional
        Bytes for buffers.
    open_options : mapping, optional
        More options of `stackalign.io.open`, such as ``skip_frames`` or ``allow_external``.
    resume, overwrite : bool
        Go on with an interrupted run of the same settings; replace an existing output.
    progress : callable, optional
    stop : StopRequest, optional
    executor : concurrent.futures.Executor, optional
        Where the chunks are worked on; the output has the same bytes.
    command : str, optional
        For the provenance.

    Returns
    -------
    AveragedFile
        Numbers of images, and of those whose centre was found and is not certain.

    Raises
    ------
    DataError
        A file cannot be used; nothing is left under the final name.
    OutputExistsError
        The output exists and `overwrite` is off.
    FinishedError
        With `resume`: a run of the same plan has finished this output.
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    final, limit = Path(output), memory_limit or default_memory_limit()
    _check_output(final)
    opener = partial(open_stack, source, dataset=dataset, memory_limit=limit, **(open_options or {}))
    reader = opener()
    try:
        n = reader.info.shape[0]
        stated = check_centers(center, reader.info.shape, str(source))
        valid = combined_mask(mask, reader)
        chunk = _NfoldChunk(fold, stated, valid, fill_value, device, workers)
        settings = {
            "fold": fold,
            "center": None if stated is None else stated if isinstance(stated, tuple) else runs.array_digest(stated),
            "fill_value": str(fill_value),
        }
        described = runs.input_record(reader, dataset=dataset, **(open_options or {}))
        plan = runs.Plan("nfold", [described], settings, {"mask": runs.array_digest(valid)})
        with runs.Run(final, plan, suffix=RECORD, resume=resume, overwrite=overwrite, readers=[reader]) as run:
            job = runs.FrameJob(run, progress=progress, stop=stop, workers=workers, executor=executor)
            origin = runs.Source.of(opener, described["fingerprint"])
            frames = flagged_frames(_averaged(run, job, reader, chunk, limit, origin))
            uncertain, doubts = len(frames), doubts_of_file(reader, valid)
            made = provenance(settings, [{"path": str(source), **described}], device=device, command=command)
            summary = {"images": n, "uncertain": uncertain}
            record = {**summary, "flags": doubts, "flagged_frames": frames, "provenance": made}
            run.publish(record, status="flagged" if uncertain or doubts else "done", summary=summary)
    finally:
        reader.close()
    return AveragedFile(n, uncertain, doubts)


def _averaged(
    run: runs.Run, job: runs.FrameJob, reader: StackReader, chunk: "_NfoldChunk", limit: int, source: runs.Source
) -> list[str]:
    """Average what is not done yet; the flags of each image's centre, if it was found."""
    info = reader.info
    n, height, width = info.shape
    dtype = np.dtype(np.float64 if info.dtype == np.float64 else np.float32)
    written = runs.StackOutput(
        run, (n, height, width), dtype, scan_shape=info.scan_shape, single=n == 1, remote=job.remote
    )
    columns = runs.Columns()
    largest = max(1, LARGEST_CHUNK // (height * width))
    pieces = ChunkPlan.from_budget(n, height * width * BYTES_PER_PIXEL, limit // 2, largest)
    try:
        job.work(reader, chunk, columns, pieces, stage="nfold", output=written, source=source)
        written.finish()
    finally:
        written.close()
    flags: list[str] = columns.arrays()["flags"].tolist()
    return flags


@dataclass(frozen=True)
class _NfoldChunk:
    """Average the images of a chunk; picklable."""

    fold: int
    center: tuple[float, float] | NDArray[np.float64] | None
    mask: NDArray[np.bool_] | None
    fill_value: float
    device: str
    workers: int | None

    def __call__(self, images: NDArray[Any], first: int) -> runs.Part:
        n = len(images)
        flags = [""] * n
        middle: Any = self.center
        if isinstance(middle, np.ndarray):
            middle = middle[first : first + n]
        if middle is None:
            centers = autocenter(images, mask=self.mask, device=self.device, workers=self.workers)
            middle, flags = centers.center, [" ".join(words) for words in centers.flags]
        options: dict[str, Any] = {"mask": self.mask, "fill_value": self.fill_value}
        averages = nfold(images, self.fold, center=middle, device=self.device, workers=self.workers, **options)
        dtype = np.float64 if images.dtype == np.float64 else np.float32
        return runs.Part({"flags": np.array(flags)}, averages.astype(dtype, copy=False))


def _check_output(output: Path) -> None:
    known = (*writable_extensions(), *image_extensions())
    if output.suffix.lower() not in known:
        msg = f"output {output} has no known extension; known are {' '.join(dict.fromkeys(known))}"
        raise DataError(msg)
    if output.is_dir() and output.suffix.lower() not in STORES:
        msg = f"output {output} is a folder; give a file name"
        raise OutputExistsError(msg)
