"""`stackalign profile`: radial profiles and polar images of diffraction patterns in files."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import Masked, command_line
from ._console import EXIT, USAGE, fail, out, print_facts, say
from ._frame import command, run_or_load
from ._options import Centers, Images

if TYPE_CHECKING:
    from stackalign.diffraction import AzimuthalProfile
    from stackalign.diffraction.profiles_file import ProfileTable

__all__ = ["profile"]

OUTPUTS = (".csv", ".npz", ".h5")
_GEOMETRY = "Geometry"


@command
def profile(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Output file: .csv .npz .h5.")] = None,
    center: Annotated[
        str,
        typer.Option(
            metavar="ROW,COL|auto", help="Centre in pixels; auto finds that of each image.", rich_help_panel=_GEOMETRY
        ),
    ] = "auto",
    centers: Centers = None,
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
    *,
    common: Masked,
) -> int:
    """Average diffraction patterns around their centres.

    All profiles go into one file: long columns in .csv, arrays in .npz and .h5. Stacks are read in pieces. A file that
    fails is named and does not stop the others. Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but a
    centre that was found is not certain, or no pattern is seen.
    """
    from . import _diffraction as shared

    if output is None:
        raise fail("give an output with --output", USAGE)
    if centers is not None and center != "auto":
        raise fail("give --center or --centers, not both", USAGE)
    options: dict[str, Any] = {
        "n_angles": angles,
        "angular_bounds": shared.numbers(angular_bounds, 2, "--angular-bounds"),
        "radial_bounds": shared.numbers(radial_bounds, 2, "--radial-bounds"),
        "step": step,
        "split": split,
        "ellipse": shared.numbers(ellipse, 2, "--ellipse"),
    }
    shared.check_output(output, OUTPUTS, overwrite=common.replace)
    middle = None if center == "auto" else shared.numbers(center, 2, "--center")
    table = _profile_table(shared.image_files(files), output, centers, middle, options, common)
    for row in table.files:
        if row["message"]:
            say(f"error: {shared.about_text(Path(row['input']), row['message'])}")
        elif row["uncertain"] and not common.quiet:
            say(f"{row['input']}: {shared.UNCERTAIN.format(row['uncertain'], row['images'])}")
        shared.say_doubts(row["input"], row.get("flags", {}), quiet=common.quiet)
    if common.report is not None and table.first:
        _report(common.report, output, list(table.first.items()), options)
    _print(table, output, common)
    return EXIT[table.status]


def _profile_table(
    files: list[Path], output: Path, centers: Path | None, middle: Any, options: dict[str, Any], common: Masked
) -> "ProfileTable":
    from stackalign.diffraction.profiles_file import ProfileTable, profile_file

    from ._diffraction import centers_of

    stated: dict[str, Any] = {"center": lambda path: centers_of(centers, path, middle), "mask": common.valid()}
    return run_or_load(
        common,
        lambda **how: profile_file(files, output, **stated, **options, **common.run_options, **how),
        lambda error: ProfileTable(output, error.record["files"], error.record["radii"], {}),
    )


def _print(table: "ProfileTable", output: Path, common: Masked) -> None:
    summary = {
        "output": str(output),
        "images": sum(row.get("images", 0) for row in table.files),
        "uncertain": sum(row.get("uncertain", 0) for row in table.files),
        "radii": table.radii,
        "files": table.files,
    }
    if common.as_json:
        out.print_json(json.dumps(summary))
    elif not common.quiet:
        print_facts([(name, str(value)) for name, value in summary.items() if name != "files"])


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
    facts = {"output": output, "command": command_line(), **options}
    facts["device"] = parts[0][1].provenance["device"]
    rows = [[f.name, len(p.intensity), f"{p.centers.reshape(-1, 2)[0].round(3).tolist()}"] for f, p in parts]
    head = ["file", "images", "first centre (row, col)"]
    write_diffraction_report(path, "Radial profiles", facts, figures, head=head, rows=rows)
