"""The work behind `stackalign crop`: one input after the other, to a table."""

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stackalign.crop import CroppingConfig, CropResult, crop_file
from stackalign.crop.synthetic import iter_test_data
from stackalign.device import format_bytes
from stackalign.diffraction.centers_file import read_centers
from stackalign.errors import (
    DataError,
    FinishedError,
    Interrupted,
    StackalignError,
)
from stackalign.io import create_stack
from stackalign.io.provenance import dump_json

from ._common import command_line, long_run
from ._console import DONE, FAILED, SHORT, fail, out, print_facts, progress_reporter, say, worded
from ._plan import Job

if TYPE_CHECKING:
    from .crop import CropOptions

__all__ = [
    "NO_PICTURES",
    "Outcome",
    "exit_code",
    "print_summary",
    "run_jobs",
    "test_input",
    "write_report",
]

TEST_AIRY_RADIUS = 0.06
TEST_COUNTS = 1e5
"""Synthetic patterns that can be cropped: sharp Airy disks with Poisson counts, without a pedestal of noise."""


@dataclass(frozen=True)
class Outcome:
    """What became of a job: "done", "short", "failed" or "complete" (finished by an earlier run)."""

    job: Job
    status: str
    message: str = ""
    result: CropResult | None = None
    seconds: float = 0.0


NO_PICTURES = 'without matplotlib there are no pictures: pip install "stackalign[plot]"'


@contextmanager
def test_input(requested: bool, output: Path, n_patterns: int, size: int, quiet: bool) -> Iterator[Path | None]:
    """Write synthetic patterns into a temporary file beside the output, one by one."""
    if not requested:
        yield None
        return
    if n_patterns < 1 or size < 8:
        raise fail("--test-patterns must be at least 1 and --test-size at least 8", 2)
    folder = output if output.is_dir() else output.parent
    if not folder.is_dir():
        msg = f"the folder {folder} does not exist; create it or choose another output"
        raise DataError(msg)
    with tempfile.TemporaryDirectory(prefix=".stackalign-test-", dir=folder) as temporary:
        file = Path(temporary) / "airy.npy"
        if not quiet:
            say(f"making {n_patterns} synthetic patterns of {size} x {size}")
        writer = create_stack(file, (n_patterns, size, size), np.uint16, scan_shape=(n_patterns,), channel_axis=True)
        try:
            patterns = iter_test_data(
                n_patterns, size, 0.0, seed=0, dtype=np.uint16, counts=TEST_COUNTS, radius=TEST_AIRY_RADIUS
            )
            for pattern in patterns:
                writer.write(pattern[None])
            writer.finish({})
        finally:
            writer.close()
        yield file


def run_jobs(
    jobs: Sequence[Job],
    config: CroppingConfig,
    mask: NDArray[np.bool_] | str | None,
    common: "CropOptions",
) -> list[Outcome]:
    """Crop one input after the other; a failed one never stops the rest, a signal does."""
    outcomes = []
    options: dict[str, Any] = {
        "mask": mask,
        "open_options": {"dataset": common.dataset, **common.open_options},
        "compression": common.compression,
        "reuse": common.reuse_analysis,
        "resume": common.resume,
        "overwrite": common.overwrite,
        "command": command_line(),
    }
    centers, quiet = common.centers, common.quiet
    with long_run(common.place) as (stop, executor):
        options |= {"stop": stop, "executor": executor}
        for job in jobs:
            began = time.perf_counter()
            if len(jobs) > 1 and not quiet:
                say(f"{job.source}")
            try:
                stated = None if centers is None else read_centers(centers, job.source)
                with progress_reporter(quiet) as progress:
                    result = crop_file(job.source, job.output, config, centers=stated, progress=progress, **options)
            except FinishedError as error:
                status = "short" if error.record["run"]["status"] == "short" else "complete"
                outcomes.append(Outcome(job, status, "finished by an earlier run"))
                continue
            except Interrupted:
                raise
            except (StackalignError, MemoryError) as error:
                say(f"error: {worded(error)}")
                outcomes.append(Outcome(job, "failed", worded(error), None, time.perf_counter() - began))
                continue
            outcomes.append(Outcome(job, result.status, "", result, time.perf_counter() - began))
            if not quiet:
                for message in (*result.analysis.notes, *result.messages):
                    say(f"{job.source.name}: {message}")
    return outcomes


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Failed before short before done."""
    states = {outcome.status for outcome in outcomes}
    return FAILED if "failed" in states else SHORT if "short" in states else DONE


def write_report(outcomes: Sequence[Outcome], path: Path, *, quiet: bool) -> None:
    """Write one page on everything that was cropped."""
    from stackalign.plot.crop_report import write_crop_report

    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    if not results:
        if not quiet:
            say(f"no report {path}: nothing was cropped")
        return
    write_crop_report(results, path)


def _row(outcome: Outcome) -> dict[str, Any]:
    row: dict[str, Any] = {
        "input": str(outcome.job.source),
        "output": str(outcome.job.output),
        "status": outcome.status,
        "message": outcome.message,
        "seconds": outcome.seconds,
    }
    result = outcome.result
    if result is not None:
        stats = result.validation.to_dict()
        row |= {
            "shape": [*result.analysis.scan_shape, *result.analysis.original_shape],
            "cropped_shape": list(result.analysis.window),
            "global_radius": result.analysis.global_radius,
            "mean_retention": stats["mean_retention"],
            "min_retention": stats["min_retention"],
            "size_saved": result.saved,
            "output_bytes": result.output_bytes,
            "flagged": int(result.analysis.excluded.sum()),
            "patterns_per_second": result.analysis.n_patterns / max(outcome.seconds, 1e-9),
            "input_bytes_per_second": result.input_bytes / max(outcome.seconds, 1e-9),
            "device": result.device,
            "messages": [*result.analysis.notes, *result.messages],
        }
    return row


def print_summary(outcomes: Sequence[Outcome], *, as_json: bool, quiet: bool) -> None:
    """Print the table of what was done, or JSON."""
    rows = [_row(outcome) for outcome in outcomes]
    if as_json:
        sys.stdout.write(json.dumps(json.loads(dump_json(rows)), indent=2) + "\n")
        return
    if quiet:
        return
    if len(outcomes) == 1:
        print_facts(_facts(rows[0]))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("output", "shape", "radius", "window", "mean kept", "min kept", "saved", "patterns/s", "status"):
        table.add_column(name, justify="left" if name in ("output", "status") else "right", no_wrap=name != "output")
    for row in rows:
        name = Path(row["output"]).name
        if "shape" not in row:
            table.add_row(Text(name), *[""] * 7, row["status"])
            continue
        table.add_row(
            Text(name),
            _times(row["shape"]),
            str(row["global_radius"]),
            _times(row["cropped_shape"]),
            f"{row['mean_retention']:.4f}",
            f"{row['min_retention']:.4f}",
            f"{row['size_saved']:.1%}",
            f"{row['patterns_per_second']:,.0f}",
            row["status"],
        )
    out.print(table)


def _times(numbers: Sequence[int]) -> str:
    return "x".join(map(str, numbers))


def _facts(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """One crop in words."""
    if "shape" not in row:
        return [(row["status"], row["message"])]
    rate = f"{row['patterns_per_second']:,.0f} patterns/s, {format_bytes(row['input_bytes_per_second'])}/s"
    return [
        ("input", f"{row['input']}, {_times(row['shape'])}"),
        ("output", f"{row['output']}, {format_bytes(row['output_bytes'])}, {row['size_saved']:.1%} saved"),
        ("radius", f"{row['global_radius']} px, window {_times(row['cropped_shape'])}"),
        ("retention", f"mean {row['mean_retention']:.4f}, min {row['min_retention']:.4f}"),
        ("flagged", f"{row['flagged']} patterns"),
        ("time", f"{row['seconds']:.2f} s on {row['device']}, {rate}"),
        ("status", row["status"]),
    ]
