"""`DiffractionCropper`, the class of the original cropper: four steps, or all at once, on data in memory."""

import dataclasses
import os
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.backends import load
from stackalign.crop.analysis import analyze
from stackalign.crop.arrays import crop_reader, shaped_like
from stackalign.crop.assemble import assemble, retention
from stackalign.crop.budget import chunk_plan
from stackalign.crop.conditioned import conditioned
from stackalign.crop.config import CroppingConfig
from stackalign.crop.convert import converted, output_form
from stackalign.crop.cutting import cut
from stackalign.crop.measure import N_MEAN, source_name
from stackalign.crop.outputs import check_output, write_results
from stackalign.crop.result import CropAnalysis, CropResult, CropValidation, RadialProfile
from stackalign.crop.window import Windows, chosen_windows
from stackalign.device import default_memory_limit
from stackalign.errors import BackendUnavailableError, DataError, StackalignWarning
from stackalign.io import StackReader, create_stack, open_array
from stackalign.io.atomic import replace_path
from stackalign.runs import ChunkPlan

__all__ = ["DiffractionCropper"]


class DiffractionCropper:
    """Crop diffraction patterns to the radius that keeps a fraction of their intensity.

    Parameters
    ----------
    config : CroppingConfig, optional
        With ``use_gpu=True`` and no usable GPU, a warning is given and ``config.use_gpu`` is False afterwards.

    See Also
    --------
    stackalign.crop.crop_array : the same in one call, with a result object.
    stackalign.crop.crop_file : for files of any size.
    """

    def __init__(self, config: CroppingConfig | None = None) -> None:
        self.config = _with_device(config or CroppingConfig())

    def process_dataset(self, data: Any, save_path: str | os.PathLike[str] | None = None) -> tuple[Any, dict[str, Any]]:
        """Analyse, crop and validate; save where a path is given.

        Parameters
        ----------
        data : array-like
            (N, H, W), (N, 1, H, W) or a scan (Ry, Rx, H, W): NumPy, torch, CuPy, or anything that can be sliced.
        save_path : path-like, optional
            .pt, .npy, .h5 or .zarr; ``<stem>_results.json`` and, if ``config.visualization``,
            ``<stem>_visualization.png`` are written beside it. An existing file is replaced.

        Returns
        -------
        cropped : array
            A torch tensor where `data` is one, a CuPy array where it is one, else a NumPy array.
        results : dict
            analysis, validation, processing_time, config, and what else `CropResult.to_dict` gives.
        """
        reader = open_array(data)
        if save_path is not None:
            check_output(Path(save_path))
        self._say(f"analysing {reader.info.shape[0]} patterns of {reader.info.shape[1]} x {reader.info.shape[2]}")
        cropped, result = crop_reader(reader, self.config)
        if save_path is not None:
            final = Path(save_path)
            _save(reader, cropped, result, final)
            result = dataclasses.replace(result, output_name=str(final))
            write_results(result, final)
            self._say(f"saved {final}")
        self._report(result)
        return _like(data, cropped), result.to_dict()

    def analyze_patterns(self, data: Any) -> dict[str, Any]:
        """Measure every pattern and choose the radius; see `CropAnalysis.to_dict` for the keys.

        Parameters
        ----------
        data : array-like
            (N, H, W), (N, 1, H, W) or a scan (Ry, Rx, H, W).

        Returns
        -------
        dict
            The analysis.
        """
        reader = self._reader(data)
        return analyze(reader, self.config, plan=self._plan(reader)).to_dict()

    def crop_patterns(self, data: Any, analysis_results: Mapping[str, Any]) -> Any:
        """Cut the windows that an analysis describes.

        Parameters
        ----------
        data : array-like
            (N, H, W), (N, 1, H, W) or a scan (Ry, Rx, H, W).
        analysis_results : mapping
            What `analyze_patterns` returned for these data.

        Returns
        -------
        array
            The cropped patterns, of the kind of `data`.
        """
        reader = self._reader(data)
        windows = _windows(analysis_results, self.config)
        _same_number(reader, len(windows.corners), "analysis")
        blocks: list[NDArray[Any]] = []
        kept = np.zeros(reader.info.shape[0])
        cut(reader, self.config, windows, lambda b: blocks.append(b.copy()), kept, plan=self._plan(reader))
        form = output_form(self.config, reader.info)
        flat = converted(np.concatenate(blocks), form.dtype, 0, source_name(reader))
        return _like(data, shaped_like(flat, reader, self.config))

    def validate_retention(self, data: Any, cropped: Any, analysis_results: Mapping[str, Any]) -> dict[str, Any]:
        """Compare the sums of the cropped patterns with those of the originals; see `CropValidation.to_dict`.

        Parameters
        ----------
        data : array-like
            (N, H, W), (N, 1, H, W) or a scan (Ry, Rx, H, W).
        cropped : array-like
            What `crop_patterns` returned for them.
        analysis_results : mapping
            What `analyze_patterns` returned for these data.

        Returns
        -------
        dict
            Statistics of what the windows kept.
        """
        reader, windows = self._reader(data), open_array(cropped)
        _same_number(reader, windows.info.shape[0], "cropped data")
        before, after = self._totals(reader), self._totals(windows)
        excluded = np.zeros(len(before), np.bool_)
        excluded[list(analysis_results.get("excluded", []))] = True
        return CropValidation(
            retention(after, before), excluded, self.config.target_retention, self.config.min_retention
        ).to_dict()

    def visualize_results(
        self,
        data: Any,
        cropped: Any,
        analysis_results: Mapping[str, Any],
        save_path: str | os.PathLike[str] | None = None,
    ) -> Any:
        """Draw the summary picture.

        Parameters
        ----------
        data : array-like
            (N, H, W), (N, 1, H, W) or a scan (Ry, Rx, H, W).
        cropped : array-like
            What `crop_patterns` returned for them.
        analysis_results : mapping
            What `analyze_patterns` returned for these data.
        save_path : path-like, optional
            Where to save the picture.

        Returns
        -------
        matplotlib.figure.Figure
            The picture.
        """
        from stackalign.plot.crop import crop_figure, save_crop_figure

        reader, windows = self._reader(data), open_array(cropped)
        _same_number(reader, windows.info.shape[0], "cropped data")
        analysis = _analysis_from(analysis_results, reader)
        result = assemble(
            reader,
            self.config,
            analysis,
            self._totals(windows),
            windows=_windows(analysis_results, self.config),
            mean_window=_mean(windows),
            seconds=0.0,
            device="cpu",
            provenance={},
            input_name="array in memory",
        )
        if save_path is not None:
            save_crop_figure(result, Path(save_path))
        return crop_figure(result)

    def _plan(self, reader: StackReader) -> ChunkPlan:
        return chunk_plan(reader, self.config, self.config.memory_limit or default_memory_limit())

    def _reader(self, data: Any) -> StackReader:
        """Patterns, binned as the configuration asks."""
        return conditioned(open_array(data), self.config, None)[0]

    def _totals(self, reader: StackReader) -> NDArray[np.float64]:
        totals = np.empty(reader.info.shape[0])
        for first, last in self._plan(reader).ranges():
            block = np.empty((last - first, *reader.info.shape[1:]), reader.info.dtype)
            reader.read(first, last, block)
            totals[first:last] = ops.pattern_summary(block, workers=self.config.workers).total
        return totals

    def _say(self, text: str) -> None:
        if self.config.verbose:
            print(text)

    def _report(self, result: CropResult) -> None:
        stats = result.validation.to_dict()
        self._say(
            f"radius {result.analysis.global_radius}, window {result.analysis.window}, size saved {result.saved:.1%}, "
            f"retention mean {stats['mean_retention']:.4f}, min {stats['min_retention']:.4f}"
        )
        for message in (*result.analysis.notes, *result.messages):
            self._say(message)


def _with_device(config: CroppingConfig) -> CroppingConfig:
    """Honour ``use_gpu``: CUDA where it can be used, else a warning and the CPU."""
    if not config.use_gpu:
        return config
    try:
        load("cuda")
    except BackendUnavailableError as error:
        warnings.warn(f"use_gpu=True, but {error}; going on with the CPU", StackalignWarning, stacklevel=3)
        return dataclasses.replace(config, use_gpu=False, device="cpu")
    return dataclasses.replace(config, device=config.device if config.device.startswith("cuda") else "cuda")


def _like(data: Any, cropped: NDArray[Any]) -> Any:
    """Return the array in the home of the data it came from."""
    root = type(data).__module__.partition(".")[0]
    if root == "torch":
        import torch

        return torch.from_numpy(cropped).to(data.device)
    if root == "cupy":
        return ops.asarray(cropped, f"cuda:{data.device.id}")
    return cropped


def _save(reader: StackReader, cropped: NDArray[Any], result: CropResult, final: Path) -> None:
    """Write an array in memory to a file, under a temporary name first."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = final.with_name(f".{final.name}.partial{final.suffix}")
    form = output_form(result.config, dataclasses.replace(reader.info, dtype=cropped.dtype), final)
    flat = cropped.reshape(reader.info.shape[0], *result.analysis.window)
    flat = converted(flat, form.dtype, 0, "the array")
    writer = create_stack(
        partial,
        flat.shape,
        flat.dtype,
        scan_shape=form.scan_shape,
        channel_axis=form.channel_axis,
        calibration=result.calibration,
        final_path=final,
    )
    try:
        with writer_closed(writer):
            writer.write(flat)
            corners = _windows(result.analysis.to_dict(), result.config).corners
            writer.finish(
                {"config": result.config.to_dict(), "global_radius": result.analysis.global_radius},
                {"corners": corners, "centers": result.analysis.centers},
            )
        replace_path(partial, final, overwrite=True)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial)
        else:
            partial.unlink(missing_ok=True)


class writer_closed:  # noqa: N801 -- reads as a statement
    """Close a writer whatever happens."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        self._writer.close()


def _windows(analysis: Mapping[str, Any], config: CroppingConfig) -> Windows:
    centers = np.asarray(analysis["centers"], np.float64).reshape(-1, 2)
    height, width = analysis["original_shape"]
    return chosen_windows(centers, int(analysis["global_radius"]), (height, width), config)


def _same_number(reader: StackReader, n: int, what: str) -> None:
    if reader.info.shape[0] != n:
        msg = f"the data have {reader.info.shape[0]} patterns, the {what} {n}: they do not belong together"
        raise DataError(msg)


def _mean(reader: StackReader) -> NDArray[np.float64]:
    n = reader.info.shape[0]
    total = np.zeros(reader.info.shape[1:])
    block = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
    chosen = range(0, n, max(1, n // N_MEAN))
    for k in chosen:
        reader.read(k, k + 1, block)
        total += np.nan_to_num(block[0].astype(np.float64), posinf=0.0, neginf=0.0)
    return total / len(chosen)


def _analysis_from(results: Mapping[str, Any], reader: StackReader) -> CropAnalysis:
    """Rebuild an analysis from its dictionary, with the mean pattern from the data."""
    n = reader.info.shape[0]
    excluded = np.zeros(n, np.bool_)
    excluded[list(results.get("excluded", []))] = True
    height, width = results["original_shape"]
    rows, columns = results["cropped_shape"]
    before = results["window_before"]
    return CropAnalysis(
        radii=np.asarray(results["retention_radii"], np.int64),
        centers=np.asarray(results["centers"], np.float64).reshape(-1, 2),
        measured_centers=np.asarray(results["measured_centers"], np.float64).reshape(-1, 2),
        total=np.asarray(results["totals"], np.float64),
        minimum=np.full(n, np.nan),
        maximum=np.full(n, np.nan),
        flags=np.asarray(results["flags"], np.uint8),
        excluded=excluded,
        global_radius=int(results["global_radius"]),
        window=(int(rows), int(columns)),
        window_before=(int(before[0]), int(before[1])),
        original_shape=(int(height), int(width)),
        scan_shape=tuple(results["scan_shape"]),
        profiles=tuple(
            RadialProfile(p["index"], np.asarray(p["cumulative"]), tuple(p["center"]), int(p["retention_radius"]))
            for p in results["sample_profiles"]
        ),
        mean_pattern=_mean(reader),
        n_mean=len(range(0, n, max(1, n // N_MEAN))),
        notes=tuple(results.get("notes", ())),
    )
