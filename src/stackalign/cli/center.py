"""`stackalign center`: the centres of diffraction patterns in files."""

import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import Masked
from ._console import EXIT, out, print_facts, say
from ._frame import command, run_or_load
from ._options import Images

if TYPE_CHECKING:
    from stackalign.diffraction.centers_file import CenterTable

__all__ = ["center"]

OUTPUTS = (".csv", ".json")


@command
def center(
    files: Images,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Table of the centres: .csv or .json.")] = None,
    *,
    common: Masked,
) -> int:
    """Find the centres of diffraction patterns of powders and crystals, beam visible or blocked.

    Without --output the centres are printed. Stacks are read in pieces; a file that fails is named and does not stop
    the others. The table is an input of crop, peaks, nfold and profile (--centers). Exit code: 0 done, 1 failed,
    2 wrong usage, 3 done but a centre is not certain, or no pattern is seen.
    """
    from . import _diffraction as shared

    with tempfile.TemporaryDirectory() as folder:
        if output is not None:
            shared.check_output(output, OUTPUTS, overwrite=common.replace)
        valid = common.valid()
        table = _center_table(shared.image_files(files), output or Path(folder) / "centers.csv", valid, common)
    for file, text in table.failures.items():
        say(f"error: {shared.about_text(file, text)}")
    for name, doubts in table.doubts.items():
        shared.say_doubts(name, doubts, quiet=common.quiet)
    if common.report is not None:
        _report(common.report, table.rows, valid, common)
    _print(table, output, as_json=common.as_json, quiet=common.quiet)
    return EXIT[table.status]


def _center_table(files: list[Path], output: Path, valid: Any, common: Masked) -> "CenterTable":
    from stackalign.diffraction.centers_file import center_file, load_center_table

    return run_or_load(
        common,
        lambda **how: center_file(files, output, mask=valid, **common.run_options, **how),
        lambda error: load_center_table(output, error.record),
    )


def _print(table: "CenterTable", output: Path | None, *, as_json: bool, quiet: bool) -> None:
    from stackalign.io.provenance import dump_json

    if as_json:
        out.print_json(dump_json(table.rows))
    elif not quiet:
        for row in table.rows if output is None else []:
            error = f"+- {row['sigma']:.2g} px" if math.isfinite(row["sigma"]) else "without an error"
            words = f"{row['row']:.3f}, {row['col']:.3f} {error}  {row['kind']}, confidence {row['confidence']:.2f}"
            out.print(f"{row['file']} {row['frame']}: {words} {row['flags']}", markup=False)
        if output is not None:
            facts = {"output": output, "images": len(table.rows), "flagged": table.flagged}
            print_facts([(name, str(value)) for name, value in facts.items()])


def _report(path: Path, rows: list[dict[str, Any]], mask: Any, common: Masked) -> None:
    from stackalign.plot._canvas import new_figure
    from stackalign.plot.diffraction import plot_pattern
    from stackalign.plot.diffraction_report import write_diffraction_report

    from ._diffraction import first_image

    figures = []
    for row in [r for r in rows if r["frame"] == 0][:20]:
        figure = new_figure(5, 4.2)
        middle = (row["row"], row["col"])
        image = first_image(Path(row["file"]), dataset=common.dataset, **common.open_options)
        plot_pattern(image, mask=mask, center=middle, words=row["kind"], ax=figure.add_subplot())
        figures.append((figure, f"centre of {row['file']}"))
    head = list(rows[0])
    table = [[f"{value:.3f}" if isinstance(value, float) else value for value in row.values()] for row in rows]
    write_diffraction_report(path, "Centres", {"images": len(rows)}, figures, head=head, rows=table)
