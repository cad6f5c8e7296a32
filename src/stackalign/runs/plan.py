"""What the bytes of an output follow from, and how two such plans differ in words."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stackalign import __version__
from stackalign.io import StackReader
from stackalign.io.provenance import dump_json

__all__ = ["Plan", "array_digest", "input_record", "value_differences"]


NOT_OF_THE_INPUT = ("allow_external", "read_timeout", "memory_limit")
"""Ways of opening an input that do not change what is read."""


@dataclass(frozen=True)
class Plan:
    """Everything that an output follows from; runs of equal plans write equal bytes.

    Parameters
    ----------
    command : str
        Which pipeline: "crop", "align", ...
    inputs : sequence of mapping
        One per input, as `input_record` makes them: the name, the fingerprint of the content, and how it is read.
    settings : mapping
        Parameters that change the output. Devices, threads and memory limits do not belong here.
    masks : mapping
        Digest of each mask (`array_digest`), None where there is none.
    version : str
        Of stackalign.
    """

    command: str
    inputs: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    masks: Mapping[str, str | None] = field(default_factory=dict)
    version: str = __version__

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON stores it."""
        plain: dict[str, Any] = json.loads(dump_json(vars(self)))
        return plain

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """Say in words what differs between a stored plan and this one; empty where nothing does.

        Parameters
        ----------
        stored : mapping
            `to_dict` of another plan.

        Returns
        -------
        list of str
            What differs.
        """
        mine = self.to_dict()
        if stored.get("command") != mine["command"]:
            return [f"it was written by {stored.get('command', 'something else')}, not by {mine['command']}"]
        words = _input_differences(stored.get("inputs", []), mine["inputs"])
        words += _mask_differences(stored.get("masks", {}), mine["masks"])
        words += value_differences(stored.get("settings", {}), mine["settings"], "")
        if stored.get("version") != mine["version"]:
            words.append(f"the version of stackalign was {stored.get('version')}, is {mine['version']}")
        return words


def input_record(reader: StackReader, **options: Any) -> dict[str, Any]:
    """Describe an input for a `Plan`: its name, its content, and how it is read.

    Parameters
    ----------
    reader : StackReader
    **options
        How it was opened, such as the dataset; None stands for what was not stated. Those that do not change what is
        read are left out.

    Returns
    -------
    dict
        Plain values.
    """
    return {
        "name": None if reader.path is None else Path(reader.path).name,
        "fingerprint": reader.fingerprint(),
        "shape": list(reader.info.shape),
        "dtype": str(reader.info.dtype),
        "scan_shape": list(reader.info.scan_shape),
        "options": {k: str(v) for k, v in options.items() if v is not None and k not in NOT_OF_THE_INPUT},
    }


def array_digest(array: NDArray[Any] | None) -> str | None:
    """Digest of an array's values, shape and dtype; None for None.

    Parameters
    ----------
    array : numpy.ndarray, optional
        Of any shape.

    Returns
    -------
    str or None
        Hexadecimal.
    """
    if array is None:
        return None
    digest = hashlib.sha256(f"{array.shape}|{array.dtype.str}|".encode())
    packed = np.packbits(array) if array.dtype == np.bool_ else np.ascontiguousarray(array)
    digest.update(packed.tobytes())
    return digest.hexdigest()


def _input_differences(stored: Sequence[Mapping[str, Any]], mine: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(stored) != len(mine):
        return [f"the number of inputs was {len(stored)}, is {len(mine)}"]
    words = []
    for before, now in zip(stored, mine, strict=True):
        if before.get("name") != now.get("name"):
            words.append(f"the input was {before.get('name')}, is {now.get('name')}")
        elif before.get("fingerprint") != now.get("fingerprint"):
            words.append(f"the content of {now.get('name')} has changed")
        else:
            words += value_differences(before, now, "")
    return words


def _mask_differences(stored: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    words = []
    for name in sorted(stored.keys() | mine.keys()):
        before, now = stored.get(name), mine.get(name)
        label = name.replace("_", " ")
        if before is None and now is not None:
            words.append(f"the {label} is new")
        elif before is not None and now is None:
            words.append(f"the {label} is gone")
        elif before != now:
            words.append(f"the {label} is another one")
    return words


def value_differences(stored: Any, mine: Any, key: str) -> list[str]:
    """Say in words what differs between two nested values."""
    if isinstance(stored, Mapping) and isinstance(mine, Mapping):
        words: list[str] = []
        for name in sorted(stored.keys() | mine.keys()):
            path = f"{key}.{name}" if key else name
            if name not in stored:
                words.append(f"{path} is new ({_short(mine[name])})")
            elif name not in mine:
                words.append(f"{path} is gone (was {_short(stored[name])})")
            else:
                words += value_differences(stored[name], mine[name], path)
        return words
    return [] if stored == mine else [f"{key} was {_short(stored)}, is {_short(mine)}"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."
