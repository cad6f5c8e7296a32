"""`stackalign profile`: radial profiles and polar images of diffraction patterns in files."""

import json
import logging
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, progress_reporter, say, user_log
from ._options import AsJson, DatasetName, DeviceName, Images, MaskFile, Overwrite, Quiet, Report, Workers

if TYPE_CHECKING:
    from stackalign.diffraction import AzimuthalProfile

__all__ = ["profile"]

OUTPUTS = (".csv", ".npz", ".h5")
_GEOMETRY = "Geometry"


def profile(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Output file: .csv .npz .h5.")] = None,
    center: Annotated[
        str,
        typer.Option(
            metavar="ROW,COL|auto", help="Centre in pixels; auto finds that of each image.", rich_help_panel=_GEOMETRY
        ),
    ] = "auto",
    angles: Annotated[
        int | None, typer.Option(metavar="N", help="Polar image of N sectors.", rich_help_panel=_GEOMETRY)
    ] = None,
    angular_bounds: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST,LAST", help="Degrees, 0 right, 90 up as printed; may wrap.", rich_help_panel=_GEOMETRY
        ),
    ] = None,
    radial_bounds: Annotated[
        str | None, typer.Option(metavar="FIRST,LAST", help="Radii in pixels.", rich_help_panel=_GEOMETRY)
    ] = None,
    step: Annotated[float, typer.Option(help="Distance of rings in pixels.", rich_help_panel=_GEOMETRY)] = 1.0,
    split: Annotated[
        bool, typer.Option("--split", help="Share pixels between rings.", rich_help_panel=_GEOMETRY)
    ] = False,
    ellipse: Annotated[
        str | None,
        typer.Option(
            metavar="RATIO,ANGLE", help="Distortion: longer axis by shorter, degrees.", rich_help_panel=_GEOMETRY
        ),
    ] = None,
    mask: MaskFile = None,
    dataset: DatasetName = None,
    report: Report = None,
    as_json: AsJson = False,
    workers: Workers = None,
    device: DeviceName = "auto",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Average diffraction patterns around their centres.

    All profiles go into one file: long columns in .csv, arrays in .npz and .h5. Stacks are read in pieces. A file that
    fails is named and does not stop the others. Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a
    centre that was found is not certain.
    """
    from stackalign.errors import StackalignError

    from . import _crop_jobs as jobs
    from . import _diffraction as shared

    if quiet:
        user_log.setLevel(logging.ERROR)
    if output is None:
        raise fail("give an output with --output", USAGE)
    try:
        middle = None if center == "auto" else shared.numbers(center, 2, "--center")
        options: dict[str, Any] = {
            "n_angles": angles,
            "angular_bounds": shared.numbers(angular_bounds, 2, "--angular-bounds"),
            "radial_bounds": shared.numbers(radial_bounds, 2, "--radial-bounds"),
            "step": step,
            "split": split,
            "ellipse": shared.numbers(ellipse, 2, "--ellipse"),
        }
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    rows: list[dict[str, Any]] = []
    parts: list[tuple[Path, AzimuthalProfile]] = []
    sure: list[Any] = []
    try:
        shared.check_output(output, OUTPUTS, overwrite=overwrite)
        if report is not None:
            jobs.require_plots()
            jobs.check_report(report, replace=overwrite)
        valid = jobs.load_mask(mask)
        for file in shared.image_files(files):
            try:
                made, confidence, uncertain = _of_file(file, dataset, middle, valid, options, device, workers, quiet)
            except StackalignError as error:
                say(f"error: {shared.about(file, error)}")
                rows.append({"input": str(file), "message": str(error)})
                continue
            sure.append(confidence)
            parts += [(file, part) for part in made]
            images = sum(1 if p.intensity.ndim == (1 if p.angle is None else 2) else len(p.intensity) for p in made)
            rows.append({"input": str(file), "images": images, "uncertain": uncertain, "message": ""})
            if uncertain and not quiet:
                say(f"{file}: {shared.UNCERTAIN.format(uncertain, images)}")
        if parts:
            _write(output, parts, sure)
            if report is not None:
                _report(report, output, parts, options)
    except StackalignError as error:
        raise fail(str(error), FAILED) from error
    except ValueError as error:  # a setting that only shows to be wrong with the images at hand
        raise fail(str(error), USAGE) from error
    summary = {
        "output": str(output) if parts else None,
        "images": sum(row.get("images", 0) for row in rows),
        "uncertain": sum(row.get("uncertain", 0) for row in rows),
        "radii": max((p.radius.size for _, p in parts), default=0),
        "files": rows,
    }
    if as_json:
        out.print_json(json.dumps(summary))
    elif not quiet and parts:
        print_facts([(name, str(value)) for name, value in summary.items() if name != "files"])
    failed = any(row["message"] for row in rows)
    raise typer.Exit(FAILED if failed else SHORT if summary["uncertain"] else DONE)


def _of_file(
    file: Path, dataset: str | None, middle: Any, valid: Any, options: dict[str, Any], device: str, workers: int | None,
    quiet: bool,
) -> "tuple[list[AzimuthalProfile], Any, int]":  # fmt: skip
    """Profiles, how certain the centres are (NaN where they were stated), and how many are not."""
    import numpy as np

    from stackalign import diffraction
    from stackalign.chunks import Progress
    from stackalign.diffraction._inputs import check_center
    from stackalign.diffraction.files import open_frames

    from ._diffraction import chunks_of

    find: Any = diffraction
    reader = open_frames(file, dataset=dataset)
    found, sure, uncertain = [], [], 0
    began = time.perf_counter()
    try:
        check_center(middle, reader.info.shape[1:], str(file))
        known = valid if reader.info.mask is None else diffraction.combine_masks(reader.info.mask, *_given(valid))
        with progress_reporter(quiet, "images") as progress:
            for first, images in chunks_of(reader):
                center = middle
                sure.append(np.full(len(images), np.nan))
                if center is None:
                    guess = find.autocenter(images, mask=known, device=device, workers=workers)
                    center, sure[-1] = guess.center, guess.confidence
                    uncertain += sum(map(bool, guess.flags))
                found.append(
                    diffraction.azimuthal_average(images, center, mask=known, device=device, workers=workers, **options)
                )
                if progress is not None:
                    done = first + len(images)
                    seconds = time.perf_counter() - began
                    progress(Progress(file.name, done, reader.info.shape[0], done * reader.info.pattern_bytes, seconds))
    finally:
        reader.close()
    return found, np.concatenate(sure), uncertain


def _given(mask: Any) -> tuple[Any, ...]:
    return () if mask is None else (mask,)


def _write(output: Path, parts: "list[tuple[Path, AzimuthalProfile]]", sure: list[Any]) -> None:
    """All profiles in one file, NaN beyond the radii of the shorter ones."""
    import numpy as np

    from stackalign.io._hdf5_memory import write_datasets
    from stackalign.io._writer import full_disk_as_data_error
    from stackalign.io.atomic import atomic_path

    longest = max((p for _, p in parts), key=lambda p: p.radius.size)
    size = longest.radius.size

    def joined(name: str, fill: float) -> Any:
        pieces = []
        for _, part in parts:
            values = getattr(part, name)
            pad = [(0, 0)] * (values.ndim - 1) + [(0, size - values.shape[-1])]
            pieces.append(np.pad(values, pad, constant_values=fill))
        return np.concatenate(pieces)

    arrays = {
        "radius": longest.radius,
        "intensity": joined("intensity", np.nan),
        "variance": joined("variance", np.nan),
        "weight": joined("weight", 0.0),
    }
    counts = [len(p.intensity) for _, p in parts]
    centers = [np.broadcast_to(p.centers, (n, 2)) for (_, p), n in zip(parts, counts, strict=True)]
    arrays["center"] = np.concatenate(centers)
    arrays["confidence"] = np.concatenate(sure)
    arrays["source"] = np.array([str(f) for (f, _), n in zip(parts, counts, strict=True) for _ in range(n)])
    frames: list[int] = []
    for k, (file, _) in enumerate(parts):
        start = frames[-1] + 1 if k and parts[k - 1][0] == file else 0
        frames += range(start, start + counts[k])
    arrays["frame"] = np.array(frames)
    if longest.angle is not None:
        arrays["angle"] = longest.angle
    with (
        full_disk_as_data_error(output, str(output), sum(a.nbytes for a in arrays.values())),
        atomic_path(output) as partial,
    ):
        if output.suffix.lower() == ".npz":
            with partial.open("wb") as file_:
                np.savez_compressed(file_, **arrays)
        elif output.suffix.lower() == ".h5":
            write_datasets(partial, arrays)
        else:
            _write_csv(partial, arrays)


def _write_csv(path: Path, arrays: dict[str, Any]) -> None:
    """One row per file, frame, sector and radius."""
    import csv

    import numpy as np

    angle = arrays.get("angle")
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ["file", "frame", "center_row", "center_col", *([] if angle is None else ["angle_deg"]), "radius_px",
             "intensity", "variance", "weight"]
        )  # fmt: skip
        for k, (name, frame, center) in enumerate(
            zip(arrays["source"], arrays["frame"], arrays["center"], strict=True)
        ):
            rows = np.atleast_2d(arrays["intensity"][k])
            for a, intensity in enumerate(rows):
                sector = [] if angle is None else [f"{angle[a]:.10g}"]
                other = [np.atleast_2d(arrays[n][k])[a] for n in ("variance", "weight")]
                for radius, *numbers in zip(arrays["radius"], intensity, *other, strict=True):
                    if numbers[2] > 0:
                        start = [name, int(frame), f"{center[0]:.6f}", f"{center[1]:.6f}", *sector]
                        writer.writerow([*start, f"{radius:.10g}", *(f"{v:.10g}" for v in numbers)])


def _report(path: Path, output: Path, parts: "list[tuple[Path, AzimuthalProfile]]", options: dict[str, Any]) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_polar, plot_profile
    from stackalign.plot.diffraction_report import write_diffraction_report

    figures = []
    for file, part in parts[:20]:
        figure = new_figure(9, 3.6)
        ax = figure.add_subplot()
        (plot_profile if part.angle is None else plot_polar)(part, ax=ax)
        figures.append((figure, f"profile of {file.name}"))
    facts = {"output": output, "command": " ".join(["stackalign", *sys.argv[1:]]), **options}
    facts["device"] = parts[0][1].provenance["device"]
    rows = [[f.name, len(p.intensity), f"{p.centers.reshape(-1, 2)[0].round(3).tolist()}"] for f, p in parts]
    head = ["file", "images", "first centre (row, col)"]
    write_diffraction_report(path, "Radial profiles", facts, figures, head=head, rows=rows)
