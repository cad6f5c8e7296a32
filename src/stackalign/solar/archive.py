"""Files of an archive, found by the times in their names."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.time import Time

from stackalign.errors import DataError

from .columns import as_times

__all__ = ["get_EUI_paths"]


def get_EUI_paths(  # noqa: N802 -- the name that scripts import
    date_min: Any,
    date_max: Any,
    local_dir: str | os.PathLike[str] = ".",
    verbose: int = 0,
    *,
    channel: str | None = None,
    exclude: Sequence[str] = (),
) -> list[Path]:
    """Files of EUI between two dates, inclusive, in the order of time.

    Parameters
    ----------
    date_min, date_max : datetime64, Time, datetime or str
    local_dir : path-like
        A folder of files, or an archive with folders YYYY/MM/DD.
    verbose : int
        Not used: nothing is printed.
    channel : str, optional
        What a name must contain, such as "fsi174".
    exclude : sequence of str
        What it must not contain, such as "short".

    Returns
    -------
    list of Path
        Of several versions of a file the newest. Names carry the time; files whose names do not are left out.

    Examples
    --------
    >>> from stackalign import solar
    >>> solar.get_EUI_paths("2022-04-01T00:00", "2022-04-02T00:00", ".")  # an empty folder
    []
    """
    first, last = (as_times(date).utc.datetime for date in (date_min, date_max))
    if last < first:
        first, last = last, first
    folder = Path(local_dir)
    if not folder.is_dir():
        msg = f"the folder {folder} of reference images does not exist"
        raise DataError(msg)
    days = [np.datetime64(first, "D") + k for k in range((last.date() - first.date()).days + 1)]
    folders = [folder, *(folder / str(day).replace("-", "/") for day in days)]
    newest: dict[str, tuple[Any, int, Path]] = {}
    for path in (path for place in folders if place.is_dir() for path in sorted(place.glob("*.fits*"))):
        name = path.name.lower()
        stamp = re.search(r"(\d{8}t\d{6})(\d*)", name)
        if not stamp or (channel and channel.lower() not in name) or any(word.lower() in name for word in exclude):
            continue
        date = _stamp(stamp[1], stamp[2])
        if not first <= date <= last:
            continue
        version = re.search(r"_v(\d+)", name)
        number = int(version[1]) if version else 0
        key = re.sub(r"_v\d+", "", name)
        if key not in newest or number > newest[key][1]:
            newest[key] = (date, number, path)
    return [path for *_, path in sorted(newest.values(), key=lambda item: (item[0], item[2].name))]


def _stamp(moment: str, fraction: str) -> Any:
    text = f"{moment[:4]}-{moment[4:6]}-{moment[6:8]}T{moment[9:11]}:{moment[11:13]}:{moment[13:15]}"
    return Time(text + (f".{fraction}" if fraction else ""), scale="utc").datetime
