"""Align the images of a file onto a reference, in pieces, journalled and resumable."""

import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import runs
from stackalign._masks import file_mask
from stackalign._results import flagged_frames
from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.device import default_memory_limit
from stackalign.errors import DataError, OutputExistsError
from stackalign.io import StackReader, open_stack
from stackalign.io.formats import STORES
from stackalign.io.images import image_extensions, is_fits
from stackalign.io.provenance import provenance
from stackalign.io.stacks import writable_extensions
from stackalign.ops import asarray, device_of, to_numpy
from stackalign.runs import ChunkPlan, ProgressCallback, StopRequest

from .align import register_stack
from .background import background_sigma, band_pass
from .preview import Preview, with_holes
from .result import RegistrationStack
from .table import stack_from_arrays, stack_to_arrays

__all__ = ["AlignedFile", "align_file", "is_aligned", "results_path"]

BYTES_PER_PIXEL = 136
"""Memory per pixel of a chunk, as measured: planes, padded FFTs, pyramids, spline coefficients, and the output."""
LARGEST_CHUNK = 1 << 26
"""Pixels; larger chunks are no faster, and a stop would be heard late."""
RECORD = "_alignment.json"
OF_ANY_FILE = ("memory_limit", "allow_external", "read_timeout")
"""Ways of opening files that are those of a file of the reference as well."""


@dataclass(frozen=True)
class AlignedFile:
    """What became of one file.

    Parameters
    ----------
    source, output : Path
    reference : str
        File, and frame, of the reference.
    results : RegistrationStack
        One for each frame.
    provenance : dict
    seconds : float
    preview : Preview or None
        The frame with the largest shift.
    """

    source: Path
    output: Path
    reference: str
    results: RegistrationStack
    provenance: Mapping[str, Any]
    seconds: float
    preview: Preview


def results_path(output: Path) -> Path:
    """``<stem>_alignment.json``, written last: the mark of a finished run."""
    return runs.record_path(output, RECORD)


def is_aligned(output: Path) -> bool:
    """Tell whether an output was finished."""
    return output.exists() and results_path(output).exists() and not runs.journal_folder(output).exists()


@governed
def align_file(
    source: str | Path,
    output: str | Path,
    reference: str | Path | None = None,
    *,
    reference_index: int = 0,
    reference_mask: NDArray[np.bool_] | None = None,
    moving_mask: NDArray[np.bool_] | None = None,
    dataset: str | None = None,
    reference_dataset: str | None = None,
    background: float | bool | None = None,
    order: int = 1,
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
    **settings: Any,
) -> AlignedFile:
    """Register every image of a file with one reference and write them resampled onto its pixels.

    Parameters
    ----------
    source : path-like
        Any file that `stackalign.io.open` reads.
    output : path-like
        .npy, .h5, .zarr, .pt, .tif or .fits; float32, or float64 where the input is, NaN where an image says nothing.
        ``<stem>_alignment.json`` with the parameters is written beside it, last.
    reference : path-like, optional
        File of the reference; by default it is a frame of the source itself.
    reference_index : int
        Frame of the reference in its file.
    reference_mask, moving_mask : numpy.ndarray, optional
        (H, W) boolean, True = valid; combined with what a file says of itself.
    dataset, reference_dataset : str, optional
        Which dataset, series or HDU of the files.
    background : float or bool, optional
        Compare images without their masked Gaussian mean of this sigma in pixels (True: a fiftieth of the image), as
        `stackalign.diffraction.align` does; the output is made of the images as they are.
    order : int
        Of the interpolation of the output: 0, 1 or 3.
    device, workers
        As in `register`.
    memory_limit : int, optional
        Bytes for buffers.
    open_options : mapping, optional
        More options of `stackalign.io.open`, such as ``skip_frames``; a file of the reference alone is opened with
        ``allow_external`` and ``read_timeout`` only.
    resume : bool
        Go on where an interrupted run with the same settings stopped.
    overwrite : bool
        Replace existing outputs.
    progress : callable, optional
    stop : StopRequest, optional
        Checked after each chunk.
    executor : concurrent.futures.Executor, optional
        Where the chunks are worked on; the output has the same bytes.
    command : str, optional
        For the provenance.
    **settings
        ``model``, ``max_shift``, ``smooth``, ``bounds``, ``center``, ``min_overlap``, ``max_iter`` of `register_stack`.

    Returns
    -------
    AlignedFile

    Raises
    ------
    DataError
        A file cannot be used; nothing is left under the final names.
    OutputExistsError
        The output exists and `overwrite` is off.
    FinishedError
        With `resume`: a run of the same plan has finished this output.
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    began = time.perf_counter()
    final, limit = Path(output), memory_limit or default_memory_limit()
    _check_output(final)
    how: dict[str, Any] = {"memory_limit": limit, **(open_options or {})}
    opener = partial(open_stack, source, dataset=dataset, **how)
    reader = opener()
    try:
        image, name, header = _reference(reader, reference, reference_index, reference_dataset or dataset, how)
        if final.exists() and Path(source).resolve() == final.resolve():
            msg = f"output {final} is the input; choose another name"
            raise DataError(msg)
        frame = reader.info.shape[1:]
        masks = {
            "reference_mask": file_mask(reference_mask, None, image.shape, of=f"the images of {name}"),
            "moving_mask": file_mask(moving_mask, reader.info.mask, frame, of=f"the images of {source}"),
        }
        sigma = background_sigma(background, image.shape)
        parameters = {**settings, "background": sigma, "order": order}
        plan = _plan(reader, image, Path(name).name, masks, parameters, {"dataset": dataset, **how})
        # The workers of an executor choose their own devices.
        resolved = device if executor is not None else device_of(asarray(np.zeros(1), device))
        chunk = _AlignChunk(image, masks, settings, sigma, order, resolved, workers)
        with runs.Run(final, plan, suffix=RECORD, resume=resume, overwrite=overwrite, readers=[reader]) as run:
            job = runs.FrameJob(run, progress=progress, stop=stop, workers=workers, executor=executor)
            origin = runs.Source.of(opener, plan.inputs[0]["fingerprint"])
            results = _aligned(run, job, reader, chunk, header, limit, origin)
            preview = chunk.preview(reader, results)
            inputs = [
                {"path": str(source), "shape": list(reader.info.shape)},
                {"path": name, "shape": list(image.shape)},
            ]
            made = provenance(parameters, inputs, device=resolved, command=command)
            contents = {"reference": name, "input": str(source), "output": str(final), **_record(results)}
            run.publish({**contents, "provenance": made}, status="done" if all(r.ok for r in results) else "flagged")
    finally:
        reader.close()
    return AlignedFile(Path(source), final, name, results, made, time.perf_counter() - began, preview)


def _aligned(
    run: runs.Run,
    job: runs.FrameJob,
    reader: StackReader,
    chunk: "_AlignChunk",
    header: str | None,
    limit: int,
    source: runs.Source,
) -> RegistrationStack:
    """Register and resample what is not done yet."""
    info = reader.info
    n, height, width = info.shape
    rows, columns = chunk.reference.shape
    single = bool(info.metadata.get("single", False))
    output = runs.StackOutput(
        run,
        (n, rows, columns),
        _written_type(info.dtype),
        scan_shape=info.scan_shape,
        single=single,
        header=header,
        remote=job.remote,
    )
    pixels = max(height * width, rows * columns)
    plan = ChunkPlan.from_budget(n, pixels * BYTES_PER_PIXEL, limit // 2, max(1, LARGEST_CHUNK // pixels))
    columns = runs.Columns()
    try:
        job.work(reader, chunk, columns, plan, stage="align", output=output, source=source)
        output.finish()
    finally:
        output.close()
    return stack_from_arrays({**columns.arrays(), "model": np.array(chunk.model)})


def _written_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


@dataclass(frozen=True)
class _AlignChunk:
    """Register the images of a chunk with the reference, and resample them; picklable."""

    reference: NDArray[Any]
    masks: Mapping[str, NDArray[np.bool_] | None]
    settings: Mapping[str, Any]
    background: float | None
    order: int
    device: str
    workers: int | None

    @property
    def model(self) -> str:
        return str(self.settings.get("model", "shift"))

    def __call__(self, block: NDArray[Any], first: int) -> runs.Part:
        registered = self._registered(block)
        columns = stack_to_arrays(registered)
        del columns["model"]
        return runs.Part(columns, self._resampled(block, registered))

    def _registered(self, block: NDArray[Any]) -> RegistrationStack:
        images = asarray(block.astype(_written_type(block.dtype), copy=False), self.device)
        onto = self._compared(asarray(self.reference, self.device)[None], self.masks["reference_mask"])[0]
        compared = self._compared(images, self.masks["moving_mask"])
        options: dict[str, Any] = {**self.masks, **self.settings}
        return register_stack(onto, compared, **options, device=self.device, workers=self.workers)

    def _resampled(self, block: NDArray[Any], registered: RegistrationStack) -> NDArray[Any]:
        dtype = _written_type(block.dtype)
        masked = block.astype(dtype)
        if self.masks["moving_mask"] is not None:
            masked[:, ~self.masks["moving_mask"]] = np.nan
        shape = (self.reference.shape[0], self.reference.shape[1])
        aligned = registered.apply(asarray(masked, self.device), output_shape=shape, order=self.order)
        return to_numpy(aligned).astype(dtype, copy=False)

    def _compared(self, images: Array, mask: NDArray[np.bool_] | None) -> Array:
        """Images (N, H, W) as they are compared."""
        if self.background is None:
            return images
        return band_pass(images, None if mask is None else asarray(mask[None], self.device), self.background)

    def preview(self, reader: StackReader, results: RegistrationStack) -> Preview:
        """The frame with the largest shift, for the page."""
        k = int(np.abs(results.parameters[:, :2]).max(axis=1).argmax())
        block = np.empty((1, *reader.info.shape[1:]), reader.info.dtype)
        reader.read(k, k + 1, block)
        images = asarray(block.astype(_written_type(block.dtype), copy=False), self.device)
        onto = self._compared(asarray(self.reference, self.device)[None], self.masks["reference_mask"])[0]
        return Preview(
            k,
            with_holes(self.reference, self.masks["reference_mask"]),
            with_holes(block[0], self.masks["moving_mask"]),
            self._resampled(block, RegistrationStack([results[k]]))[0],
            (
                with_holes(to_numpy(onto), self.masks["reference_mask"]),
                with_holes(to_numpy(self._compared(images, self.masks["moving_mask"])[0]), self.masks["moving_mask"]),
            ),
            # Arrays of a run do not hold them.
            self._registered(block)[0].displacements,
            self.background,
        )


def _record(results: RegistrationStack) -> dict[str, Any]:
    """What the record says of the answers."""
    return {
        "model": results.model,
        "alignment": {key: value.tolist() for key, value in results.columns().items()},
        "matrices": results.matrices.tolist(),
        "flagged_frames": flagged_frames(r.flags for r in results),
    }


def _check_output(final: Path) -> None:
    known = (*writable_extensions(), *image_extensions())
    if not (is_fits(final) or final.suffix.lower() in known):
        msg = f"output {final} has no known extension; known are {' '.join(dict.fromkeys(known))}"
        raise DataError(msg)
    if final.is_dir() and final.suffix.lower() not in STORES:
        msg = f"output {final} is a folder; give a file name"
        raise OutputExistsError(msg)


def _reference(
    reader: StackReader, path: str | Path | None, index: int, dataset: str | None, how: Mapping[str, Any]
) -> tuple[NDArray[Any], str, str | None]:
    """The reference image, what it is called, and its FITS cards."""
    of_any = {name: value for name, value in how.items() if name in OF_ANY_FILE}
    source = reader if path is None else open_stack(path, dataset=dataset, **of_any)
    try:
        n, height, width = source.info.shape
        name = f"{source.path}"
        if not 0 <= index < n:
            msg = f"{name} has the frames 0 to {n - 1}, there is no frame {index} to be the reference"
            raise DataError(msg)
        block = np.empty((1, height, width), source.info.dtype)
        source.read(index, index + 1, block)
    finally:
        if source is not reader:
            source.close()
    header = source.info.metadata.get("header")
    image: NDArray[Any] = block[0] if source.info.mask is None else np.where(source.info.mask, block[0], np.nan)
    return image, name if n == 1 else f"{name}, frame {index}", header


def _plan(
    reader: StackReader,
    reference: NDArray[Any],
    reference_name: str,
    masks: Mapping[str, NDArray[np.bool_] | None],
    settings: Mapping[str, Any],
    how: Mapping[str, Any],
) -> runs.Plan:
    """Everything that the output follows from."""
    described = {"name": reference_name, "fingerprint": runs.array_digest(reference)}
    return runs.Plan(
        "align",
        [runs.input_record(reader, **how), described],
        {name: value for name, value in settings.items() if value is not None},
        {name: runs.array_digest(mask) for name, mask in masks.items()},
    )
