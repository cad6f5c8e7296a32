"""Crop an array in memory."""

import dataclasses
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import ops
from stackalign.backends._threads import governed
from stackalign.device import default_memory_limit
from stackalign.io import StackReader, open_array
from stackalign.io.provenance import provenance
from stackalign.ops.transfer import unwrapped
from stackalign.runs import ChunkPlan, ProgressCallback

from .analysis import analyze
from .assemble import assemble
from .budget import chunk_plan
from .conditioned import conditioned, conditioning_notes
from .config import CroppingConfig
from .convert import converted, output_form
from .cutting import cut
from .measure import N_MEAN, source_name
from .result import CropResult
from .sums import Sums
from .virtual import VirtualDetectors, virtual_detectors, virtual_images
from .window import Windows, chosen_windows

__all__ = ["crop_array", "crop_reader", "shaped_like"]


def shaped_like(patterns: NDArray[Any], reader: StackReader, config: CroppingConfig) -> NDArray[Any]:
    """Give flat patterns (N, h, w) the leading axes of the output: channel, scan, or none."""
    form = output_form(config, reader.info)
    if form.channel_axis:
        return patterns[:, None]
    return patterns.reshape(*form.scan_shape, *patterns.shape[1:])


def crop_reader(
    reader: StackReader,
    config: CroppingConfig,
    *,
    mask: NDArray[np.bool_] | str | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[NDArray[Any], CropResult]:
    """Crop what a reader gives into an array in memory; see `crop_array`."""
    began = time.perf_counter()
    device = ops.device_of(ops.asarray(np.zeros(1), config.device))  # "auto" is settled here, once
    config = dataclasses.replace(config, device=device)
    opened = reader
    reader, valid, conditioning = conditioned(opened, config, mask)
    plan = chunk_plan(reader, config, config.memory_limit or default_memory_limit())
    analysis = analyze(reader, config, mask=valid, plan=plan, progress=progress)
    notes = (*conditioning_notes(opened, config, mask, conditioning), *analysis.notes)
    analysis = dataclasses.replace(analysis, notes=notes)
    windows = chosen_windows(analysis.centers, analysis.global_radius, analysis.original_shape, config)
    detectors = virtual_detectors(analysis, valid)
    out, sums = _cut_in_memory(reader, config, windows, valid, plan, progress, detectors)
    name = "array in memory" if reader.path is None else str(reader.path)
    result = assemble(
        reader,
        config,
        analysis,
        sums.kept,
        windows=windows,
        mean_window=sums.mean_sum / analysis.n_mean,
        seconds=time.perf_counter() - began,
        device=device,
        provenance=provenance(config.to_dict(), [{"path": name, "fingerprint": reader.fingerprint()}], device=device),
        input_name=name,
        output_dtype=out.dtype,
        virtual=virtual_images(detectors, sums.virtual, analysis.total),
    )
    return shaped_like(out, reader, config), result


def _cut_in_memory(
    reader: StackReader,
    config: CroppingConfig,
    windows: Windows,
    valid: NDArray[np.bool_] | None,
    plan: ChunkPlan,
    progress: ProgressCallback | None,
    detectors: VirtualDetectors | None,
) -> tuple[NDArray[Any], Sums]:
    """Second pass: the windows (N, h, w), and what is added up on the way."""
    n = reader.info.shape[0]
    out = np.empty((n, *windows.shape), output_form(config, reader.info).dtype)
    sums = Sums.zeros(n, windows.shape, with_totals=False)
    position = 0

    def sink(block: NDArray[Any]) -> None:
        nonlocal position
        out[position : position + len(block)] = converted(block, out.dtype, position, source_name(reader))
        position += len(block)

    cut(
        reader, config, windows, sink, sums.kept, mask=valid, plan=plan, progress=progress, mean_sum=sums.mean_sum,
        mean_step=max(1, n // N_MEAN), detectors=detectors, virtual=sums.virtual,
    )  # fmt: skip
    return out, sums


@governed
def crop_array(
    data: Any,
    config: CroppingConfig | None = None,
    *,
    mask: NDArray[np.bool_] | str | None = None,
    progress: ProgressCallback | None = None,
) -> tuple[NDArray[Any], CropResult]:
    """Crop diffraction patterns to the radius that keeps a fraction of their intensity.

    Parameters
    ----------
    data : array-like
        (N, H, W), (N, 1, H, W) or a scan (Ry, Rx, H, W): NumPy, torch, CuPy, or anything that can be sliced (h5py,
        zarr, dask). Read in chunks, twice.
    config : CroppingConfig, optional
    mask : numpy.ndarray or "auto", optional
        (H, W) boolean, True = valid; "auto" leaves out faults of the detector and beam stops.
    progress : callable, optional
        Called with a `stackalign.chunks.Progress` after each chunk.

    Returns
    -------
    cropped : numpy.ndarray
        Of the input's type, with its leading axes.
    result : CropResult

    Raises
    ------
    DataError
        The data have no signal, a shape that is not a stack, or break a policy of the configuration.

    Notes
    -----
    Radius: see `stackalign.retention_radius`. The window holds the whole disk of the global radius about every centre;
    it is not clamped to the frame, and filled with zeros beyond it. See `stackalign.encircled_window`.

    Examples
    --------
    >>> from stackalign import crop
    >>> patterns = crop.create_test_data(n_patterns=8, image_size=64, noise_level=0.0)
    >>> config = crop.CroppingConfig(target_retention=0.9, min_retention=0.85, visualization=False)
    >>> cropped, result = crop.crop_array(patterns, config)
    >>> cropped.shape[-2:] == result.analysis.window
    True
    >>> bool(result.validation.used.min() >= 0.85)
    True
    """
    reader = open_array(unwrapped(data, "data"))
    try:
        return crop_reader(reader, config or CroppingConfig(), mask=mask, progress=progress)
    finally:
        reader.close()
