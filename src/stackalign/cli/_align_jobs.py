"""The work behind `stackalign align`: one file after the other, then table and page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stackalign.errors import FinishedError, Interrupted, StackalignError
from stackalign.registration.files import AlignedFile, align_file
from stackalign.registration.result import BETWEEN
from stackalign.registration.table import write_table

from ._common import Reading, long_run
from ._console import progress_reporter, say, worded
from ._diffraction import about
from ._plan import Job

__all__ = ["Outcome", "run_jobs", "write_outputs"]


@dataclass(frozen=True)
class Outcome:
    """What became of a file: its result, or why there is none. ``columns`` is its part of the table."""

    job: Job
    result: AlignedFile | None
    columns: Mapping[str, list[Any]]
    message: str = ""

    def summary(self) -> dict[str, Any]:
        """One row for the user."""
        row: dict[str, Any] = {"input": str(self.job.source), "output": str(self.job.output), "message": self.message}
        if self.columns:
            flags = self.columns["flags"]
            scores = np.array(self.columns["score"], np.float64)
            row |= {
                "images": len(flags),
                "flagged": sum(map(bool, flags)),
                "flags": " ".join(sorted({name for text in flags for name in text.split()})),
                "lowest_score": round(float(scores.min()), 6),
            }
            if remarks := _remarks(self.columns):
                row["remarks"] = remarks
            for name in (n for n in self.columns if f"sigma_{n}" in self.columns):
                values = np.array(self.columns[name], np.float64)
                sigma = np.array([np.nan if s is None else s for s in self.columns[f"sigma_{name}"]], np.float64)
                if len(values) == 1:
                    row[name] = f"{values[0]:.5g} +- {sigma[0]:.2g}"
                else:
                    row[name] = f"{values.min():.5g} to {values.max():.5g}, median sigma {np.median(sigma):.2g}"
        if self.result is not None:
            row |= {"seconds": round(self.result.seconds, 3), "device": self.result.provenance["device"]}
        return row


def _remarks(columns: Mapping[str, list[Any]]) -> dict[str, str]:
    """A sentence for each flag: that of the first image that has it, with its number where there are several."""
    sentences: dict[str, str] = {}
    counts: dict[str, int] = {}
    texts = columns.get("remarks", [])  # files of earlier versions have none
    for k, text in enumerate(texts):
        for remark in filter(None, text.split(BETWEEN)):
            flag, _, sentence = remark.partition(": ")
            counts[flag] = counts.get(flag, 0) + 1
            sentences.setdefault(flag, sentence if len(texts) == 1 else f"image {k}: {sentence}")
    return {
        flag: sentence if counts[flag] == 1 else f"{counts[flag]} images; {sentence}"
        for flag, sentence in sentences.items()
    }


def run_jobs(
    jobs: Sequence[Job],
    reference: Path | None,
    common: Reading,
    **options: Any,
) -> list[Outcome]:
    """Align one file after the other; a failed one never stops the rest, a signal does."""
    outcomes = []
    options |= common.run_options
    with long_run(common.place) as (stop, executor):
        for job in jobs:
            if len(jobs) > 1 and not common.quiet:
                say(f"{job.source}")
            try:
                with progress_reporter(common.quiet) as progress:
                    result = align_file(
                        job.source, job.output, reference, progress=progress, stop=stop, executor=executor, **options
                    )
            except FinishedError as error:
                outcomes.append(Outcome(job, None, error.record["alignment"], "finished by an earlier run"))
                continue
            except Interrupted:
                raise
            except (StackalignError, MemoryError) as error:
                of_reference = reference is not None and str(reference) in str(error)
                say(f"error: {worded(error) if of_reference else about(job.source, error)}")
                outcomes.append(Outcome(job, None, {}, worded(error)))
                continue
            columns = {name: values.tolist() for name, values in result.results.columns().items()}
            outcomes.append(Outcome(job, result, columns))
    return outcomes


def write_outputs(outcomes: Sequence[Outcome], table: Path | None, report: Path | None) -> None:
    """Write the table of all files and the page."""
    done = [outcome for outcome in outcomes if outcome.columns]
    if table is not None and done:
        names = list(done[0].columns)
        columns: dict[str, Any] = {
            "file": np.array([str(o.job.source) for o in done for _ in o.columns["flags"]]),
        }
        for name in names:
            values = [value for o in done for value in o.columns[name]]
            text = any(isinstance(value, str) for value in values)
            columns[name] = np.array(values) if text or name == "pair" else np.array(values, np.float64)
        write_table(table, columns)
    results = [outcome.result for outcome in done if outcome.result is not None]
    if report is not None and results:
        from stackalign.plot.registration_report import write_registration_report

        write_registration_report(results, report)
