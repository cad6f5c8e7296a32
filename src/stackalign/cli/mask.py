"""`stackalign mask`: a mask of good pixels from files of images that should be alike."""

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, progress_reporter, say, user_log, worded
from ._options import AsJson, DatasetName, DeviceName, Images, Overwrite, Quiet, Report, Workers

__all__ = ["mask_command"]

FEW_VALID = 0.05
OUTPUTS = (".npy", ".tif", ".tiff", ".h5", ".hdf5")


def mask_command(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Output file: .npy .tif .h5.")] = None,
    limits: Annotated[
        str, typer.Option(metavar="LOW,HIGH|none", help="Values that are allowed, both included.")
    ] = "0,30000",
    max_std: Annotated[float | None, typer.Option(help="Largest standard deviation over all images.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Refuse pixels that never change.")] = False,
    mask: Annotated[Path | None, typer.Option(help="Another mask to combine with (.npy .tif .h5).")] = None,
    dataset: DatasetName = None,
    report: Report = None,
    as_json: AsJson = False,
    workers: Workers = None,
    device: DeviceName = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Find pixels that are outside limits, fluctuate or are dead, over all images of all files, in one pass.

    The mask is True, or 1, where a pixel is valid. Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but less than
    5 % of the pixels are valid.
    """
    import numpy as np

    from stackalign.diffraction import combine_masks, mask_from_collection
    from stackalign.errors import DataError, StackalignError
    from stackalign.io.images import write_images

    from . import _crop_jobs as jobs
    from . import _diffraction as shared

    if quiet:
        user_log.setLevel(logging.ERROR)
    if output is None:
        raise fail("give an output with --output", USAGE)
    try:
        allowed: Any = None if limits == "none" else shared.numbers(limits, 2, "--limits")
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    try:
        shared.check_output(output, OUTPUTS, overwrite=overwrite)
        if report is not None:
            jobs.require_plots()
            jobs.check_report(report, replace=overwrite)
        known = jobs.load_mask(mask)
        named = shared.image_files(files)
        with progress_reporter(quiet, "images") as progress:
            found = mask_from_collection(
                _frames(named, dataset), limits=allowed, max_std=max_std, dead=dead, device=device, workers=workers,
                progress=progress,
            )  # fmt: skip
        valid = found.mask
        if known is not None:
            if known.shape != valid.shape:
                msg = f"mask {mask} has the shape {known.shape}, the images have {valid.shape}"
                raise DataError(msg)
            valid = combine_masks(found, known)
        # Formats of images know no truth values.
        written = valid if output.suffix.lower() == ".npy" else valid.astype(np.uint8)
        write_images(output, written, overwrite=overwrite)
        if report is not None:
            _report(report, output, found, valid)
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    share = float(valid.mean())
    summary = {
        "output": str(output), "images": found.n_images, "shape": list(valid.shape), "valid": int(valid.sum()),
        "valid_share": round(share, 6), "refused": found.counts, "device": found.provenance["device"],
    }  # fmt: skip
    if as_json:
        out.print_json(json.dumps(summary))
    elif not quiet:
        print_facts([(name.replace("_", " "), str(value)) for name, value in summary.items()])
    if share < FEW_VALID and not quiet:
        counts = {**found.counts, "by --mask": 0 if known is None else int(known.size - known.sum())}
        reasons = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count)
        say(
            f"warning: only {share:.1%} of the pixels are valid, less than {FEW_VALID:.0%}; refused are {reasons}: "
            "look at --limits and the other options"
        )
    raise typer.Exit(SHORT if share < FEW_VALID else DONE)


def _frames(files: list[Path], dataset: str | None) -> Iterator[Any]:
    """Images of all files, one by one."""
    from stackalign.errors import DataError

    from ._diffraction import chunks_of, opened

    first: tuple[Path, tuple[int, ...]] | None = None
    for file, reader in opened(files, dataset):
        shape = reader.info.shape[1:]
        first = first or (file, shape)
        if shape != first[1]:
            msg = f"images of {file} have the shape {shape}, those of {first[0]} have {first[1]}; give one kind"
            raise DataError(msg)
        for _, images in chunks_of(reader):
            yield from images


def _report(path: Path, output: Path, found: Any, valid: Any) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_mask, plot_pattern
    from stackalign.plot.diffraction_report import write_diffraction_report

    figure = new_figure(13, 4.2)
    left, middle, right = figure.subplots(1, 3)
    plot_mask(found, ax=left)
    plot_pattern(found.mean, mask=valid, words="mean of the images", ax=middle)
    plot_pattern(found.std, mask=valid, words="standard deviation", ax=right)
    facts = {"output": output, "images": found.n_images, "command": " ".join(["stackalign", *sys.argv[1:]])}
    facts |= {f"refused, {reason.replace('_', ' ')}": count for reason, count in found.counts.items()}
    words = [(figure, "refused pixels, mean and deviation of the images")]
    write_diffraction_report(path, "Pixel mask", facts | found.provenance["parameters"], words)
