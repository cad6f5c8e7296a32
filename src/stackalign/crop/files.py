"""Crop a file into a file: planned, streamed, journalled, resumable, atomic."""

import dataclasses
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__, ops, runs
from stackalign.backends._threads import governed
from stackalign.device import default_memory_limit, format_bytes
from stackalign.errors import DataError, UnfitStateError
from stackalign.io import StackReader, create_stack, open_stack
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.provenance import provenance
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from . import run as crop_run
from .analysis import analyze
from .assemble import assemble, cropped_calibration
from .budget import chunk_plan
from .centers import check_centers
from .conditioned import binned_points, conditioned, conditioning_notes, open_conditioned
from .config import CroppingConfig
from .convert import OutputForm, converted, output_form
from .cutting import cut
from .measure import N_MEAN, Measurements, source_name
from .outputs import RESULTS, check_output, prepare_results, result_paths
from .result import CropAnalysis, CropResult
from .reuse import reused_analysis
from .run import NOT_IN_THE_BYTES, plan_record
from .sums import Sums
from .virtual import VirtualDetectors, virtual_detectors, virtual_images
from .window import Windows, placed_windows

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
            work = _Crop(
                reader, config, run, valid, stated, earlier, compression, limit, progress, stop, executor, shared
            )
            notes = conditioning_notes(opened, config, mask, conditioning)
            result = work.result(command, began, notes)
            contents, files = prepare_results(result, final, run.journal.folder)
            run.publish(contents, files, status=result.status)
            return result
    finally:
        reader.close()


@dataclasses.dataclass
class _Crop:
    """The two passes of one crop, saving what they have."""

    reader: StackReader
    config: CroppingConfig
    run: runs.Run
    mask: NDArray[np.bool_] | None
    centers: NDArray[np.float64] | None
    reuse: Path | None
    compression: str | None
    limit: int
    progress: ProgressCallback | None
    stop: StopRequest | None
    executor: Executor | None
    source: runs.Source
    saved_rows: int | None = None
    detectors: VirtualDetectors | None = None

    def result(self, command: str | None, began: float, notes: tuple[str, ...] = ()) -> CropResult:
        """Both passes, up to the finished data in the journal's folder."""
        reader, run = self.reader, self.run
        device = self.config.device
        if self.executor is None:  # "auto" is settled here, once; the workers of an executor settle it for themselves
            device = ops.device_of(ops.asarray(np.zeros(1), device))
        config = self.config = dataclasses.replace(self.config, device=device)
        plan = chunk_plan(reader, config, self.limit)
        rows = None
        if self.reuse is None:
            rows = self._restored_rows()
            analysis = self._measured(plan, rows)
        else:
            analysis = reused_analysis(self.reuse, reader, config)
        windows = placed_windows(
            analysis.centers,
            analysis.global_radius,
            analysis.original_shape,
            legacy=config.legacy_window,
            one=config.one_window,
        )
        run.kept_on_error = True
        sums = self._write(analysis, windows, rows, plan)
        if self.reuse is not None:
            analysis = reused_analysis(self.reuse, reader, config, totals=sums.totals)
        form = output_form(config, reader.info, run.output)
        analysis = dataclasses.replace(analysis, notes=(*notes, *analysis.notes, *form.notes))
        inputs = [{"path": str(reader.path), "fingerprint": reader.fingerprint(), "shape": list(reader.info.shape)}]
        return assemble(
            reader,
            config,
            analysis,
            sums.kept,
            windows=windows,
            mean_window=sums.mean_sum / analysis.n_mean,
            virtual=virtual_images(self.detectors, sums.virtual, analysis.total),
            seconds=time.perf_counter() - began,
            device=device,
            provenance=provenance(config.to_dict(), inputs, device=device, command=command),
            input_name=str(reader.path),
            output_name=str(run.output),
            output_dtype=form.dtype,
        )

    def _restored_rows(self) -> Measurements:
        """Rows of an interrupted first pass, or empty ones."""
        if self.run.journal.has_arrays("analysis"):
            try:
                rows = Measurements.from_arrays(self.run.journal.load_arrays("analysis"))
            except UnfitStateError as error:
                self.run.begin_anew(error)
            else:
                self.saved_rows = rows.done
                return rows
        n, height, width = self.reader.info.shape
        return Measurements(n, (height, width))

    def _measured(self, plan: ChunkPlan, rows: Measurements) -> CropAnalysis:
        """First pass, saving its rows."""
        run = self.run
        run.kept_on_error = run.resumed  # a fresh run keeps nothing until the input has shown that it can be cropped

        def checkpoint(current: Measurements) -> None:
            if run.due() or self.stop:
                with run.checkpoint():
                    self._save_rows(current)

        return analyze(
            self.reader, self.config, mask=self.mask, plan=plan, rows=rows, centers=self.centers, on_chunk=checkpoint,
            progress=self.progress, stop=self.stop, executor=self.executor, source=self.source,
        )  # fmt: skip

    def _save_rows(self, rows: Measurements) -> None:
        """Keep the rows of the first pass, once for each number of them."""
        if self.saved_rows != rows.done:
            self.run.journal.save_arrays("analysis", **rows.to_arrays())
            self.saved_rows = rows.done

    def _writing(self, analysis: CropAnalysis, windows: Windows, form: OutputForm) -> tuple[Any, bool]:
        """What opens the partial file, and whether workers write into it themselves."""
        run, info = self.run, self.reader.info
        shape = (info.shape[0], *windows.shape)
        stored: dict[str, Any] = {
            "scan_shape": form.scan_shape,
            "channel_axis": form.channel_axis,
            "compression": self.compression,
        }
        # What workers write themselves is of the input's type; other types are converted here.
        by_workers = (
            self.executor is not None
            and form.dtype == info.dtype
            and runs.takes_regions(run.output, shape, info.dtype, **stored)
        )
        self.detectors = virtual_detectors(analysis, self.mask)
        create: Any = runs.RegionSink if by_workers else create_stack
        calibration = cropped_calibration(info.calibration, analysis, windows)
        create = partial(create, run.data, shape, form.dtype, calibration=calibration, final_path=run.output, **stored)
        return create, by_workers

    def _write(self, analysis: CropAnalysis, windows: Windows, rows: Measurements | None, plan: ChunkPlan) -> Sums:
        """Second pass into the partial file, from where the journal says."""
        run, reader = self.run, self.reader
        n = reader.info.shape[0]
        self._check_space(analysis, rows)
        form = output_form(self.config, reader.info, run.output)
        create, by_workers = self._writing(analysis, windows, form)
        zeros = partial(Sums.zeros, n, windows.shape, with_totals=self.reuse is not None)
        writer, sums, state = self._resumed(create, zeros)
        start = writer.done if by_workers else int(state["patterns"]) if state else 0

        def store(block: NDArray[Any]) -> None:
            writer.write(converted(block, form.dtype, writer.written, source_name(reader)))

        def checkpoint(done: int, settle: Callable[[], None]) -> None:
            if run.due() or self.stop:
                with run.checkpoint():
                    settle()
                    if by_workers:
                        writer.done = done
                    current = writer.checkpoint()
                    if rows is not None:
                        self._save_rows(rows)
                    sums.save(run.journal, done)
                    run.note(state=current)

        try:
            cut(
                reader,
                self.config,
                windows,
                store,
                sums.kept,
                mask=self.mask,
                totals=sums.totals,
                detectors=self.detectors,
                virtual=sums.virtual,
                plan=writer.plan(plan) if by_workers else plan,
                start=start,
                regions=writer if by_workers else None,
                mean_sum=sums.mean_sum,
                mean_step=max(1, n // N_MEAN),
                mean_start=sums.mean_done,  # formats that store whole blocks only go back further than this
                on_chunk=checkpoint,
                progress=self.progress,
                stop=self.stop,
                executor=self.executor,
                source=self.source,
            )
            arrays = {"corners": windows.corners, "centers": analysis.centers}
            writer.finish(_stored_metadata(reader, self.config, analysis), arrays)
            return sums
        finally:
            writer.close()

    def _resumed(self, create: Callable[..., Any], zeros: Callable[[], Sums]) -> tuple[Any, Sums, Any]:
        """Writer, sums and state of an interrupted second pass, or of one that begins."""
        sums, state = zeros(), self.run.last_note().get("state")
        if state is not None:
            try:
                sums.restore(self.run.journal)
                return create(resume=state), sums, state
            except UnfitStateError as error:
                self.run.begin_anew(error)
                self.saved_rows = None  # they are to be saved once more
        return create(resume=None), zeros(), None

    def _check_space(self, analysis: CropAnalysis, rows: Measurements | None) -> None:
        """Refuse before the second pass what will not fit on the disk."""
        run, info = self.run, self.reader.info
        itemsize = output_form(self.config, info, run.output).dtype.itemsize
        needed = info.shape[0] * analysis.window[0] * analysis.window[1] * itemsize
        present = run.data.stat().st_size if run.data.is_file() else 0
        with full_disk_as_data_error(run.journal.folder, str(run.output)):
            free = shutil.disk_usage(run.journal.folder).free
        if needed - present > free:
            if rows is not None:  # so that the first pass need not be repeated once there is room
                with run.checkpoint():
                    self._save_rows(rows)
            msg = (
                f"output {run.output} needs {format_bytes(needed)} and {format_bytes(free)} are free in "
                f"{run.output.parent}; free some space or choose another folder"
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
