"""Two pipelines in small, for runs that are cut short: a batch of coalignments, and a refinement of two steps."""

import json
from pathlib import Path
from typing import Any

from refine.configuration import images, write_config
from solar import small
from stackalign.errors import FinishedError, Interrupted, StackalignError
from stackalign.refine import RefinementResult, refine_file
from stackalign.refine import files as refine_files
from stackalign.runs import StopRequest
from stackalign.runs.record import check_content, load_record
from stackalign.solar import files as solar_files

__all__ = ["VICTIM", "coalign", "prepare_coalign", "prepare_refine", "refine", "state_of"]

Said = list[tuple[str, str]]
"""What became of each task, and the sentence about it."""

VICTIM = {"coalign": "1.fits", "refine": "disks.npz"}
"""The input that is damaged."""

no_memory_in_step: int | None = None
"""Step of the refinement for which memory does not suffice."""


def prepare_coalign(folder: Path) -> None:
    """Two rasters, and one of noise whose correction is flagged and not written."""
    small.reference(folder / "ref.fits")
    for k in range(2):
        small.raster(folder / f"{k}.fits", 1.5 - k, k - 2.0)
    small.raster(folder / "2.fits", noise=True)


def coalign(folder: Path, out: Path, *, resume: bool) -> Said:
    """Two in lock-step, then one."""
    tasks = [
        solar_files.Task(folder / f"{k}.fits", (folder / "ref.fits",), out / f"{k}_out.fits", small.SETTINGS)
        for k in range(3)
    ]
    with StopRequest() as stop:
        outcomes = solar_files.run_tasks(tasks, workers=1, together=2, resume=resume, stop=stop)
    said = [(outcome.status, outcome.message) for outcome in outcomes]
    return [*said, ("interrupted", "")] if len(outcomes) < len(tasks) else said


def prepare_refine(folder: Path) -> None:
    """The configuration, and what its steps find, so that no run need find it again."""
    config = write_config(folder, images())
    done = refine_file(config, folder / "found.json", workers=1)
    for step in done.steps:
        step.result.save(folder / f"{step.step.title}.json")


def refine(folder: Path, out: Path, *, resume: bool) -> Said:
    """The steps with the results that are known."""
    steps = iter(range(2))

    def take(now: Any, step: Any, show: Any, stop: StopRequest) -> Any:
        stop.check(refine_files.STOPPED)
        if next(steps) == no_memory_in_step:
            msg = "Out of memory allocating 1,073,741,824 bytes (allocated so far: 84,000,000,000 bytes)."
            raise MemoryError(msg)
        return RefinementResult.load(folder / f"{step.title}.json"), ()

    refine_files.take = take
    try:
        with StopRequest() as stop:
            done = refine_file(folder / "si.toml", out / "out.json", resume=resume, stop=stop)
    except FinishedError as error:
        return [("earlier", str(error))]
    except Interrupted as error:
        return [("interrupted", str(error))]
    except (StackalignError, MemoryError) as error:
        return [("failed", str(error))]
    return [("done" if done.ok else "flagged", "")]


def state_of(out: Path) -> dict[str, Any]:
    """Names in a folder, and of each record what it says and whether its output is what it says."""
    names = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    records = {}
    for name in names:
        record = load_record(out / name) if name.endswith(".json") else None
        if record is not None:
            said = {key: record.get(key) for key in ("parameters", "flags")}
            if "steps" in record:
                said = {"values": [step["result"]["values"] for step in record["steps"]]}
            wrong = check_content(out / record["run"]["output"], record)
            records[name] = json.loads(json.dumps([record["run"]["status"], said, wrong]))
    return {"names": names, "records": records}
