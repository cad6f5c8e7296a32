"""Situations of a crop that are rare: limits below the rows, faults in many lines, all patterns flagged."""

import re

import numpy as np
import pytest

from stackalign.crop import CroppingConfig, Flag
from stackalign.crop.budget import chunk_plan
from stackalign.crop.detector import DetectorFaults
from stackalign.crop.flags import set_aside
from stackalign.errors import DataError
from stackalign.io.memory import open_array


def faults(rows=(), columns=()) -> str:
    dark = np.zeros((20, 30), np.bool_)
    dark[list(rows)] = True
    dark[:, list(columns)] = True
    none = np.zeros_like(dark)
    return DetectorFaults(top=none, bright=none, dark=dark).words()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ({"rows": (4,)}, r"30 pixels without signal \(row 4\)"),
        ({"rows": (4, 5, 6)}, r"\(rows 4 to 6\)"),
        ({"rows": (1, 4, 9)}, r"\(rows 1, 4, 9\)"),
        ({"columns": (1, 3, 5, 7, 9)}, r"\(columns 1, 3, 5, 7 and others\)"),
    ],
)
def test_faulty_lines_are_named(lines, words) -> None:
    assert re.search(words, faults(**lines))


def test_a_limit_below_the_rows_of_the_patterns() -> None:
    patterns = np.ones((400_000, 1, 1), np.uint16)
    with pytest.raises(DataError, match=r"memory limit of .* is too small for 400000 patterns: their rows"):
        chunk_plan(open_array(patterns), CroppingConfig(visualization=False), 1_000_000)


def test_patterns_that_are_all_flagged_are_all_used() -> None:
    flags = np.array([Flag.HOT_PIXEL, Flag.OFF_FRAME, Flag.NEGATIVE, Flag.EMPTY], np.uint8)
    excluded, notes = set_aside(flags)
    assert excluded.tolist() == [False, False, False, True]
    assert "every pattern with signal is flagged, so none of them is left out" in notes
    some = np.append(flags, np.uint8(0))
    assert set_aside(some)[0].tolist() == [True, True, True, True, False]
