"""`stackalign bench`: how fast this machine is, beside other packages and its own ceilings."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import DONE, FAILED, USAGE, fail, say
from ._frame import command_frame
from ._options import AsJson, DeviceName, Quiet, Workers

__all__ = ["bench"]


def bench(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ops|register|crop|coalign|diffraction|refine|all]... | report FILE.json...",
            help="What to measure, all by default; or files to make a page and plots of.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder of the results, or of page and plots.")
    ] = Path("benchmarks-of-stackalign"),
    device: DeviceName = "auto",
    workers: Workers = None,
    peers: Annotated[
        bool, typer.Option("--peers", help="Measure other packages too, those that are installed.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Few sizes, few repetitions: minutes on two cores.")] = False,
    compare: Annotated[
        Path | None,
        typer.Option(metavar="OLD.json", help="Exit code 1 where a problem takes longer than it did, beyond noise."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="Share of the time by which a problem may be slower in any case.")
    ] = 0.1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure operations and pipelines: medians with spread, CPU time, first calls, shares of the machine's ceilings.

    Results are JSON in the folder of --output; `stackalign bench report FILE.json...` makes a page and plots of them.
    Exit code: 0 done, 1 failed or slower than --compare, 2 wrong usage.
    """
    with command_frame():
        names = what or ["all"]
        if names[0] == "report":
            if peers or quick or compare is not None:
                raise fail("report takes files only: leave out --peers, --quick and --compare", USAGE)
            _report(names[1:], output, quiet=quiet)
            raise typer.Exit(DONE)
        if tolerance < 0:
            raise fail(f"--tolerance must be 0 or more, got {tolerance:g}", USAGE)
        old = None if compare is None else _load(compare)
        results = _measure(names, device, workers, quick=quick, peers=peers, quiet=quiet)
        path = _saved(results, output)
        slower = old is not None and _compare(old, results, tolerance, quiet=quiet)
    if as_json:
        typer.echo(json.dumps(results))
    elif not quiet:
        say(f"results: {path}; stackalign bench report {path} -o {output}")
    raise typer.Exit(FAILED if slower else DONE)


def _measure(
    names: list[str], device: str, workers: int | None, *, quick: bool, peers: bool, quiet: bool
) -> dict[str, Any]:
    from stackalign.bench import GROUPS, run_benchmarks
    from stackalign.device import parse_device

    unknown = [name for name in names if name not in (*GROUPS, "all")]
    if unknown:
        raise fail(f"there is no benchmark {unknown[0]!r}; known are {', '.join(GROUPS)}, all, and report", USAGE)
    if workers is not None and workers < 1:
        raise fail(f"--workers must be 1 or more, got {workers}", USAGE)
    return run_benchmarks(
        names,
        device=str(parse_device(device)),
        workers=workers,
        size="quick" if quick else "full",
        peers=peers,
        progress=(lambda text: None) if quiet else say,
    )


def _saved(results: dict[str, Any], folder: Path) -> Path:
    from stackalign.bench import save
    from stackalign.errors import DataError

    try:
        return save(results, folder)
    except OSError as error:
        msg = f"the results cannot be written to {folder} ({error.strerror}); choose another folder with --output"
        raise DataError(msg) from error


def _load(path: Path) -> dict[str, Any]:
    """Results of an earlier run."""
    from stackalign.errors import DataError

    try:
        results = json.loads(path.read_text())
        known = isinstance(results, dict) and {"machine", "settings", "rows", "ceilings"} <= set(results)
    except (OSError, ValueError) as error:
        msg = f"{path} cannot be read as results of stackalign bench ({error})"
        raise DataError(msg) from error
    if not known:
        msg = f"{path} holds no results of stackalign bench"
        raise DataError(msg)
    return dict(results)


def _report(files: list[str], folder: Path, *, quiet: bool) -> None:
    from stackalign.bench import write_report

    if not files:
        raise fail("report needs files of results, as stackalign bench report results/*.json", USAGE)
    for path in write_report([_load(Path(name)) for name in files], folder):
        if not quiet:
            say(str(path))


def _compare(old: dict[str, Any], new: dict[str, Any], tolerance: float, *, quiet: bool) -> bool:
    """Say what has changed; tell whether anything became slower."""
    from stackalign.bench import compare

    for name in ("cpu", "device"):
        if old["machine"][name] != new["machine"][name]:
            say(f"warning: the earlier results are of another {name} ({old['machine'][name]})")
    if old["settings"]["workers"] != new["settings"]["workers"]:
        say(f"warning: the earlier results are of {old['settings']['workers']} threads")
    changes = compare(old, new, tolerance=tolerance)
    slower = [change for change in changes if change.slower]
    if not quiet:
        for change in changes:
            if change.slower or change.faster:
                say(str(change))
        say(f"{len(slower)} of {len(changes)} problems became slower")
    return bool(slower)
