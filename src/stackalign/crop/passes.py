"""The two passes of one crop into a file, saving what they have."""

import dataclasses
import json
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__, ops, runs
from stackalign.device import format_bytes
from stackalign.errors import DataError, UnfitStateError
from stackalign.io import StackReader, create_stack
from stackalign.io._writer import full_disk_as_data_error
from stackalign.io.provenance import provenance
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from .analysis import analyze
from .assemble import assemble, cropped_calibration
from .budget import chunk_plan
from .config import CroppingConfig
from .convert import OutputForm, converted, output_form
from .cutting import cut
from .measure import N_MEAN, Measurements, source_name
from .result import CropAnalysis, CropResult
from .reuse import reused_analysis
from .run import NOT_IN_THE_BYTES
from .sums import Sums
from .virtual import VirtualDetectors, virtual_detectors, virtual_images
from .window import Windows, chosen_windows

__all__ = ["Passes"]


@dataclasses.dataclass
class Passes:
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
        windows = chosen_windows(analysis.centers, analysis.global_radius, analysis.original_shape, config)
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
            self.reader,
            self.config,
            mask=self.mask,
            plan=plan,
            rows=rows,
            centers=self.centers,
            **self._how(checkpoint),
        )

    def _how(self, on_chunk: Callable[..., None]) -> dict[str, Any]:
        """What both passes say to the mechanism of runs."""
        return {
            "on_chunk": on_chunk,
            "progress": self.progress,
            "stop": self.stop,
            "executor": self.executor,
            "source": self.source,
        }

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
        n = len(windows.corners)
        self._check_space(analysis, rows)
        form = output_form(self.config, reader.info, run.output)
        create, by_workers = self._writing(analysis, windows, form)
        writer, sums, state = self._resumed(create, n, windows.shape)
        start = writer.done if by_workers else int(state["patterns"]) if state else 0

        def store(block: NDArray[Any]) -> None:
            writer.write(converted(block, form.dtype, writer.written, source_name(reader)))

        def checkpoint(done: int, settle: Callable[[], None]) -> None:
            if run.due() or self.stop:
                with run.checkpoint():
                    settle()
                    if by_workers:
                        writer.done = done
                    self._save_sums(writer, sums, rows, done)

        try:
            cut(
                reader,
                self.config,
                windows,
                store,
                sums.kept,
                mask=self.mask,
                detectors=self.detectors,
                totals=sums.totals,
                virtual=sums.virtual,
                plan=writer.plan(plan) if by_workers else plan,
                start=start,
                regions=writer if by_workers else None,
                mean_sum=sums.mean_sum,
                mean_step=max(1, n // N_MEAN),
                mean_start=sums.mean_done,  # formats that store whole blocks only go back further than this
                **self._how(checkpoint),
            )
            metadata = _stored_metadata(reader, self.config, analysis)
            writer.finish(metadata, {"corners": windows.corners, "centers": analysis.centers})
            return sums
        finally:
            writer.close()

    def _save_sums(self, writer: Any, sums: Sums, rows: Measurements | None, done: int) -> None:
        """Keep what the second pass has after `done` patterns."""
        current = writer.checkpoint()
        if rows is not None:
            self._save_rows(rows)
        sums.save(self.run.journal, done)
        self.run.note(state=current)

    def _resumed(self, create: Callable[..., Any], n: int, window: tuple[int, int]) -> tuple[Any, Sums, Any]:
        """Writer, sums and state of an interrupted second pass, or of one that begins."""
        zeros = partial(Sums.zeros, n, window, with_totals=self.reuse is not None)
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
