"""`stackalign refine`: parameters of a crystal and its pattern by matching simulated with measured disks."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ._console import DONE, FAILED, SHORT, USAGE, fail, out, print_facts, progress_reporter, say, worded
from ._frame import Common, command, command_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackalign.refine import FinishedStep, Step
    from stackalign.refine.files import Refined

__all__ = ["refine"]

_RUN = "Running"


@command
def refine(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Data, crystal, beam, and what to refine.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.json", help="Results; CONFIG_refined.json.", show_default=False),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu, cuda or cuda:n, for the one in the configuration.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    *,
    common: Common,
) -> int:
    r"""Refine tilt, thickness, gl, voltage, Debye-Waller factors or unit cell of a CBED or LARBED experiment.

    The configuration has the tables \[data], \[crystal], \[beam], \[roi], optionally \[simulation] and \[matching],
    and one \[\[step]] after the other; see the README. Each step is kept as soon as it is done: --resume goes on after
    the last.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but the last step has a warning.
    """
    from stackalign.errors import FinishedError

    target = config.with_name(f"{config.stem}_refined.json") if output is None else output
    if target.suffix.lower() != ".json":
        raise fail(f"--output must end with .json, got {target}", USAGE)
    _check(common.workers, device)
    try:
        refined = _refined(config, target, common, device)
    except FinishedError as error:
        if not common.quiet:
            undrawn = f"; no report {common.report} was drawn" if common.report else ""
            say(f"{target} was finished by an earlier run{undrawn}")
        if common.as_json:
            out.print_json(json.dumps(error.record))
        return SHORT if error.record["run"]["status"] == "flagged" else DONE
    except ValueError as error:  # all settings are those of the configuration: a file, not the usage, is wrong
        raise fail(worded(error), FAILED) from error
    if common.as_json:
        out.print_json(json.dumps(refined.record))
    elif not common.quiet:
        _print(refined.steps, target, common.report)
    return DONE if refined.ok else SHORT


def _check(workers: int | None, device: str | None) -> None:
    """Refuse values that nothing can be."""
    from stackalign.device import parse_device

    if workers is not None and workers < 1:
        raise fail(f"--workers must be 1 or more, got {workers}", USAGE)
    try:
        if device is not None:
            parse_device(device)
    except ValueError as error:
        raise fail(str(error), USAGE) from error


def _refined(config: Path, target: Path, common: Common, device: str | None) -> "Refined":
    """Do the steps of a configuration."""
    from stackalign.refine import load_config, refine_file
    from stackalign.runs import StopRequest

    read = load_config(config, workers=common.workers, memory_limit=common.memory_limit, device=device)

    def on_step(k: int, step: "Step") -> None:
        if not common.quiet and len(read.steps) > 1:
            say(f"step {k + 1} of {len(read.steps)}: {step.title}")

    with StopRequest() as stop, progress_reporter(common.quiet, "evaluations") as progress:
        return refine_file(
            read,
            target,
            report=common.report,
            resume=common.resume,
            overwrite=common.overwrite,
            progress=progress,
            on_step=on_step,
            stop=stop,
            command=command_line(),
        )


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
