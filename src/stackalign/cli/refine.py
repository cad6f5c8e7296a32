"""`stackalign refine`: parameters of a crystal and its pattern by matching simulated with measured disks."""

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, progress_reporter, say, user_log, worded
from ._options import AsJson, Overwrite, Quiet, Report, Workers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackalign.refine import FinishedStep, Step

__all__ = ["refine"]

_RUN = "Running"


def refine(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Data, crystal, beam, and what to refine.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Results; CONFIG_refined.json.", show_default=False),
    ] = None,
    report: Report = None,
    as_json: AsJson = False,
    memory_limit: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Most memory for simulations, as 2GB.", rich_help_panel=_RUN)
    ] = None,
    workers: Workers = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu, cuda or cuda:n, for the one in the configuration.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep the steps that an interrupted run finished.", rich_help_panel=_RUN)
    ] = False,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    r"""Refine tilt, thickness, gl, voltage, Debye-Waller factors or unit cell of a CBED or LARBED experiment.

    The configuration has the tables \[data], \[crystal], \[beam], \[roi], optionally \[simulation] and \[matching],
    and one \[\[step]] after the other; see the README. Each step is kept as soon as it is done: --resume goes on after
    the last.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but the last step has a warning.
    """
    from stackalign.device import parse_bytes, parse_device
    from stackalign.errors import FinishedError, Interrupted, StackalignError
    from stackalign.refine import load_config, refine_file
    from stackalign.runs import StopRequest

    from . import _inputs as checks

    if quiet:
        user_log.setLevel(logging.ERROR)
    target = config.with_name(f"{config.stem}_refined.json") if output is None else output
    if target.suffix.lower() != ".json":
        raise fail(f"--output must end with .json, got {target}", USAGE)
    if workers is not None and workers < 1:
        raise fail(f"--workers must be 1 or more, got {workers}", USAGE)
    try:
        if memory_limit is not None:
            parse_bytes(memory_limit)
        if device is not None:
            parse_device(device)
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    try:
        if report is not None:
            checks.require_plots()
            checks.check_report(report, replace=overwrite or resume)
        read = load_config(config, workers=workers, memory_limit=memory_limit, device=device)

        def on_step(k: int, step: "Step") -> None:
            if not quiet and len(read.steps) > 1:
                say(f"step {k + 1} of {len(read.steps)}: {step.title}")

        with StopRequest() as stop, progress_reporter(quiet, "evaluations") as progress:
            refined = refine_file(
                read,
                target,
                report=report,
                resume=resume,
                overwrite=overwrite,
                progress=progress,
                on_step=on_step,
                stop=stop,
                command=" ".join(["stackalign", *sys.argv[1:]]),
            )
    except FinishedError as error:
        if not quiet:
            say(f"{target} was finished by an earlier run" + (f"; no report {report} was drawn" if report else ""))
        if as_json:
            out.print_json(json.dumps(error.record))
        raise typer.Exit(SHORT if error.record["run"]["status"] == "flagged" else DONE) from error
    except Interrupted as error:
        say(f"{error}; the same command with --resume goes on from the last step that was done")
        raise fail("interrupted", FAILED) from error
    except (StackalignError, MemoryError, ValueError) as error:  # the last: only the data show it
        raise fail(worded(error), FAILED) from error
    if as_json:
        out.print_json(json.dumps(refined.record))
    elif not quiet:
        _print(refined.steps, target, report)
    raise typer.Exit(DONE if refined.ok else SHORT)


def _print(finished: "Sequence[FinishedStep]", target: Path, report: Path | None) -> None:
    for done in finished:
        result, sigma = done.result, done.result.sigma
        facts = [("step", done.step.title + (", finished by an earlier run" if done.resumed else ""))]
        facts += [(f"  {words}", f"score {score:.3f}, {t:.0f} angstrom") for words, score, t in done.trials]
        facts += [("score", f"{result.score:.4f}")]
        facts += [(name, f"{result.values[name]:.6g} +- {sigma[name]:.2g}") for name in result.names]
        facts += [("seconds", f"{done.seconds:.1f}")]
        facts += [("warning", text) for text in result.warnings]
        print_facts(facts)
    print_facts([("output", str(target)), *([("report", str(report))] if report else [])])
