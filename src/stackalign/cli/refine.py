"""`stackalign refine`: parameters of a crystal and its pattern by matching simulated with measured disks."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ._common import Guarded
from ._console import DONE, EXIT, FAILED, SHORT, USAGE, fail, out, print_facts, say, worded
from ._frame import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stackalign.refine import FinishedStep, RefinedPattern, Step
    from stackalign.refine.files import Refined

__all__ = ["refine"]

_RUN = "Running"


@command
def refine(
    configs: Annotated[
        list[Path], typer.Argument(metavar="CONFIG.toml...", help="Data, crystal, beam, and what to refine.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json|DIR",
            help="Results, or the folder of those of several; CONFIG_refined.json.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="auto, cpu, cuda, cuda:n or cuda:all, for the one in the configuration.",
            show_default=False,
            rich_help_panel=_RUN,
        ),
    ] = None,
    *,
    common: Guarded,
) -> int:
    r"""Refine tilt, thickness, gl, voltage, Debye-Waller factors or unit cell of a CBED or LARBED experiment.

    The configuration has the tables \[data], \[crystal], \[beam], \[roi], optionally \[simulation] and \[matching],
    and one \[\[step]] after the other; see the guide on refining. Each step is kept as soon as it is done: --resume
    goes on after the last. Several configurations are refined each by itself; with --scheduler, as many at a time as
    it has workers.
    Exit code: 0 done, 1 failed, 2 wrong usage, 3 done but the last step has a warning.
    """
    # No device at all is that of the configuration.
    chosen = Guarded(**{**vars(common), "device": device or ""})
    from ._plan import input_names

    _check(chosen)
    configs = [Path(name) for name in input_names([str(name) for name in configs])]
    if len(configs) > 1:
        return _many(configs, output, chosen)
    return _one(configs[0], output, chosen)


def _check(common: Guarded) -> None:
    """Refuse values that nothing can be."""
    from stackalign.device import parse_device

    if common.workers is not None and common.workers < 1:
        raise fail(f"--workers must be 1 or more, got {common.workers}", USAGE)
    if common.device == "cuda:all" and common.scheduler is not None:
        raise fail("give --scheduler or --device cuda:all, not both", USAGE)
    try:
        if common.device_there:
            parse_device(common.device_there)
    except ValueError as error:
        raise fail(str(error), USAGE) from error


def _one(config: Path, output: Path | None, common: Guarded) -> int:
    """Refine one pattern, and say what was found."""
    from stackalign.errors import FinishedError

    target = config.with_name(f"{config.stem}_refined.json") if output is None else output
    if target.suffix.lower() != ".json":
        raise fail(f"--output must end with .json, got {target}", USAGE)
    try:
        refined = _refined(config, target, common)
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


def _refined(config: Path, target: Path, common: Guarded) -> "Refined":
    """Do the steps of a configuration."""
    from stackalign.refine import load_config, refine_file

    options = common.run_options
    chosen: dict[str, Any] = {name: options.pop(name) or None for name in ("workers", "device")}
    options.pop("memory_limit")
    chosen |= _how(common)
    read = load_config(config, memory_limit=common.memory_limit, **chosen)

    def on_step(k: int, step: "Step") -> None:
        if not common.quiet and len(read.steps) > 1:
            say(f"step {k + 1} of {len(read.steps)}: {step.title}")

    with common.running("evaluations") as how:
        return refine_file(read, target, report=common.report, on_step=on_step, **how, **options)


def _how(common: Guarded) -> dict[str, Any]:
    """How files that a configuration names are opened."""
    return {"allow_external": common.allow_external, "read_timeout": common.read_timeout}


def _many(configs: list[Path], output: Path | None, common: Guarded) -> int:
    """Refine several patterns, and say what became of each."""
    from stackalign.refine import refine_files

    if common.report is not None:
        raise fail("--report is a page on one pattern: give one configuration, or leave it out", USAGE)
    if output is None or output.suffix.lower() == ".json":
        raise fail("several configurations need a folder for their results: give it with --output", USAGE)

    def each(pattern: "RefinedPattern") -> None:
        if pattern.status == "failed":
            say(f"error: {pattern.config}: {worded(pattern.error) if pattern.error else pattern.message}")
        elif not common.quiet:
            said = pattern.message or ("" if pattern.refined is None else _in_short(pattern.refined.steps[-1]))
            say(f"{pattern.config}: {pattern.status}" + (f": {said}" if said else ""))

    options = common.run_options | {"device": common.device_there or None} | _how(common)
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise fail(f"{output} cannot be written: {error.strerror or error}", FAILED) from error
    with common.running() as how:
        made = refine_files(configs, output, each=each, stop=how["stop"], executor=how["executor"], **options)
    if common.as_json:
        rows = [
            {"config": str(one.config), "output": str(one.output), "status": _status(one), "message": one.message}
            for one in made
        ]
        out.print_json(json.dumps(rows))
    left = sum(one.status == "interrupted" for one in made)
    if left:
        raise fail(f"interrupted with {left} of {len(made)} left; the same command with --resume goes on", FAILED)
    states = {_status(one) for one in made}
    return next(EXIT[state] for state in ("failed", "flagged", "done") if state in states)


def _status(pattern: "RefinedPattern") -> str:
    """What became of a pattern, by this run or an earlier one."""
    record = getattr(pattern.error, "record", None)
    return str(record["run"]["status"]) if pattern.status == "earlier" and record else pattern.status


def _in_short(done: "FinishedStep") -> str:
    """What the last step of a pattern found, in one line."""
    result = done.result
    return ", ".join(f"{name} {result.values[name]:.6g} +- {result.sigma[name]:.2g}" for name in result.names)


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
