"""Averages by symmetry of the images of a file, in pieces, journalled and resumable."""

import hashlib
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__
from stackalign.backends._threads import governed
from stackalign.chunks import ChunkPlan, ProgressCallback, StopRequest, read_chunks
from stackalign.device import default_memory_limit
from stackalign.errors import DataError, OutputExistsError
from stackalign.io import create_stack
from stackalign.io.atomic import replace_path
from stackalign.io.images import image_extensions, write_images
from stackalign.io.journal import Journal
from stackalign.io.stacks import writable_extensions

from ._inputs import check_center
from .center import autocenter
from .files import open_frames
from .symmetry import nfold

__all__ = ["AveragedFile", "nfold_file"]

CHECKPOINT_SECONDS = 2.0
BYTES_PER_PIXEL = 24


class AveragedFile(NamedTuple):
    """How many images were averaged, and of how many the centre that was found is not certain."""

    images: int
    uncertain: int


@governed
def nfold_file(
    source: Path,
    output: Path,
    fold: int,
    *,
    center: tuple[float, float] | None = None,
    mask: NDArray[np.bool_] | None = None,
    fill_value: float = np.nan,
    dataset: str | None = None,
    device: str = "auto",
    workers: int | None = None,
    memory_limit: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> AveragedFile:
    """Write the averages (`nfold`) of all images of a file, and return their number.

    Parameters
    ----------
    source, output : Path
        A file that `diffread` reads, and one that can be written.
    fold : int
    center : tuple of float, optional
        (row, col); that which `autocenter` finds for each image by default.
    mask : numpy.ndarray, optional
        Boolean (H, W), True = valid.
    fill_value : float
    dataset : str, optional
        Which dataset, series or HDU.
    device, workers
        As for `nfold`.
    memory_limit : int, optional
        Bytes for buffers.
    resume, overwrite : bool
        Go on with an interrupted run of the same settings; replace an existing output.
    progress : callable, optional
    stop : StopRequest, optional

    Raises
    ------
    DataError
        A file cannot be used; nothing is left under the final name.
    OutputExistsError
        The output exists and `overwrite` is off.
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    known = (*writable_extensions(), *image_extensions())
    if output.suffix.lower() not in known:
        msg = f"output {output} has no known extension; known are {' '.join(dict.fromkeys(known))}"
        raise DataError(msg)
    if output.is_dir() and output.suffix.lower() != ".zarr":
        msg = f"output {output} is a folder; give a file name"
        raise OutputExistsError(msg)
    journal = Journal(output.with_name(output.name + ".partial"))
    reader = open_frames(source, dataset=dataset)
    try:
        n, height, width = reader.info.shape
        check_center(center, (height, width), str(source))
        valid = mask if reader.info.mask is None else reader.info.mask & (True if mask is None else mask)
        record = {
            "version": __version__,
            "input": reader.fingerprint(),
            "fold": fold,
            "center": center,
            "mask": None if valid is None else hashlib.sha256(np.ascontiguousarray(valid).tobytes()).hexdigest(),
            "fill": str(fill_value),
        }
        going_on = resume and journal.exists()
        if going_on and (differences := journal.matches(record)):
            msg = f"{journal.folder} belongs to another run ({'; '.join(differences[:3])}); start anew without --resume"
            raise DataError(msg)
        if output.exists() and not overwrite and not going_on:
            msg = f"output {output} exists; choose another name or allow it to be replaced (--overwrite)"
            raise OutputExistsError(msg)
        if not going_on:
            journal.discard()
            journal.create(record)
        streamed = output.suffix.lower() in writable_extensions() and n > 1
        data = journal.folder / (f"data{output.suffix}" if streamed else "data.npy")
        records = journal.records()
        state = records[-1].get("state") if records else None
        dtype = np.dtype(np.float64 if reader.info.dtype == np.float64 else np.float32)
        stopping = StopRequest() if stop is None else stop
        plan = ChunkPlan.from_budget(n, height * width * BYTES_PER_PIXEL, (memory_limit or default_memory_limit()) // 2)
        scan = reader.info.scan_shape if streamed else (n,)
        writer = create_stack(data, (n, height, width), dtype, scan_shape=scan, final_path=data, resume=state)
        saved = time.monotonic()
        uncertain = int(records[-1].get("uncertain", 0)) if records else 0
        try:
            start = 0 if state is None else int(state["patterns"])
            for _, last, images in read_chunks(reader, plan, start=start, stage="nfold", progress=progress):
                middle: Any = center
                if middle is None:
                    found = autocenter(images, mask=valid, device=device, workers=workers)
                    middle, uncertain = found.center, uncertain + sum(map(bool, found.flags))
                options: dict[str, Any] = {
                    "mask": valid,
                    "fill_value": fill_value,
                    "device": device,
                    "workers": workers,
                }
                writer.write(nfold(images, fold, center=middle, **options).astype(dtype, copy=False))
                if time.monotonic() - saved > CHECKPOINT_SECONDS or stopping:
                    journal.append({"state": writer.checkpoint(), "uncertain": uncertain})
                    saved = time.monotonic()
                if last < n:
                    stopping.check("stopped while averaging")
            writer.finish({"software": f"stackalign {__version__}"})
        except (ValueError, TypeError):
            writer.close()
            journal.discard()  # settings that no run accepts leave nothing to resume
            raise
        finally:
            writer.close()
    finally:
        reader.close()
    if streamed:
        replace_path(data, output, overwrite=overwrite or resume)
    else:
        images = np.load(data)
        write_images(output, images[0] if n == 1 else images, overwrite=overwrite or resume)
    journal.discard()
    return AveragedFile(n, uncertain)
