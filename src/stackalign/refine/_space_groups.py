"""Symmetry of a crystal from the name or the number of its space group, where nothing lists its operations."""

import re
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

from ._symmetry import Operations, operation_matrices, require_cell

__all__ = ["settings_by_name", "settings_by_number", "single_setting"]

EXPLICIT = re.compile(r"\s*(?::\s*(\w+)|([SZHR]))\s*$", re.IGNORECASE)
"""Names that say which origin or which axes: 'F d -3 m :2', 'F d -3 m Z', 'R -3 m H'."""
EXTENSION = {"S": "1", "Z": "2"}


def settings_by_name(gemmi: ModuleType, name: str) -> list[Any]:
    """Return the settings that a Hermann-Mauguin symbol may mean, none for an unknown one."""
    said = EXPLICIT.search(name)
    group = gemmi.find_spacegroup_by_name(name[: said.start()] if said else name)
    if group is None:
        return []
    known = [other for other in gemmi.spacegroup_table() if (other.number, other.hm) == (group.number, group.hm)]
    if said is None:
        return known
    extension = (said[1] or said[2]).upper()
    return [other for other in known if other.ext == EXTENSION.get(extension, extension)] or known


def settings_by_number(gemmi: ModuleType, number: int) -> list[Any]:
    """Return all settings of a number of the International Tables, the standard one first; none for unknown numbers."""
    return [group for group in gemmi.spacegroup_table() if group.number == number]


def single_setting(
    settings: Sequence[Any], cell: Sequence[float], fits: Callable[[Operations], bool | None]
) -> tuple[Any, str]:
    """Choose the setting that the cell and the number of atoms allow.

    Parameters
    ----------
    settings : sequence of gemmi.SpaceGroup
        The standard one first.
    cell : sequence of float
        Edges and angles.
    fits : callable
        ``fits(operations)`` tells whether the atoms that they make are those that the file counts; None where the file
        does not count them.

    Returns
    -------
    gemmi.SpaceGroup, str
        The setting, and what was taken for granted, "" for nothing.

    Raises
    ------
    ValueError
        The cell has none of their shapes, or two origins are possible.
    """
    possible, refused = [], None
    for group in settings:
        try:
            require_cell(cell, operation_matrices(group.operations()))
        except ValueError as error:
            refused = refused or error
        else:
            possible.append(group)
    if not possible:
        msg = f"space group {settings[0].hm}: {refused}"
        raise ValueError(msg)
    first = possible[0]
    origins = [group for group in possible if group.hm == first.hm and group.ext in ("1", "2")]
    if len(origins) > 1:
        right = [group for group in origins if fits(operation_matrices(group.operations()))]
        if len(right) != 1:
            msg = (
                f"the space group {first.hm} (number {first.number}) has two origins and the file does not say which "
                f"one its coordinates count from: name it as '{first.hm} :1' or '{first.hm} :2'"
            )
            raise ValueError(msg)
        return right[0], ""
    others = sorted({group.hm for group in possible if group.hm != first.hm})
    remark = f"space group {first.number} is taken in its standard setting {first.hm}" if others else ""
    return first, remark
