"""Crop a file into a file: planned, streamed, journalled, resumable, atomic."""

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__, ops
from stackalign.backends._threads import governed
from stackalign.chunks import ChunkPlan, ProgressCallback, StopRequest
from stackalign.device import default_memory_limit, format_bytes
from stackalign.errors import DataError
from stackalign.io import StackReader, create_stack, open_stack
from stackalign.io.atomic import replace_path
from stackalign.io.journal import Journal
from stackalign.io.provenance import provenance

from .analysis import N_MEAN, Measurements, analyze, chunk_plan, combine_masks
from .assemble import assemble, cropped_calibration
from .config import CroppingConfig
from .cutting import cut
from .outputs import check_output, result_paths, write_results
from .result import CropAnalysis, CropResult
from .reuse import reused_analysis
from .run import NOT_IN_THE_BYTES, Run, journal_folder, plan_record
from .window import Windows, placed_windows

__all__ = ["crop_file", "is_complete"]


def is_complete(output: str | os.PathLike[str]) -> bool:
    """Tell whether an output was finished: the results are written last, and the journal is gone."""
    final = Path(output)
    return final.exists() and result_paths(final).json.exists() and not journal_folder(final).exists()


@governed
def crop_file(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    config: CroppingConfig | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
    open_options: Mapping[str, Any] | None = None,
    compression: str | None = None,
    reuse: str | os.PathLike[str] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
) -> CropResult:
    """Crop the patterns of a file into another file.

    Parameters
    ----------
    source : path-like
        Any file that `stackalign.io.open_stack` reads.
    output : path-like
        .pt, .npy, .h5 or .zarr. ``<stem>_results.json`` and ``<stem>_visualization.png`` are written beside it.
    config : CroppingConfig, optional
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid; combined with the file's own.
    open_options : mapping, optional
        Passed to `open_stack`: dataset, shape, dtype, offset, scan_shape.
    compression : {"none", "lz4", "zstd"}, optional
        Of .h5 and .zarr.
    reuse : path-like, optional
        Results of an earlier crop, whose radius and window are used again; see `reused_analysis`.
    resume : bool
        Go on where an interrupted run of the same plan stopped; start anew where there is none.
    overwrite : bool
        Replace existing outputs.
    progress : callable, optional
    stop : StopRequest, optional
        Checked after each chunk.
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
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    config = config or CroppingConfig()
    final = Path(output)
    check_output(final, compression)
    began = time.perf_counter()
    limit = config.memory_limit or default_memory_limit()
    reader = open_stack(source, memory_limit=limit, **(open_options or {}))
    try:
        if final.exists() and Path(source).resolve() == final.resolve():
            msg = f"output {final} is the input; choose another name"
            raise DataError(msg)
        valid = combine_masks(reader, mask)
        run = Run(reader, config, final)
        earlier = None if reuse is None else Path(reuse)
        plan = plan_record(reader, config, valid, earlier, open_options or {}, compression)
        try:
            run.open(plan, resume=resume, overwrite=overwrite)
            return _crop(run, valid, earlier, compression, limit, progress, stop, command, began)
        except DataError as error:
            if not run.measured:  # the input cannot be cropped: leave nothing behind
                if run.began:
                    run.journal.discard()
                raise
            msg = f"{error}; what was done is kept, --resume goes on from there"
            raise DataError(msg) from error
    finally:
        reader.close()


@dataclasses.dataclass
class _Sums:
    """What the second pass adds up; saved with every checkpoint. ``mean_done`` windows are in ``mean_sum``."""

    kept: NDArray[np.float64]
    mean_sum: NDArray[np.float64]
    totals: NDArray[np.float64] | None
    mean_done: int = 0

    @classmethod
    def restore(cls, journal: Journal, n: int, window: tuple[int, int], *, with_totals: bool) -> "_Sums":
        """Those of an interrupted run, or zeros."""
        sums = cls(np.zeros(n), np.zeros(window), np.zeros(n) if with_totals else None)
        if journal.has_arrays("crop"):
            saved = journal.load_arrays("crop")
            sums.kept, sums.mean_sum = saved["kept"], saved["mean_sum"]
            sums.totals = saved["totals"] if with_totals else None
            sums.mean_done = int(saved["mean_done"])
        return sums

    def save(self, journal: Journal, done: int) -> None:
        """Store them, after `done` patterns."""
        totals = {} if self.totals is None else {"totals": self.totals}
        journal.save_arrays("crop", kept=self.kept, mean_sum=self.mean_sum, mean_done=np.array(done), **totals)


def _crop(
    run: Run,
    mask: NDArray[np.bool_] | None,
    reuse: Path | None,
    compression: str | None,
    limit: int,
    progress: ProgressCallback | None,
    stop: StopRequest | None,
    command: str | None,
    began: float,
) -> CropResult:
    """Both passes, the final name, the results."""
    reader = run.reader
    device = ops.device_of(ops.asarray(np.zeros(1), run.config.device))  # "auto" is settled here, once
    config = dataclasses.replace(run.config, device=device)
    plan = chunk_plan(reader, config, limit)
    if reuse is None:
        rows = _restore_rows(run)
        analysis = _measure(run, config, mask, plan, rows, progress, stop)
    else:
        rows = None
        analysis = reused_analysis(reuse, reader, config)
    windows = placed_windows(
        analysis.centers, analysis.global_radius, analysis.original_shape, legacy=config.legacy_window
    )
    sums = _Sums.restore(run.journal, reader.info.shape[0], windows.shape, with_totals=reuse is not None)
    run.measured = True
    if run.last_record()["stage"] != "finished":
        _write(run, config, analysis, windows, sums, rows, mask, plan, compression, progress, stop)
    if reuse is not None:
        analysis = reused_analysis(reuse, reader, config, totals=sums.totals)
    if run.data.exists():
        replace_path(run.data, run.final, overwrite=run.overwrite)
    inputs = [{"path": str(reader.path), "fingerprint": reader.fingerprint(), "shape": list(reader.info.shape)}]
    result = assemble(
        reader,
        config,
        analysis,
        sums.kept,
        windows=windows,
        mean_window=sums.mean_sum / analysis.n_mean,
        seconds=time.perf_counter() - began,
        device=device,
        provenance=provenance(config.to_dict(), inputs, device=device, command=command),
        input_name=str(reader.path),
        output_name=str(run.final),
    )
    write_results(result, run.final)
    run.journal.discard()
    return result


def _restore_rows(run: Run) -> Measurements:
    """Rows of an interrupted first pass, or empty ones."""
    if not run.journal.has_arrays("analysis"):
        n, height, width = run.reader.info.shape
        return Measurements(n, (height, width))
    rows = Measurements.from_arrays(run.journal.load_arrays("analysis"))
    run.saved_rows = rows.done
    return rows


def _measure(
    run: Run,
    config: CroppingConfig,
    mask: NDArray[np.bool_] | None,
    plan: ChunkPlan,
    rows: Measurements,
    progress: ProgressCallback | None,
    stop: StopRequest | None,
) -> CropAnalysis:
    """First pass, saving its rows."""

    def checkpoint(current: Measurements) -> None:
        if run.due() or stop:
            with run.checkpoint():
                run.save_rows(current)

    return analyze(
        run.reader, config, mask=mask, plan=plan, rows=rows, on_chunk=checkpoint, progress=progress, stop=stop
    )


def _write(
    run: Run,
    config: CroppingConfig,
    analysis: CropAnalysis,
    windows: Windows,
    sums: _Sums,
    rows: Measurements | None,
    mask: NDArray[np.bool_] | None,
    plan: ChunkPlan,
    compression: str | None,
    progress: ProgressCallback | None,
    stop: StopRequest | None,
) -> None:
    """Second pass into the partial file, from where the journal says."""
    reader, journal = run.reader, run.journal
    info = reader.info
    n = info.shape[0]
    _check_space(run, analysis, rows)
    record = run.last_record()
    state = record.get("state")
    writer = create_stack(
        run.data,
        (n, *windows.shape),
        info.dtype,
        scan_shape=info.scan_shape,
        channel_axis=info.channel_axis,
        calibration=cropped_calibration(info.calibration, analysis, windows),
        final_path=run.final,
        resume=state,
        compression=compression,
    )

    def save(done: int) -> None:
        if rows is not None:
            run.save_rows(rows)
        sums.save(journal, done)

    def checkpoint(done: int, settle: Callable[[], None]) -> None:
        if run.due() or stop:
            with run.checkpoint():
                settle()
                current = writer.checkpoint()
                save(done)
                journal.append({"stage": "crop", "patterns": done, "state": current})

    try:
        cut(
            reader,
            config,
            windows,
            writer.write,
            sums.kept,
            mask=mask,
            totals=sums.totals,
            plan=plan,
            start=int(state["patterns"]) if state else 0,
            mean_sum=sums.mean_sum,
            mean_step=max(1, n // N_MEAN),
            mean_start=sums.mean_done,  # formats that store whole blocks only go back further than this
            on_chunk=checkpoint,
            progress=progress,
            stop=stop,
        )
        writer.finish(_stored_metadata(reader, config, analysis))
    finally:
        writer.close()
    if run.saved_rows is not None or record["stage"] == "crop" or journal.has_arrays("crop"):
        save(n)
        journal.append({"stage": "finished", "patterns": n})
    else:
        # A run so short that it never saved anything is done again as a whole.
        journal.append({"stage": "replacing"})


def _check_space(run: Run, analysis: CropAnalysis, rows: Measurements | None) -> None:
    """Refuse before the second pass what will not fit on the disk."""
    info = run.reader.info
    needed = info.shape[0] * analysis.window[0] * analysis.window[1] * info.dtype.itemsize
    present = run.data.stat().st_size if run.data.is_file() else 0
    free = shutil.disk_usage(run.journal.folder).free
    if needed - present > free:
        if rows is not None:
            run.save_rows(rows)  # so that the first pass need not be repeated once there is room
        msg = (
            f"output {run.final} needs {format_bytes(needed)} and {format_bytes(free)} are free in "
            f"{run.final.parent}; free some space or choose another folder"
        )
        raise DataError(msg)


def _stored_metadata(reader: StackReader, config: CroppingConfig, analysis: CropAnalysis) -> dict[str, Any]:
    """What goes into the output itself: the same for every run of the same plan, so that the bytes are."""
    return {
        "software": f"stackalign {__version__}",
        "input": {"name": Path(str(reader.path)).name, "shape": list(reader.info.shape)},
        "config": {k: v for k, v in config.to_dict().items() if k not in NOT_IN_THE_BYTES},
        "global_radius": analysis.global_radius,
        "window": list(analysis.window),
        "window_before": list(analysis.window_before),
        "metadata": json.loads(json.dumps(dict(reader.info.metadata), default=str)),
    }
