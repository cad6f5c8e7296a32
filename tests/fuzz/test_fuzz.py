"""A short part of the fuzzing that `make fuzz` does at length, in this process, with inputs that no other run has."""

import random
import sys
import warnings
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from mutate import mutate
from run import SHARES
from seeds import SEEDS
from worker import attempt, damaged

NEEDS = {"pt": "torch", "fits": "astropy", "vendor": "rsciio", "pictures": "PIL"}
COUNTS = {"npy": 150, "npz": 80, "mib": 120, "raw": 60, "tiff": 100, "hdf5": 50, "pictures": 40}


@pytest.mark.parametrize("kind", SEEDS)
def test_damaged_files_end_in_one_sentence(kind: str, tmp_path: Path) -> None:
    """Any other exception than one of the package fails the test; so does a hang."""
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind], reason=f"{NEEDS[kind]} is not installed")
    (tmp_path / "pristine").mkdir()
    outcomes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = SEEDS[kind](tmp_path / "pristine")
        for number in range(COUNTS.get(kind, 20)):
            rng = random.Random(f"{kind} short {number}")
            outcomes.append(attempt(damaged(tmp_path, names, rng), rng))
    assert set(outcomes) <= {"read", "refused", "too large", "out of memory"}
    assert "refused" in outcomes  # the damage reaches the reader


def test_shares_name_every_format() -> None:
    assert set(SHARES) == set(SEEDS)
    assert sum(SHARES.values()) == 100


def test_mutation_is_the_same_for_the_same_number() -> None:
    content = bytes(range(256)) * 4
    assert mutate(content, random.Random("a")) == mutate(content, random.Random("a"))
    assert mutate(content, random.Random("a")) != mutate(content, random.Random("b"))
