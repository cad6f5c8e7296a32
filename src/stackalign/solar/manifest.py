"""Tables of coalignments: what is to be done, one row a raster, and what was found."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stackalign.errors import DataError

from .files import Task, output_in

if TYPE_CHECKING:
    from .files import Outcome

__all__ = ["DESCRIPTIONS", "MANIFEST", "count_rows", "read_manifest", "table_columns"]

MANIFEST = ("target", "reference", "output", "window", "model", "max_shift", "frames_dir", "time_window")
"""Columns of a manifest; all but the target may be missing or empty. Several references are separated by ``;``."""

DESCRIPTIONS = {
    "dx": "how far the middle of the image moves along x",
    "dy": "how far the middle of the image moves along y",
    "sx": "how much longer a pixel is along x than the header said",
    "sy": "how much longer a pixel is along y than the header said",
    "scale": "how much longer a pixel is than the header said",
    "angle": "added to the roll, CROTA",
    "shear": "move of a row along x, in pixels per row",
    "score": "correlation with the reference",
    "overlap": "share of the valid pixels of the target that the score is made of",
    "message": "what went wrong",
}
"""Of the columns of the table of results."""


def count_rows(path: str | os.PathLike[str]) -> int:
    """Number of rows of a manifest."""
    return sum(1 for _ in _rows(Path(path)))


def read_manifest(
    path: str | os.PathLike[str], folder: Path, settings: Mapping[str, Any], **common: Any
) -> Iterator[Task]:
    """Read tasks from a table, one row at a time.

    Parameters
    ----------
    path : path-like
        CSV with the columns of `MANIFEST`; paths are relative to it.
    folder : Path
        Where outputs go that the table does not name.
    settings : mapping
        Of all tasks; a row's own come first.
    **common
        Fields of `Task` for rows that say nothing.

    Raises
    ------
    DataError
        The table cannot be read or has an unknown column. A row that makes no sense becomes a task that says so.
    """
    file = Path(path)
    for number, row in enumerate(_rows(file), start=2):
        cells = {key: (value or "").strip() for key, value in row.items() if isinstance(key, str)}
        problem = ""
        if None in row:
            problem = f"row {number} of {file} has more cells than there are columns; quote names with commas"
        elif not cells["target"]:
            problem = f"row {number} of {file} names no target"
        yield _task(file.parent, cells, folder, settings, {**common, "problem": problem})


def _rows(file: Path) -> Iterator[dict[str, str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            names = [(name or "").strip() for name in reader.fieldnames or []]
            unknown = [name for name in names if name not in MANIFEST]
            if "target" not in names or unknown or len(set(names)) < len(names):
                msg = f"{file} must have the column target, and may have {', '.join(MANIFEST[1:])}; it has {names}"
                raise DataError(msg)
            reader.fieldnames = names
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{file} cannot be read: {error}"
        raise DataError(msg) from error


def _task(
    base: Path, row: Mapping[str, str], folder: Path, settings: Mapping[str, Any], common: Mapping[str, Any]
) -> Task:
    target = base / row["target"]
    own: dict[str, Any] = {key: row[key] for key in ("model", "max_shift") if row.get(key)}
    if row.get("window"):
        own["window"] = int(row["window"]) if row["window"].isdigit() else row["window"]
    fields = dict(common)
    if row.get("frames_dir"):
        fields["frames_dir"] = base / row["frames_dir"]
    if row.get("time_window"):
        fields["time_window"] = row["time_window"]
    references = tuple(base / name.strip() for name in row.get("reference", "").split(";") if name.strip())
    if references:
        fields["references"] = references
    output = base / row["output"] if row.get("output") else output_in(folder, target)
    return Task(target=target, output=output, settings={**settings, **own}, **{"references": (), **fields})


def table_columns(outcomes: Sequence["Outcome"]) -> dict[str, Any]:
    """The outcomes as a table by columns, one row a task; NaN where there is no number."""
    names = ("dx", "dy", "sx", "sy", "scale", "angle", "shear")
    used = [name for name in names if any(name in o.record.get("parameters", {}) for o in outcomes)]

    def numbers(key: str, part: str | int | None = None) -> Any:
        values: list[float] = []
        for outcome in outcomes:
            value = outcome.record.get(key)
            if value is not None and part is not None:
                value = value.get(part) if isinstance(part, str) else value[part]
            values.append(np.nan if value is None else float(value))
        return np.array(values)

    columns: dict[str, Any] = {
        "target": np.array([str(o.task.target) for o in outcomes]),
        "status": np.array([o.record.get("status", o.status) for o in outcomes]),
        "model": np.array([str(o.record.get("model", "")) for o in outcomes]),
    }
    for name in used:
        columns[name] = numbers("parameters", name)
        columns[f"sigma_{name}"] = numbers("sigma", name)
    for k, name in enumerate(("tx", "ty")):
        columns[name] = numbers("shift_arcsec", k)
        columns[f"sigma_{name}"] = numbers("sigma_arcsec", k)
    columns |= {"score": numbers("score"), "overlap": numbers("overlap")}
    columns["flags"] = np.array([" ".join(o.record.get("flags", {})) for o in outcomes])
    columns["output"] = np.array([str(o.record.get("output", "")) for o in outcomes])
    columns["message"] = np.array([o.message for o in outcomes])
    return columns
