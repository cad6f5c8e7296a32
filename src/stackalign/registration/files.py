"""Align the images of a file onto a reference, in pieces, journalled and resumable."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__
from stackalign.backends import Array
from stackalign.backends._threads import governed
from stackalign.chunks import ChunkPlan, ProgressCallback, StopRequest, read_chunks
from stackalign.device import default_memory_limit
from stackalign.errors import DataError, OutputExistsError
from stackalign.io import StackReader, create_stack
from stackalign.io.atomic import replace_path, write_text_atomic
from stackalign.io.images import image_extensions, is_fits, open_images, write_images
from stackalign.io.journal import Journal
from stackalign.io.provenance import dump_json, provenance
from stackalign.io.stacks import writable_extensions
from stackalign.ops import asarray, device_of, to_numpy

from .align import register_stack
from .background import background_sigma, band_pass
from .preview import Preview, with_holes
from .result import RegistrationResult, RegistrationStack
from .table import stack_from_arrays, stack_to_arrays

__all__ = ["AlignedFile", "align_file", "is_aligned", "results_path"]

CHECKPOINT_SECONDS = 2.0
BYTES_PER_PIXEL = 40
"""Memory per pixel of a chunk: the planes, their standardisation in float64, FFTs, and the output."""


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
        The frame with the largest shift of those that this run aligned; None where an earlier run had done all.
    """

    source: Path
    output: Path
    reference: str
    results: RegistrationStack
    provenance: Mapping[str, Any]
    seconds: float
    preview: Preview | None


def results_path(output: Path) -> Path:
    """``<stem>_alignment.json``, written last: the mark of a finished run."""
    return output.with_name(output.name.split(".")[0] + "_alignment.json")


def _journal_folder(output: Path) -> Path:
    return output.with_name(output.name + ".partial")


def is_aligned(output: Path) -> bool:
    """Tell whether an output was finished."""
    return output.exists() and results_path(output).exists() and not _journal_folder(output).exists()


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
    resume: bool = False,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    command: str | None = None,
    **settings: Any,
) -> AlignedFile:
    """Register every image of a file with one reference and write them resampled onto its pixels.

    Parameters
    ----------
    source : path-like
        A file that `stackalign.io.images.open_images` reads.
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
    resume : bool
        Go on where an interrupted run with the same settings stopped.
    overwrite : bool
        Replace existing outputs.
    progress : callable, optional
    stop : StopRequest, optional
        Checked after each chunk.
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
    Interrupted
        A stop was requested; ``resume=True`` goes on from there.
    """
    began = time.perf_counter()
    final, limit = Path(output), memory_limit or default_memory_limit()
    _check_output(final)
    reader = open_images(source, dataset=dataset, memory_limit=limit)
    try:
        image, name, header = _reference(reader, reference, reference_index, reference_dataset or dataset, limit)
        if final.exists() and Path(source).resolve() == final.resolve():
            msg = f"output {final} is the input; choose another name"
            raise DataError(msg)
        masks = {
            "reference_mask": _combined(reference_mask, image, name),
            "moving_mask": _combined(moving_mask, np.empty(reader.info.shape[1:]), str(source), reader.info.mask),
        }
        sigma = background_sigma(background, image.shape)
        plan = _plan_record(reader, image, masks, {**settings, "background": sigma}, order)
        journal = Journal(_journal_folder(final))
        _open_journal(journal, plan, final, resume=resume, overwrite=overwrite)
        run = _Run(reader, image, masks, settings, sigma, order, device, workers, final, journal)
        try:
            results, preview = run.work(limit, progress, stop)
        except (ValueError, TypeError) as error:
            if not isinstance(error, DataError):
                journal.discard()  # settings that no run accepts leave nothing to resume
            raise
        run.publish(header, overwrite=overwrite or resume)
    finally:
        reader.close()
    inputs = [{"path": str(source), "shape": list(reader.info.shape)}, {"path": name, "shape": list(image.shape)}]
    record = provenance({**settings, "background": sigma, "order": order}, inputs, device=run.device, command=command)
    done = AlignedFile(Path(source), final, name, results, record, time.perf_counter() - began, preview)
    columns = {key: value.tolist() for key, value in results.columns().items()}
    contents = {"reference": name, "input": str(source), "output": str(final), "model": results.model}
    matrices = results.matrices.tolist()
    write_text_atomic(
        results_path(final), dump_json({**contents, "alignment": columns, "matrices": matrices, "provenance": record})
    )
    journal.discard()
    return done


class _Run:
    """The registration of one file on its way."""

    def __init__(
        self,
        reader: StackReader,
        reference: NDArray[Any],
        masks: Mapping[str, Any],
        settings: Mapping[str, Any],
        background: float | None,
        order: int,
        device: str,
        workers: int | None,
        final: Path,
        journal: Journal,
    ) -> None:
        self._reader = reader
        self._reference = reference
        self._masks = masks
        self._settings = dict(settings)
        self._background = background
        self._order = order
        self.device = device_of(asarray(np.zeros(1), device))
        self._workers = workers
        self._final = final
        self._journal = journal
        streamed = final.suffix.lower() in writable_extensions() and not self._single
        self._data = journal.folder / (f"data{final.suffix}" if streamed else "data.npy")
        self._streamed = streamed

    @property
    def _single(self) -> bool:
        return bool(self._reader.info.metadata.get("single", False))

    def work(
        self, limit: int, progress: ProgressCallback | None, stop: StopRequest | None
    ) -> tuple[RegistrationStack, Preview | None]:
        """Register and resample what is not done yet."""
        info = self._reader.info
        n, height, width = info.shape
        shape = tuple(self._reference.shape)
        dtype = np.dtype(np.float64 if info.dtype == np.float64 else np.float32)
        records = self._journal.records()
        state = records[-1].get("state") if records else None
        results: list[RegistrationResult] = []
        if state is not None:
            results = list(stack_from_arrays(self._journal.load_arrays("results"))[: int(state["patterns"])])
        stopping = StopRequest() if stop is None else stop
        pixels = max(height * width, shape[0] * shape[1])
        plan = ChunkPlan.from_budget(n, pixels * BYTES_PER_PIXEL, limit // 2)
        writer = create_stack(
            self._data,
            (n, *shape),
            dtype,
            scan_shape=info.scan_shape if self._streamed else (n,),
            final_path=self._data,
            resume=state,
        )
        preview: Preview | None = None
        largest, saved = -1.0, time.monotonic()
        onto = self._reference
        if self._background is not None:
            onto = self._compared(asarray(onto, self.device)[None], self._masks["reference_mask"])[0]
        try:
            for _, last, block in read_chunks(self._reader, plan, start=len(results), stage="align", progress=progress):
                images = asarray(block.astype(dtype, copy=False), self.device)
                compared = self._compared(images, self._masks["moving_mask"])
                found = register_stack(
                    onto, compared, **self._masks, **self._settings,
                    device=self.device, workers=self._workers,
                )  # fmt: skip
                masked = block.astype(dtype)
                if self._masks["moving_mask"] is not None:
                    masked[:, ~self._masks["moving_mask"]] = np.nan
                aligned = to_numpy(
                    found.apply(asarray(masked, self.device), output_shape=shape, order=self._order)
                ).astype(dtype, copy=False)
                writer.write(aligned)
                far = np.abs(found.parameters[:, :2]).max(axis=1)
                k = int(far.argmax())
                if far[k] > largest:
                    largest = float(far[k])
                    preview = Preview(
                        len(results) + k,
                        with_holes(self._reference, self._masks["reference_mask"]),
                        with_holes(block[k], self._masks["moving_mask"]),
                        aligned[k].copy(),
                        (
                            with_holes(to_numpy(onto), self._masks["reference_mask"]),
                            with_holes(to_numpy(compared[k]), self._masks["moving_mask"]),
                        ),
                        self._background,
                    )
                results += found
                if time.monotonic() - saved > CHECKPOINT_SECONDS or stopping:
                    current = writer.checkpoint()
                    self._journal.save_arrays("results", **stack_to_arrays(RegistrationStack(results)))
                    self._journal.append({"state": current})
                    saved = time.monotonic()
                if last < n:
                    stopping.check("stopped while aligning")
            writer.finish({"software": f"stackalign {__version__}"})
        finally:
            writer.close()
        return RegistrationStack(results), preview

    def _compared(self, images: Array, mask: NDArray[np.bool_] | None) -> Array:
        """Images (N, H, W) as they are compared."""
        if self._background is None:
            return images
        return band_pass(images, None if mask is None else asarray(mask[None], self.device), self._background)

    def publish(self, header: str | None, *, overwrite: bool) -> None:
        """Give the finished data the final name, in the final format."""
        if self._streamed:
            replace_path(self._data, self._final, overwrite=overwrite)
            return
        images = np.load(self._data, mmap_mode="r")
        write_images(self._final, images[0] if self._single else images, fits_header=header, overwrite=overwrite)


def _check_output(final: Path) -> None:
    known = (*writable_extensions(), *image_extensions())
    if not (is_fits(final) or final.suffix.lower() in known):
        msg = f"output {final} has no known extension; known are {' '.join(dict.fromkeys(known))}"
        raise DataError(msg)
    if final.is_dir() and final.suffix.lower() != ".zarr":
        msg = f"output {final} is a folder; give a file name"
        raise OutputExistsError(msg)


def _reference(
    reader: StackReader, path: str | Path | None, index: int, dataset: str | None, limit: int
) -> tuple[NDArray[Any], str, str | None]:
    """The reference image, what it is called, and its FITS cards."""
    source = reader if path is None else open_images(path, dataset=dataset, memory_limit=limit)
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


def _combined(
    mask: NDArray[np.bool_] | None, image: NDArray[Any], name: str, own: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_] | None:
    if mask is not None and mask.shape != image.shape:
        msg = f"the mask has the shape {mask.shape}, the images of {name} have {image.shape}"
        raise DataError(msg)
    if mask is None or own is None:
        return own if mask is None else mask
    both: NDArray[np.bool_] = mask & own
    return both


def _plan_record(
    reader: StackReader,
    reference: NDArray[Any],
    masks: Mapping[str, NDArray[np.bool_] | None],
    settings: Mapping[str, Any],
    order: int,
) -> dict[str, Any]:
    """Everything that the output follows from."""

    def digest(array: NDArray[Any] | None) -> str | None:
        return None if array is None else hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()

    return {
        "version": __version__,
        "input": {"fingerprint": reader.fingerprint(), "shape": list(reader.info.shape)},
        "reference": digest(reference),
        "masks": {name: digest(mask) for name, mask in masks.items()},
        "settings": {name: value for name, value in settings.items() if value is not None},
        "order": order,
    }


def _open_journal(journal: Journal, plan: Mapping[str, Any], final: Path, *, resume: bool, overwrite: bool) -> None:
    if resume and journal.exists():
        differences = journal.matches(plan)
        if differences:
            msg = (
                f"{journal.folder} belongs to another run ({'; '.join(differences[:3])}); "
                "repeat the options of that run, or start anew without --resume"
            )
            raise DataError(msg)
        return
    for existing in (final, results_path(final)):
        if existing.exists() and not overwrite:
            msg = f"output {existing} exists; choose another name or allow it to be replaced (--overwrite)"
            raise OutputExistsError(msg)
    journal.create(plan)
