"""`stackalign crop`: crop 4D-STEM files to the radius that keeps a fraction of the intensity."""

import dataclasses
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._console import FAILED, USAGE, fail, user_log, worded
from ._options import (
    AllowExternal,
    AsJson,
    Centers,
    DeviceName,
    MemoryLimit,
    Overwrite,
    Quiet,
    ReadTimeout,
    Resume,
    Scheduler,
    Workers,
)

if TYPE_CHECKING:
    from stackalign.crop import CroppingConfig

__all__ = ["crop"]

CropMask = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|auto",
        help="Valid pixels (.npy .tif .h5): True or non-zero = valid; auto leaves out faults of the detector.",
        rich_help_panel="Input",
    ),
]
_SCIENCE, _RUN, _INPUT, _OUTPUT, _TEST = "Science", "Running", "Input", "Output", "Test mode"


def crop(
    inputs: Annotated[
        list[str] | None, typer.Argument(metavar="INPUT...", help="Files, folders or globs.", show_default=False)
    ] = None,
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", "-i", metavar="INPUT", help="The same as an argument; may be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Output file (.pt .npy .h5 .zarr), or a folder for several inputs."),
    ] = None,
    target_retention: Annotated[
        float, typer.Option(help="Fraction of the intensity to keep.", rich_help_panel=_SCIENCE)
    ] = 0.98,
    min_retention: Annotated[
        float, typer.Option(help="Fraction that every pattern must keep; exit code 3 if not.", rich_help_panel=_SCIENCE)
    ] = 0.95,
    margin_pixels: Annotated[int, typer.Option(help="Pixels added to the radius.", rich_help_panel=_SCIENCE)] = 3,
    center_method: Annotated[
        str, typer.Option(metavar="centroid|center|manual", help="Where the centre is.", rich_help_panel=_SCIENCE)
    ] = "centroid",
    manual_center: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="Y X", help="Centre for --center-method manual, pixels from 0.", rich_help_panel=_SCIENCE),
    ] = None,
    centers: Centers = None,
    center_fit: Annotated[
        str,
        typer.Option(metavar="none|plane", help="Robust plane through the centres (descan).", rich_help_panel=_SCIENCE),
    ] = "none",
    radius_policy: Annotated[
        str,
        typer.Option(metavar="max|PERCENT", help="Largest radius, or a percentile of them.", rich_help_panel=_SCIENCE),
    ] = "max",
    mask: CropMask = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="N|corner|P%",
            help="Taken off for the measurement only; the data keep it.",
            rich_help_panel=_SCIENCE,
        ),
    ] = None,
    negative: Annotated[
        str, typer.Option(metavar="keep|clip|error", help="What to do with negative pixels.", rich_help_panel=_SCIENCE)
    ] = "keep",
    nan: Annotated[
        str, typer.Option(metavar="mask|error", help="What to do with NaN and infinity.", rich_help_panel=_SCIENCE)
    ] = "mask",
    legacy_window: Annotated[
        bool, typer.Option("--legacy-window", help="The original script's window.", rich_help_panel=_SCIENCE)
    ] = False,
    reuse_analysis: Annotated[
        Path | None,
        typer.Option(help="*_results.json whose radius and window to use again.", rich_help_panel=_SCIENCE),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit 3 also for flagged patterns or a missed target.", rich_help_panel=_SCIENCE),
    ] = False,
    chunk_size: Annotated[int, typer.Option(help="Most patterns in memory.", rich_help_panel=_RUN)] = 1000,
    memory_limit: MemoryLimit = None,
    workers: Workers = None,
    device: DeviceName = "auto",
    scheduler: Scheduler = None,
    use_gpu: Annotated[
        bool, typer.Option("--use-gpu", help="Prefer a GPU; warn and use the CPU without.", rich_help_panel=_RUN)
    ] = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    dataset: Annotated[
        str | None, typer.Option(metavar="PATH", help="Dataset inside an HDF5 or zarr file.", rich_help_panel=_INPUT)
    ] = None,
    shape: Annotated[
        str | None, typer.Option(metavar="N,H,W", help="Shape of a raw binary file.", rich_help_panel=_INPUT)
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(metavar="TYPE", help="Type of a raw file, as >u2.", rich_help_panel=_INPUT)
    ] = None,
    offset: Annotated[int, typer.Option(help="Bytes before the data of a raw file.", rich_help_panel=_INPUT)] = 0,
    scan_shape: Annotated[
        str | None, typer.Option(metavar="RY,RX", help="Scan shape, if not in the file.", rich_help_panel=_INPUT)
    ] = None,
    allow_external: AllowExternal = False,
    read_timeout: ReadTimeout = None,
    skip_frames: Annotated[int, typer.Option(help="Frames before the scan.", rich_help_panel=_INPUT)] = 0,
    skip_per_row: Annotated[
        int, typer.Option(help="Frames behind each scan row (flyback) to leave out.", rich_help_panel=_INPUT)
    ] = 0,
    axes: Annotated[
        str | None,
        typer.Option(
            metavar="ORDER", help="Order of the file's axes, as yxRC for the detector first.", rich_help_panel=_INPUT
        ),
    ] = None,
    output_dtype: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Type of the output, as float32 or int16.", rich_help_panel=_OUTPUT),
    ] = None,
    layout: Annotated[
        str, typer.Option(metavar="input|NHW|NCHW", help="Axes of the output.", rich_help_panel=_OUTPUT)
    ] = "input",
    one_window: Annotated[
        bool,
        typer.Option(
            "--one-window", help="One window for all patterns: beam shifts stay in the data.", rich_help_panel=_SCIENCE
        ),
    ] = False,
    compression: Annotated[
        str | None,
        typer.Option(metavar="none|lz4|zstd|gzip", help="Of .h5 and .zarr.", rich_help_panel=_OUTPUT),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="One page on all inputs.", rich_help_panel=_OUTPUT)
    ] = None,
    no_visualization: Annotated[
        bool, typer.Option("--no-visualization", help="Do not draw the picture.", rich_help_panel=_OUTPUT)
    ] = False,
    as_json: AsJson = False,
    test_mode: Annotated[
        bool, typer.Option("--test-mode", help="Crop synthetic patterns.", rich_help_panel=_TEST)
    ] = False,
    test_patterns: Annotated[int, typer.Option(help="Number of synthetic patterns.", rich_help_panel=_TEST)] = 1000,
    test_size: Annotated[int, typer.Option(help="Their side, in pixels.", rich_help_panel=_TEST)] = 256,
) -> None:
    """Crop diffraction patterns to the radius that keeps a fraction of their intensity.

    Reads each input twice, in pieces, and writes the cropped stack with its results (*_results.json) and a picture
    (*_visualization.png). Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a quality target was missed.
    """
    from stackalign.errors import StackalignError
    from stackalign.io.stacks import COMPRESSIONS

    from . import _crop_jobs as jobs
    from . import _inputs as checks
    from ._frame import place_of
    from ._plan import plan_jobs

    if quiet:
        user_log.setLevel(logging.ERROR)
    place, device = place_of(scheduler, device)
    try:
        config = _config(locals())
        options = _open_options(dataset, shape, dtype, offset, scan_shape)
        options |= {"allow_external": allow_external, "read_timeout": read_timeout}
        options |= {"skip_frames": skip_frames, "skip_per_row": skip_per_row, "axes": axes}
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    sources = [*(inputs or []), *(input_ or [])]
    if output is None:
        raise fail("give an output with --output", USAGE)
    if compression not in COMPRESSIONS:
        raise fail(f"--compression must be one of none, lz4, zstd, gzip, got {compression!r}", USAGE)
    if legacy_window and radius_policy != "max":
        raise fail("--legacy-window takes the largest radius, as the original script: leave out --radius-policy", USAGE)
    if centers is not None and (center_method != "centroid" or reuse_analysis is not None):
        raise fail("--centers states the centres: leave out --center-method and --reuse-analysis", USAGE)
    if bool(sources) == test_mode:
        raise fail("give one or more inputs, or --test-mode, not both", USAGE)
    try:
        if report is not None:
            checks.require_plots()
        elif config.visualization and not checks.can_plot():
            config = dataclasses.replace(config, visualization=False)
            logging.getLogger("stackalign.cli").warning("%s", jobs.NO_PICTURES)
        if report is not None:
            checks.check_report(report, replace=overwrite or resume)
        with jobs.test_input(test_mode, output, test_patterns, test_size, quiet) as made:
            planned = plan_jobs([str(made)] if made is not None else sources, output)
            summary = jobs.run_jobs(
                planned,
                config,
                mask="auto" if str(mask) == "auto" else checks.load_mask(mask),
                open_options=options,
                compression=compression,
                reuse=reuse_analysis,
                centers=centers,
                scheduler=place,
                resume=resume,
                overwrite=overwrite,
                quiet=quiet,
                command=" ".join(["stackalign", *sys.argv[1:]]),
            )
        jobs.print_summary(summary, as_json=as_json, quiet=quiet)
        if report is not None:
            jobs.write_report(summary, report, quiet=quiet)
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    raise typer.Exit(jobs.exit_code(summary))


def _config(given: dict[str, Any]) -> "CroppingConfig":
    from stackalign.backends import load
    from stackalign.crop import CroppingConfig
    from stackalign.device import parse_bytes, parse_device
    from stackalign.errors import BackendUnavailableError

    from ._console import say

    policy: Any = given["radius_policy"]
    if policy != "max":
        try:
            policy = float(policy)
        except ValueError as error:
            msg = f"--radius-policy must be max or a percentile, got {policy!r}"
            raise ValueError(msg) from error
    device = str(parse_device(given["device"]))
    use_gpu = given["use_gpu"]
    if use_gpu and device == "auto":
        try:
            load("cuda")
            device = "cuda"
        except BackendUnavailableError as error:
            if not given["quiet"]:
                say(f"warning: --use-gpu, but {error}; going on with the CPU")
            use_gpu, device = False, "cpu"
    elif device.startswith("cuda"):
        try:
            load("cuda")
        except BackendUnavailableError as error:
            raise fail(f"--device {device}: {error}", FAILED) from error
    names = (
        "target_retention",
        "min_retention",
        "margin_pixels",
        "chunk_size",
        "center_method",
        "manual_center",
        "center_fit",
        "negative",
        "nan",
        "legacy_window",
        "workers",
        "strict",
        "background",
        "output_dtype",
        "layout",
        "one_window",
    )
    limit = given["memory_limit"]
    return CroppingConfig(
        **{name: given[name] for name in names},
        radius_policy=policy,
        memory_limit=None if limit is None else parse_bytes(limit),
        visualization=not given["no_visualization"],
        verbose=not given["quiet"],
        use_gpu=use_gpu,
        device=device,
    )


def _numbers(text: str, name: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.replace("x", ",").split(","))
    except ValueError as error:
        msg = f"{name} must be whole numbers separated by commas, got {text!r}"
        raise ValueError(msg) from error


def _open_options(
    dataset: str | None, shape: str | None, dtype: str | None, offset: int, scan_shape: str | None
) -> dict[str, Any]:
    return {
        "dataset": dataset,
        "shape": None if shape is None else _numbers(shape, "--shape"),
        "dtype": dtype,
        "offset": offset,
        "scan_shape": None if scan_shape is None else _numbers(scan_shape, "--scan-shape"),
    }
