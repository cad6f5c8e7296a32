"""Where a result came from, and JSON that every reader accepts."""

import dataclasses
import functools
import json
import math
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["dump_json", "provenance", "to_jsonable"]

_PACKAGES = (
    "numpy",
    "scipy",
    "numba",
    "h5py",
    "hdf5plugin",
    "zarr",
    "tifffile",
    "torch",
    "cupy-cuda12x",
    "cupy-cuda13x",
)


def provenance(
    parameters: Mapping[str, Any],
    inputs: Iterable[Mapping[str, Any]],
    *,
    device: str | None = None,
    command: str | None = None,
    time: datetime | None = None,
) -> dict[str, Any]:
    """Collect what is needed to repeat a run.

    Parameters
    ----------
    parameters : mapping
        Of the run.
    inputs : iterable of mapping
        One per input, for example ``{"path": ..., "fingerprint": ..., "shape": ...}``.
    device : str, optional
        In words, as the backend names it.
    command : str, optional
        The command line, where there was one.
    time : datetime, optional
        Default now; in UTC.

    Returns
    -------
    dict
        JSON-able.
    """
    versions = {"stackalign": _version("stackalign"), "python": sys.version.split()[0]}
    # From the package metadata: importing them only to ask for a version would take seconds.
    versions |= {name: version for name in _PACKAGES if (version := _version(name)) is not None}
    moment = datetime.now(UTC) if time is None else time.astimezone(UTC)
    record = {
        "software": "stackalign",
        "versions": versions,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "device": device,
        "command": command,
        "parameters": parameters,
        "inputs": list(inputs),
        "time_utc": moment.isoformat(timespec="seconds"),
    }
    result: dict[str, Any] = to_jsonable(record)
    return result


@functools.cache  # the search through all installed packages takes milliseconds for each
def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def to_jsonable(value: Any) -> Any:
    """Turn NumPy scalars and arrays, paths, tuples, sets, dataclasses and dates into what JSON knows; NaN becomes None.

    JSON has neither NaN nor infinity; other languages' parsers refuse the bare words that Python would write.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, np.generic):
        return to_jsonable(value.item())
    if isinstance(value, np.ndarray):
        return _array(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return _sequence(value)
    if isinstance(value, (set, frozenset)):
        return sorted((to_jsonable(item) for item in value), key=str)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, (os.PathLike, np.dtype)):
        return os.fspath(value) if isinstance(value, Path) else str(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    msg = f"a {type(value).__name__} cannot be written as JSON"
    raise TypeError(msg)


# Long lists of numbers are looked at as a whole: one call per number would take most of a run's time.
_PLAIN = {type(None), bool, int, str}


def _array(value: NDArray[Any]) -> Any:
    kind = value.dtype.kind
    if kind in "biuU":
        return value.tolist()
    if kind != "f":
        return to_jsonable(value.tolist())
    numbers = value.astype(np.float64, copy=False) if value.dtype.itemsize > 8 else value
    finite = np.isfinite(numbers)
    if finite.all():
        return numbers.tolist()
    kept = numbers.astype(object)
    kept[~finite] = None
    return kept.tolist()


def _sequence(value: list[Any] | tuple[Any, ...]) -> list[Any]:
    kinds = set(map(type, value))
    if _needs_no_change(value, kinds):
        return list(value)
    if kinds <= _PLAIN | {float}:
        return [None if type(item) is float and not math.isfinite(item) else item for item in value]
    if kinds <= {list, tuple}:
        inner = list(chain.from_iterable(value))
        if _needs_no_change(inner, set(map(type, inner))):
            return list(map(list, value))
    return [to_jsonable(item) for item in value]


def _needs_no_change(value: list[Any] | tuple[Any, ...], kinds: set[type]) -> bool:
    if not kinds <= _PLAIN | {float}:
        return False
    return float not in kinds or all(map(math.isfinite, [item for item in value if type(item) is float]))


def dump_json(value: Any, *, indent: int | None = 2, sort_keys: bool = False) -> str:
    """Write strict JSON (no NaN) of what `to_jsonable` understands, ending in a newline where indented.

    Objects are indented, lists stand on one line each: a line per number would be neither read nor written quickly.
    """
    plain = to_jsonable(value)
    if indent is None:
        return _one_line(plain, sort_keys)
    return _indented(plain, indent, 0, sort_keys) + "\n"


def _one_line(value: Any, sort_keys: bool) -> str:
    return json.dumps(value, sort_keys=sort_keys, allow_nan=False, ensure_ascii=False)


def _indented(value: Any, indent: int, level: int, sort_keys: bool) -> str:
    if isinstance(value, list) and dict in set(map(type, value)):
        items = [_indented(item, indent, level + 1, sort_keys) for item in value]
        opening, closing = "[", "]"
    elif isinstance(value, dict) and value:
        keys = sorted(value) if sort_keys else value
        items = [
            f"{json.dumps(key, ensure_ascii=False)}: {_indented(value[key], indent, level + 1, sort_keys)}"
            for key in keys
        ]
        opening, closing = "{", "}"
    else:
        return _one_line(value, sort_keys)
    pad = "\n" + " " * indent * (level + 1)
    return opening + pad + ("," + pad).join(items) + "\n" + " " * indent * level + closing
