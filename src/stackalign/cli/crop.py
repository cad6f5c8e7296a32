"""`stackalign crop`: crop 4D-STEM files to the radius that keeps a fraction of the intensity."""

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._common import Reading
from ._console import FAILED, USAGE, fail, say
from ._frame import command, refuse_idle
from ._options import Centers

if TYPE_CHECKING:
    from stackalign.crop import CroppingConfig

__all__ = ["crop"]

CropMask = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|auto",
        help="Valid pixels (.npy .tif .h5): True or non-zero = valid; auto leaves out detector faults and beam stops.",
        rich_help_panel="Input",
    ),
]
_SCIENCE, _RUN, _OUTPUT, _TEST = "Science", "Running", "Output", "Test mode"


@dataclass(frozen=True, kw_only=True)
class CropOptions(Reading):
    """Options of the crop, in the words of `CroppingConfig` where they are its own."""

    target_retention: Annotated[
        float, typer.Option(help="Fraction of the intensity to keep.", rich_help_panel=_SCIENCE)
    ] = 0.98
    min_retention: Annotated[
        float, typer.Option(help="Fraction that every pattern must keep; exit code 3 if not.", rich_help_panel=_SCIENCE)
    ] = 0.95
    margin_pixels: Annotated[int, typer.Option(help="Pixels added to the radius.", rich_help_panel=_SCIENCE)] = 3
    center_method: Annotated[
        str, typer.Option(metavar="centroid|center|manual", help="Where the centre is.", rich_help_panel=_SCIENCE)
    ] = "centroid"
    manual_center: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="Y X", help="Centre for --center-method manual, pixels from 0.", rich_help_panel=_SCIENCE),
    ] = None
    centers: Centers = None
    center_fit: Annotated[
        str,
        typer.Option(metavar="none|plane", help="Robust plane through the centres (descan).", rich_help_panel=_SCIENCE),
    ] = "none"
    radius_policy: Annotated[
        str,
        typer.Option(metavar="max|PERCENT", help="Largest radius, or a percentile of them.", rich_help_panel=_SCIENCE),
    ] = "max"
    mask: CropMask = None
    background: Annotated[
        str | None,
        typer.Option(
            metavar="N|corner|P%",
            help="Taken off for the measurement only; the data keep it.",
            rich_help_panel=_SCIENCE,
        ),
    ] = None
    negative: Annotated[
        str, typer.Option(metavar="keep|clip|error", help="What to do with negative pixels.", rich_help_panel=_SCIENCE)
    ] = "keep"
    nan: Annotated[
        str, typer.Option(metavar="mask|error", help="What to do with NaN and infinity.", rich_help_panel=_SCIENCE)
    ] = "mask"
    legacy_window: Annotated[
        bool, typer.Option("--legacy-window", help="The original script's window.", rich_help_panel=_SCIENCE)
    ] = False
    reuse_analysis: Annotated[
        Path | None,
        typer.Option(help="*_results.json whose radius and window to use again.", rich_help_panel=_SCIENCE),
    ] = None
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit 3 also for flagged patterns or a missed target.", rich_help_panel=_SCIENCE),
    ] = False
    chunk_size: Annotated[int, typer.Option(help="Most patterns in memory.", rich_help_panel=_RUN)] = 1000
    use_gpu: Annotated[
        bool, typer.Option("--use-gpu", help="Prefer a GPU; warn and use the CPU without.", rich_help_panel=_RUN)
    ] = False
    output_dtype: Annotated[
        str | None,
        typer.Option(metavar="TYPE", help="Type of the output, as float32 or int16.", rich_help_panel=_OUTPUT),
    ] = None
    layout: Annotated[
        str, typer.Option(metavar="input|NHW|NCHW", help="Axes of the output.", rich_help_panel=_OUTPUT)
    ] = "input"
    bin: Annotated[
        int, typer.Option(metavar="N", help="Sum blocks of N x N pixels before anything else.", rich_help_panel=_OUTPUT)
    ] = 1
    gap: Annotated[
        str,
        typer.Option(
            metavar="keep|mask|mean",
            help="Invalid pixels in the output: as recorded, 0 or NaN, or the mean of those around.",
            rich_help_panel=_OUTPUT,
        ),
    ] = "keep"
    one_window: Annotated[
        bool,
        typer.Option(
            "--one-window", help="One window for all patterns: beam shifts stay in the data.", rich_help_panel=_SCIENCE
        ),
    ] = False
    compression: Annotated[
        str | None,
        typer.Option(metavar="none|lz4|zstd|gzip", help="Of .h5 and .zarr.", rich_help_panel=_OUTPUT),
    ] = None
    no_visualization: Annotated[
        bool, typer.Option("--no-visualization", help="Do not draw the picture.", rich_help_panel=_OUTPUT)
    ] = False
    test_mode: Annotated[bool, typer.Option("--test-mode", help="Crop synthetic patterns.", rich_help_panel=_TEST)] = (
        False
    )
    test_patterns: Annotated[int, typer.Option(help="Number of synthetic patterns.", rich_help_panel=_TEST)] = 1000
    test_size: Annotated[int, typer.Option(help="Their side, in pixels.", rich_help_panel=_TEST)] = 256


@command
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
        typer.Option(
            "--output", "-o", help="Output file (.pt .npy .h5 .hspy .zarr .zspy), or a folder for several inputs."
        ),
    ] = None,
    *,
    common: CropOptions,
) -> int:
    """Crop diffraction patterns to the radius that keeps a fraction of their intensity.

    Reads each input twice, in pieces, and writes the cropped stack with its results (*_results.json) and a picture
    (*_visualization.png). Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a quality target was missed.
    """
    from . import _crop_jobs as jobs
    from . import _inputs as checks
    from ._plan import plan_jobs

    config = _config(common)
    _check(common)
    sources = [*(inputs or []), *(input_ or [])]
    if output is None:
        raise fail("give an output with --output", USAGE)
    if bool(sources) == common.test_mode:
        raise fail("give one or more inputs, or --test-mode, not both", USAGE)
    if common.report is None and config.visualization and not checks.can_plot():
        config = dataclasses.replace(config, visualization=False)
        logging.getLogger("stackalign.cli").warning("%s", jobs.NO_PICTURES)
    made_up = (output, common.test_patterns, common.test_size, common.quiet)
    with jobs.test_input(common.test_mode, *made_up) as made:
        planned = plan_jobs([str(made)] if made is not None else sources, output)
        mask = "auto" if str(common.mask) == "auto" else checks.load_mask(common.mask)
        outcomes = jobs.run_jobs(planned, config, mask, common)
    jobs.print_summary(outcomes, as_json=common.as_json, quiet=common.quiet)
    if common.report is not None:
        jobs.write_report(outcomes, common.report, quiet=common.quiet)
    return jobs.exit_code(outcomes)


def _check(common: CropOptions) -> None:
    """Refuse what contradicts, and options without effect."""
    from stackalign.io.stacks import COMPRESSIONS

    if common.compression not in COMPRESSIONS:
        raise fail(f"--compression must be one of none, lz4, zstd, gzip, got {common.compression!r}", USAGE)
    if common.legacy_window and common.radius_policy != "max":
        raise fail("--legacy-window takes the largest radius, as the original script: leave out --radius-policy", USAGE)
    if common.centers is not None and (common.center_method != "centroid" or common.reuse_analysis is not None):
        raise fail("--centers states the centres: leave out --center-method and --reuse-analysis", USAGE)
    for option in ("test_patterns", "test_size"):
        refuse_idle(option, common.test_mode, "without --test-mode")
    refuse_idle("manual_center", common.center_method == "manual", "without --center-method manual")
    measured = common.center_method == "centroid" or common.centers is not None
    for option in ("center_fit", "one_window"):
        refuse_idle(option, measured, f"with --center-method {common.center_method}")
    for option in ("margin_pixels", "radius_policy", "center_method", "manual_center", "center_fit", "background"):
        refuse_idle(option, common.reuse_analysis is None, "with --reuse-analysis, which states radius and centres")
    refuse_idle("use_gpu", common.device == "auto", f"with --device {common.device}")


def _config(common: CropOptions) -> "CroppingConfig":
    """Options as the library takes them."""
    from stackalign.crop import CroppingConfig

    use_gpu, device = _device(common)
    names = {field.name for field in dataclasses.fields(CroppingConfig)} & {f.name for f in dataclasses.fields(common)}
    policy = common.radius_policy
    try:
        return CroppingConfig(
            **{name: getattr(common, name) for name in names - {"device", "use_gpu", "memory_limit", "radius_policy"}},
            radius_policy="max" if policy == "max" else float(policy),
            memory_limit=common.bytes,
            visualization=not common.no_visualization,
            verbose=not common.quiet,
            use_gpu=use_gpu,
            device=device,
        )
    except ValueError as error:
        text = f"--radius-policy must be max or a percentile, got {policy!r}" if "convert" in str(error) else str(error)
        raise fail(text, USAGE) from error


def _device(common: CropOptions) -> tuple[bool, str]:
    """Whether a GPU was preferred, and the device: --use-gpu goes on without one, --device does not."""
    from stackalign.backends import load
    from stackalign.device import parse_device
    from stackalign.errors import BackendUnavailableError

    try:
        device = str(parse_device(common.device_there))
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    if common.use_gpu and device == "auto":
        try:
            load("cuda")
        except BackendUnavailableError as error:
            if not common.quiet:
                say(f"warning: --use-gpu, but {error}; going on with the CPU")
            return False, "cpu"
        return True, "cuda"
    if device.startswith("cuda"):
        try:
            load("cuda")
        except BackendUnavailableError as error:
            raise fail(f"--device {device}: {error}", FAILED) from error
    return common.use_gpu, device
