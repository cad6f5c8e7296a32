"""Results as tables: CSV, ECSV, and arrays that are saved between two runs."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign.errors import DataError
from stackalign.io.atomic import write_text_atomic

from .result import RegistrationResult, RegistrationStack

__all__ = ["stack_from_arrays", "stack_to_arrays", "write_table"]

UNITS = {
    "dy": "pix",
    "dx": "pix",
    "angle": "deg",
    "smooth_reference": "pix",
    "smooth_moving": "pix",
    "tx": "arcsec",
    "ty": "arcsec",
}
DESCRIPTIONS = {
    "dy": "shift of the moving image's content along y",
    "dx": "shift of the moving image's content along x",
    "sy": "magnification of the moving image along y",
    "sx": "magnification of the moving image along x",
    "scale": "magnification of the moving image",
    "angle": "rotation of the moving image, +y towards +x as an array is printed",
    "shear": "shear of the moving image, along x per y",
    "tx": "shift of the middle of the image on the sky, to the west",
    "ty": "shift of the middle of the image on the sky, to the north",
    "score": "normalised cross-correlation over the common valid pixels",
    "second_score": "of the second peak among whole-pixel shifts",
    "overlap": "share of the reference's pixels that both images have",
    "smooth_reference": "sigma of the Gaussian over the reference",
    "smooth_moving": "sigma of the Gaussian over the moving image",
    "noise": "noise over standard deviation, of the noisier image",
    "goodness": "variance of the residual over that of its noise; 1 where only noise is left",
    "reason": "why the search stopped",
    "flags": "why the row should not be trusted; empty if it can be",
    "remarks": "a sentence for each flag, with its numbers",
}


def write_table(
    path: str | os.PathLike[str],
    columns: Mapping[str, NDArray[Any]],
    *,
    descriptions: Mapping[str, str] | None = None,
) -> None:
    """Write columns of one length as ``.csv``, or as ``.ecsv`` with units and descriptions.

    Parameters
    ----------
    path : path-like
        An existing file is replaced.
    columns : mapping of str to numpy.ndarray
        As `RegistrationStack.columns` gives them, more may be added.
    descriptions : mapping of str to str, optional
        Of columns, instead of those that they have in registrations.

    Raises
    ------
    DataError
        The extension is neither.
    """
    file = Path(path)
    kind = file.suffix.lower()
    if kind not in (".csv", ".ecsv"):
        msg = f"table {file} must end with .csv or .ecsv"
        raise DataError(msg)
    text = io.StringIO()
    if kind == ".ecsv":
        text.writelines(_ecsv_header(columns, {**DESCRIPTIONS, **(descriptions or {})}))
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*(_cells(values) for values in columns.values()), strict=True))
    write_text_atomic(file, text.getvalue())


def _cells(values: NDArray[Any]) -> Sequence[Any]:
    return [repr(value) if isinstance(value, float) else value for value in values.tolist()]


def _ecsv_header(columns: Mapping[str, NDArray[Any]], descriptions: Mapping[str, str]) -> list[str]:
    """Header of Enhanced Character-Separated Values 1.0 (Astropy APE 6)."""
    lines = ["# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:"]
    for name, values in columns.items():
        base = name.removeprefix("sigma_")
        kind = values.dtype.name if values.dtype.kind in "iuf" else "bool" if values.dtype.kind == "b" else "string"
        record = {"name": name, "datatype": kind}
        if base in UNITS:
            record["unit"] = UNITS[base]
        if base in descriptions:
            record["description"] = ("standard deviation of: " if base != name else "") + descriptions[base]
        lines.append(f"# - {json.dumps(record)}")
    lines.append("# schema: astropy-2.0")
    return [line + "\n" for line in lines]


_NUMBERS = ("score", "second_score", "peak_score", "overlap", "noise", "n_evaluations", "goodness", "spikes")
_ARRAYS = ("parameters", "covariance", "matrix", "center")


def stack_to_arrays(stack: RegistrationStack) -> dict[str, NDArray[Any]]:
    """Everything but the histories and the provenance, as plain arrays."""
    arrays = {name: np.array([getattr(r, name) for r in stack]) for name in (*_NUMBERS, *_ARRAYS, "reason", "smooth")}
    arrays["flags"] = np.array([" ".join(r.flags) for r in stack])
    arrays["model"] = np.array(stack.model)
    arrays["remarks"] = np.array([json.dumps(dict(r.remarks)) for r in stack])
    unknown = np.full((len(stack.names),) * 2, np.nan)
    arrays["systematic"] = np.array([unknown if r.systematic is None else r.systematic for r in stack])
    return arrays


def stack_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> RegistrationStack:
    """Inverse of `stack_to_arrays`; the histories are empty."""
    n, n_parameters = arrays["parameters"].shape
    results = []
    for b in range(n):
        # Arrays of earlier versions lack what came later.
        numbers: dict[str, Any] = {name: arrays[name][b].item() for name in (*_NUMBERS, "reason") if name in arrays}
        if "systematic" in arrays:
            numbers["systematic"] = arrays["systematic"][b]
            numbers["remarks"] = json.loads(str(arrays["remarks"][b]))
        results.append(
            RegistrationResult(
                model=str(arrays["model"]),
                flags=tuple(str(arrays["flags"][b]).split()),
                history=np.empty((0, n_parameters + 3)),
                provenance={},
                smooth=tuple(arrays["smooth"][b].tolist()),
                **numbers,
                **{name: arrays[name][b] for name in _ARRAYS},
            )
        )
    return RegistrationStack(results)
