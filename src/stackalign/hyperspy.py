"""Functions on signals of HyperSpy (and pyxem, and LumiSpy): signals in, signals out, lazy ones by chunks.

HyperSpy itself is not imported: outputs are made by the class of the signal that comes in.
"""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stackalign import diffraction, ops
from stackalign.crop import CroppingConfig, CropResult
from stackalign.crop.analysis import analyze
from stackalign.crop.arrays import crop_reader
from stackalign.crop.budget import chunk_plan
from stackalign.crop.conditioned import conditioned
from stackalign.crop.window import chosen_windows
from stackalign.device import default_memory_limit
from stackalign.errors import DataError
from stackalign.io import Calibration, StackReader, open_array
from stackalign.io.memory import ArrayReader
from stackalign.registration import RegistrationStack, register_stack

__all__ = ["align", "azimuthal_average", "crop", "reader_of"]

Axes = list[dict[str, Any]]


def _axes(signal: Any) -> Axes:
    """Axes of a signal as dictionaries, in the order of its data."""
    try:
        axes = [dict(axis) for axis in signal.axes_manager.as_dictionary().values()]
        data = signal.data
    except AttributeError as error:
        msg = f"expected a signal of HyperSpy, got {type(signal).__name__}; arrays have functions of their own"
        raise DataError(msg) from error
    if [bool(axis["navigate"]) for axis in axes[-2:]] != [False, False] or data.ndim not in (3, 4):
        shape = " x ".join(str(axis["size"]) for axis in axes)
        msg = (
            f"expected images (two signal axes) over one or two navigation axes, got a signal of {shape} with "
            f"{sum(not axis['navigate'] for axis in axes)} signal axes; transpose it with signal.transpose"
        )
        raise DataError(msg)
    return axes


def _known(axis: dict[str, Any]) -> tuple[float, float, str] | None:
    """Step, start and unit of an axis; None where nobody has calibrated it."""
    if axis.get("scale") in (None, 0) or not axis.get("units"):
        return None
    return float(axis["scale"]), float(axis["offset"]), str(axis["units"])


def _lazy(signal: Any) -> bool:
    return bool(getattr(signal, "_lazy", False))


def reader_of(signal: Any) -> StackReader:
    """Read a signal as a file is read: in pieces, with its calibration; a lazy one is computed piece by piece.

    Parameters
    ----------
    signal : hyperspy.signals.Signal2D
        With one or two navigation axes, lazy or not.

    Returns
    -------
    StackReader
        What `stackalign.crop.crop_reader` and other functions on readers take.

    Raises
    ------
    DataError
        It is no signal, or one with other axes.
    """
    import dataclasses

    axes = _axes(signal)
    plain = open_array(signal.data)
    calibration = Calibration.of_axes([_known(axis) for axis in axes])
    info = dataclasses.replace(plain.info, calibration=calibration)
    return ArrayReader(signal.data, plain._layout, info, name="the signal")


def _like(signal: Any, data: Any, axes: Axes, words: str) -> Any:
    """A signal of the same kind with other data."""
    made = type(signal)(data, axes=axes, metadata=signal.metadata.as_dictionary())
    made.metadata.General.title = " ".join(filter(None, (made.metadata.General.title, words)))
    return made


def _detector_axes(signal_axes: Axes, calibration: Calibration | None, shape: tuple[int, int]) -> Axes:
    """The two signal axes of an output, with the origin where the calibration has it."""
    made = []
    for k, axis in enumerate(signal_axes):
        changed = axis | {"size": shape[k]}
        if calibration is not None:
            changed |= {
                "scale": calibration.pixel_size[k],
                "offset": -calibration.origin[k] * calibration.pixel_size[k],
            }
        else:
            changed |= {"offset": 0.0}
        made.append(changed)
    return made


def crop(
    signal: Any, config: CroppingConfig | None = None, *, mask: NDArray[np.bool_] | str | None = None
) -> tuple[Any, CropResult]:
    """Crop a 4D-STEM signal to the radius that keeps a fraction of every pattern's intensity.

    Parameters
    ----------
    signal : hyperspy.signals.Signal2D
        With one or two navigation axes, lazy or not.
    config : CroppingConfig, optional
    mask : numpy.ndarray or "auto", optional
        (H, W) boolean, True = valid.

    Returns
    -------
    cropped : signal of the same kind
        With its navigation axes, and signal axes whose zero is at the mean centre where the input is calibrated. Lazy
        where the input is: its patterns are read once for the radius, and cut when they are asked for.
    result : CropResult
        For a lazy signal without retention, which is known after the cut: ``result.validation`` holds NaN.

    Examples
    --------
    >>> import hyperspy.api as hs  # doctest: +SKIP
    >>> import stackalign.hyperspy  # doctest: +SKIP
    >>> signal = hs.load("scan.hspy", lazy=True)  # doctest: +SKIP
    >>> cropped, result = stackalign.hyperspy.crop(signal)  # doctest: +SKIP
    >>> cropped.save("cropped.hspy")  # doctest: +SKIP
    """
    config = config or CroppingConfig(visualization=False, verbose=False)
    axes = _axes(signal)
    reader = reader_of(signal)
    if _lazy(signal):
        if config.bin > 1 or config.gap != "keep" or config.output_dtype is not None or config.layout != "input":
            msg = "bin, gap, output_dtype and layout are for signals in memory or files: call signal.compute() first"
            raise DataError(msg)
        data, result = _lazy_crop(signal.data, reader, config, mask)
    else:
        data, result = crop_reader(reader, config, mask=mask)
    detector = _detector_axes(axes[-2:], result.calibration, result.analysis.window)
    return _like(signal, data, [*axes[:-2], *detector], "cropped"), result


def _lazy_crop(
    data: Any, reader: StackReader, config: CroppingConfig, mask: NDArray[np.bool_] | str | None
) -> tuple[Any, CropResult]:
    """Measure now, cut later."""
    import dask.array as da

    from stackalign.crop.assemble import assemble

    _, valid, _ = conditioned(reader, config, mask)
    plan = chunk_plan(reader, config, config.memory_limit or default_memory_limit())
    analysis = analyze(reader, config, mask=valid, plan=plan)
    windows = chosen_windows(analysis.centers, analysis.global_radius, analysis.original_shape, config)
    scan = data.shape[:-2]
    whole = data.rechunk({data.ndim - 2: -1, data.ndim - 1: -1})
    corners = da.from_array(windows.corners.reshape(*scan, 2), chunks=(*whole.chunks[:-2], 2))
    cut = da.map_blocks(
        partial(_cut, shape=windows.shape), whole, corners[..., None, :], dtype=data.dtype,
        chunks=(*whole.chunks[:-2], (windows.shape[0],), (windows.shape[1],)),
    )  # fmt: skip
    unknown = np.full(reader.info.shape[0], np.nan)
    result = assemble(
        reader, config, analysis, unknown, windows=windows, mean_window=None, seconds=0.0, device=config.device,
        provenance={}, input_name="the signal",
    )  # fmt: skip
    return cut, result


def _cut(block: NDArray[Any], corners: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """Cut the windows of a chunk."""
    flat = np.ascontiguousarray(block).reshape(-1, *block.shape[-2:])
    cropped = ops.crop_windows(flat, corners.reshape(-1, 2), shape, workers=1)[0]
    return np.asarray(cropped).astype(block.dtype, copy=False).reshape(*block.shape[:-2], *shape)


def align(signal: Any, *, reference: int | ArrayLike = 0, **options: Any) -> tuple[Any, RegistrationStack]:
    """Align the images of a signal with one of them, with error bars.

    Parameters
    ----------
    signal : hyperspy.signals.Signal2D
        A series of images; a lazy one is computed.
    reference : int or array
        Number of the image that the others are aligned with, or an image.
    **options
        Those of `stackalign.register_stack`, as ``model="shift+scale"``.

    Returns
    -------
    aligned : signal of the same kind
        float, NaN where an image says nothing.
    registration : RegistrationStack
        One result for each image.
    """
    axes = _axes(signal)
    images = np.asarray(signal.data.compute() if _lazy(signal) else signal.data)
    flat = images.reshape(-1, *images.shape[-2:])
    fixed = flat[int(reference)] if np.ndim(reference) == 0 else np.asarray(reference)  # type: ignore[arg-type]
    registration = register_stack(fixed, flat, **options)
    # 64-bit integers are taken as floats; so is all that has no NaN.
    moved = np.asarray(
        registration.apply(flat.astype(np.result_type(flat.dtype, np.float32)), output_shape=fixed.shape)
    )
    data = moved.reshape(*images.shape[:-2], *fixed.shape)
    if _lazy(signal):
        import dask.array as da

        data = da.from_array(data)
    sizes = [axis | {"size": length} for axis, length in zip(axes[-2:], fixed.shape, strict=True)]
    return _like(signal, data, [*axes[:-2], *sizes], "aligned"), registration


def azimuthal_average(
    signal: Any, center: ArrayLike, *, mask: NDArray[np.bool_] | None = None, step: float = 1.0
) -> Any:
    """Average each pattern of a signal around a centre.

    Parameters
    ----------
    signal : hyperspy.signals.Signal2D
        Lazy ones are averaged when the result is computed, chunk by chunk.
    center : array_like
        (row, col) in pixel indices, for all patterns.
    mask : numpy.ndarray, optional
        (H, W) boolean, True = valid.
    step : float
        Width of a ring, in pixels.

    Returns
    -------
    signal
        With the navigation axes, and the radius as its one signal axis, in the detector's unit where both detector
        axes have the same scale. It has the class that HyperSpy's ``signal.T`` gives, see `hyperspy.api`.

    Raises
    ------
    DataError
        It is no signal, or one with other axes.
    """
    axes = _axes(signal)
    middle = np.asarray(center, np.float64)
    average = partial(_average, center=middle, mask=mask, step=step)
    first = signal.data[(slice(0, 1),) * (signal.data.ndim - 2)]
    probe = average(np.asarray(first.compute() if _lazy(signal) else first))
    if _lazy(signal):
        import dask.array as da

        whole = signal.data.rechunk({signal.data.ndim - 2: -1, signal.data.ndim - 1: -1})
        chunks = (*whole.chunks[:-2], (probe.shape[-1],))
        data = da.map_blocks(average, whole, dtype=np.float64, chunks=chunks, drop_axis=signal.data.ndim - 1)
    else:
        data = average(np.asarray(signal.data))
    same = axes[-1]["scale"] == axes[-2]["scale"] and axes[-1]["units"] == axes[-2]["units"]
    scale, units = (axes[-1]["scale"], axes[-1]["units"]) if same and axes[-1]["units"] else (1.0, "px")
    radius = axes[-1] | {
        "name": "radius", "size": probe.shape[-1], "scale": step * scale, "offset": 0.0, "units": units,
        "navigate": False,
    }  # fmt: skip
    # One signal axis: the class with two refuses it, its sum along one does not.
    made = _like(signal.isig[:, 0], data, [*axes[:-2], radius], "azimuthal average")
    return made


def _average(block: NDArray[Any], center: NDArray[np.float64], mask: Any, step: float) -> NDArray[np.float64]:
    """Profiles of a chunk."""
    flat = np.ascontiguousarray(block).reshape(-1, *block.shape[-2:])
    profile = diffraction.azimuthal_average(flat, center, mask=mask, step=step, device="cpu", workers=1)
    return np.asarray(profile.intensity).reshape(*block.shape[:-2], -1)
