"""Crop a file into a file: planned, streamed, journalled, resumable, atomic."""

import os
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign.backends._threads import governed
from stackalign.device import default_memory_limit
from stackalign.errors import DataError
from stackalign.io import open_stack
from stackalign.runs import ProgressCallback, StopRequest

from . import run as crop_run
from .centers import check_centers
from .conditioned import binned_points, conditioned, conditioning_notes, open_conditioned
from .config import CroppingConfig
from .outputs import RESULTS, check_output, prepare_results, result_paths
from .passes import Passes
from .result import CropResult
from .run import plan_record

__all__ = ["crop_file", "is_complete"]


def is_complete(output: str | os.PathLike[str]) -> bool:
    """Tell whether an output was finished: the results are written last, and the journal is gone.

    Parameters
    ----------
    output : path-like
        Output of `crop_file`.

    Returns
    -------
    bool
        Whether it is there and finished.

    Examples
    --------
    >>> from stackalign import crop
    >>> crop.is_complete("never_cropped.npy")
    False
    """
    final = Path(output)
    return final.exists() and result_paths(final).json.exists() and not runs.journal_folder(final).exists()


@governed
def crop_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: CroppingConfig | None = None,
    *,
    mask: NDArray[np.bool_] | str | None = None,
    open_options: Mapping[str, Any] | None = None,
    compression: str | None = None,
    reuse: str | os.PathLike[str] | None = None,
    centers: NDArray[np.floating[Any]] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    executor: Executor | None = None,
    command: str | None = None,
) -> CropResult:
    """Crop the patterns of a file into another file.

    Parameters
    ----------
    source : path-like
        Any file that `stackalign.io.open_stack` reads.
    output : path-like
        .pt, .npy, .h5, .hspy, .zarr or .zspy. ``<stem>_results.json`` and ``<stem>_visualization.png`` are written
        beside it. HDF5 and Zarr hold "corners" and "centers" of the windows as arrays too; HDF5 is also a datacube of
        EMD 1.0.
    config : CroppingConfig, optional
    mask : numpy.ndarray or "auto", optional
        (H, W) boolean, True = valid; combined with the file's own. "auto" looks for detector faults and beam stops in
        patterns spread over the stack and leaves them out.
    open_options : mapping, optional
        Passed to `open_stack`: dataset, shape, dtype, offset, scan_shape, skip_frames, skip_per_row, axes.
    compression : {"none", "lz4", "zstd", "gzip"}, optional
        Of .h5 and .zarr (gzip of .h5 alone).
    reuse : path-like, optional
        Results of an earlier crop, whose radius and window are used again; see `reused_analysis`.
    centers : numpy.ndarray, optional
        (N, 2) centre (y, x) of each pattern, as `stackalign.diffraction.center_file` finds them; measured by default.
    resume : bool
        Go on where an interrupted run of the same plan stopped; start anew where there is none.
    overwrite : bool
        Replace existing outputs.
    progress : callable, optional
    stop : StopRequest, optional
        Checked after each chunk.
    executor : concurrent.futures.Executor, optional
        Where the chunks of both passes are worked on; the output has the same bytes.
    command : str, optional
        Command line, for the provenance.

    Returns
    -------
    CropResult

    Raises
    ------
    DataError
        An input or output cannot be used; nothing is left under the final names.
    OutputExistsError
        The output exists and `overwrite` is off.
    FinishedError
        With `resume`: a run of the same plan has finished this output.
    OutputLockedError
        Another run writes this output.
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.

    Examples
    --------
    >>> import numpy as np
    >>> from stackalign import crop
    >>> np.save("scan.npy", crop.create_test_data(n_patterns=8, image_size=64, noise_level=0.0))
    >>> config = crop.CroppingConfig(visualization=False, verbose=False)
    >>> result = crop.crop_file("scan.npy", "small.npy", config)
    >>> np.load("small.npy").shape[-2:] == result.analysis.window
    True
    """
    config = config or CroppingConfig()
    final = Path(output)
    check_output(final, compression)
    began = time.perf_counter()
    limit = config.memory_limit or default_memory_limit()
    options = {"memory_limit": limit, **(open_options or {})}
    reader = opened = open_stack(source, **options)
    try:
        if final.exists() and Path(source).resolve() == final.resolve():
            msg = f"output {final} is the input; choose another name"
            raise DataError(msg)
        stated = None if centers is None else binned_points(check_centers(centers, opened), config.bin)
        reader, valid, conditioning = conditioned(opened, config, mask)
        earlier = None if reuse is None else Path(reuse)
        plan = plan_record(reader, config, conditioning.mask, stated, earlier, open_options or {}, compression)
        paths = result_paths(final)
        with runs.Run(
            final,
            plan,
            suffix=RESULTS,
            resume=resume,
            overwrite=overwrite,
            readers=[reader],
            beside=(paths.npz, paths.picture),
            checkpoint_seconds=crop_run.CHECKPOINT_SECONDS,
        ) as run:
            opener = partial(open_conditioned, source, conditioning=conditioning, options=options)
            shared = runs.Source.of(opener, plan.inputs[0]["fingerprint"])
            work = Passes(
                reader, config, run, valid, stated, earlier, compression, limit, progress, stop, executor, shared
            )
            notes = conditioning_notes(opened, config, mask, conditioning)
            result = work.result(command, began, notes)
            contents, files = prepare_results(result, final, run.journal.folder)
            run.publish(contents, files, status=result.status)
            return result
    finally:
        reader.close()
