"""`stackalign refine`: parameters of a crystal and its pattern by matching simulated with measured disks."""

import json
import logging
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, say, user_log, worded
from ._options import AsJson, Overwrite, Quiet, Report, Workers

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
    from stackalign.device import parse_bytes
    from stackalign.errors import Interrupted, StackalignError

    from . import _inputs as checks
    from ._refine_config import load_plan
    from ._refine_jobs import finished_earlier, run_steps, write_results

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
    except ValueError as error:
        raise fail(str(error), USAGE) from error
    try:
        if report is not None:
            checks.require_plots()
            checks.check_report(report, replace=overwrite or resume)
        plan = load_plan(config, workers=workers, memory_limit=memory_limit)
        if resume and (earlier := finished_earlier(plan, target)) is not None:
            say(f"{target} was finished by an earlier run")
            if as_json:
                out.print_json(json.dumps(earlier))
            raise typer.Exit(SHORT if earlier["steps"][-1]["result"]["warnings"] else DONE)
        if target.exists() and not overwrite:
            raise fail(f"{target} exists; give another --output, or --overwrite", FAILED)
        finished = run_steps(plan, target, resume=resume, quiet=quiet)
        command = " ".join(["stackalign", *sys.argv[1:]])
        written = write_results(finished, plan, target, report, command, f"Refinement of {config.name}", quiet=quiet)
    except Interrupted as error:
        say(f"{error}; the same command with --resume goes on from the last step that was done")
        raise fail("interrupted", FAILED) from error
    except StackalignError as error:
        raise fail(worded(error), FAILED) from error
    except ValueError as error:  # what only shows to be wrong with the data at hand
        raise fail(worded(error), FAILED) from error
    if as_json:
        out.print_json(json.dumps(written))
    elif not quiet:
        _print(finished, target, report)
    raise typer.Exit(DONE if finished[-1].result.ok else SHORT)


def _print(finished: list[Any], target: Path, report: Path | None) -> None:
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
