"""`stackalign mask`: a mask of good pixels from files of images that should be alike."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import Reading, command_line
from ._console import EXIT, USAGE, fail, out, print_facts, say
from ._frame import command, run_or_load
from ._options import Images

if TYPE_CHECKING:
    from stackalign.diffraction.masks_file import MaskFile

__all__ = ["mask_command"]


@command
def mask_command(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Output file: .npy .tif .h5.")] = None,
    limits: Annotated[
        str, typer.Option(metavar="LOW,HIGH|none", help="Values that are allowed, both included.")
    ] = "0,30000",
    max_std: Annotated[float | None, typer.Option(help="Largest standard deviation over all images.")] = None,
    dead: Annotated[bool, typer.Option("--dead", help="Refuse pixels that never change.")] = False,
    detect: Annotated[
        bool,
        typer.Option(
            "--detect", help="Refuse gaps, dead and hot pixels, clusters and lines, found by their neighbours."
        ),
    ] = False,
    beam_stop: Annotated[
        bool, typer.Option("--beam-stop", help="Refuse the shadow of a beam stop: bar, needle, or disc on a stem.")
    ] = False,
    mask: Annotated[Path | None, typer.Option(help="Another mask to combine with (.npy .tif .h5).")] = None,
    *,
    common: Reading,
) -> int:
    """Find pixels that are outside limits, fluctuate or are dead, over all images of all files, in one pass.

    The mask is True, or 1, where a pixel is valid. Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but less than
    5 % of the pixels are valid.
    """
    from stackalign._masks import FEW_VALID
    from stackalign.io.stacks import image_extensions

    from . import _diffraction as shared
    from ._inputs import load_mask

    if output is None:
        raise fail("give an output with --output", USAGE)
    allowed: Any = None if limits == "none" else shared.numbers(limits, 2, "--limits")
    shared.check_output(output, image_extensions(), overwrite=common.replace)
    known = load_mask(mask)
    options = {"limits": allowed, "max_std": max_std, "dead": dead, "detect": detect}
    options |= {"beam_stop": beam_stop, "mask": known}
    made, summary, status = _mask_of(shared.image_files(files), output, options, common)
    if common.report is not None and made is not None:
        _report(common.report, output, made.pixels, made.valid)
    if common.as_json:
        out.print_json(json.dumps(summary))
    elif not common.quiet:
        print_facts([(name.replace("_", " "), str(value)) for name, value in summary.items()])
    if summary["valid_share"] < FEW_VALID and not common.quiet:
        _warn_of_few(summary, FEW_VALID, 0 if known is None else int(known.size - known.sum()))
    return EXIT[status]


def _mask_of(
    files: list[Path], output: Path, options: dict[str, Any], common: Reading
) -> "tuple[MaskFile | None, dict[str, Any], str]":
    """The mask, if this run has made it, with its summary and status."""
    from stackalign.diffraction.masks_file import mask_file
    from stackalign.errors import FinishedError

    def work(**how: Any) -> "tuple[MaskFile | None, dict[str, Any], str]":
        made = mask_file(files, output, **options, **common.run_options, **how)
        return made, made.summary(), made.status

    def load(error: FinishedError) -> "tuple[MaskFile | None, dict[str, Any], str]":
        run = error.record["run"]
        return None, run["summary"], run["status"]

    return run_or_load(common, work, load)


def _warn_of_few(summary: dict[str, Any], few: float, by_mask: int) -> None:
    counts = {**summary["refused"], "by --mask": by_mask}
    reasons = ", ".join(f"{name.replace('_', ' ')} {count}" for name, count in counts.items() if count)
    say(
        f"warning: only {summary['valid_share']:.1%} of the pixels are valid, less than {few:.0%}; refused are "
        f"{reasons}: look at --limits and the other options"
    )


def _report(path: Path, output: Path, mask: Any, valid: Any) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_mask, plot_pattern
    from stackalign.plot.diffraction_report import write_diffraction_report

    figure = new_figure(13, 4.2)
    left, middle, right = figure.subplots(1, 3)
    plot_mask(mask, ax=left)
    plot_pattern(mask.mean, mask=valid, words="mean of the images", ax=middle)
    plot_pattern(mask.std, mask=valid, words="standard deviation", ax=right)
    facts = {"output": output, "images": mask.n_images, "command": command_line()}
    facts |= {f"refused, {reason.replace('_', ' ')}": count for reason, count in mask.counts.items()}
    words = [(figure, "refused pixels, mean and deviation of the images")]
    write_diffraction_report(path, "Pixel mask", facts | mask.provenance["parameters"], words)
