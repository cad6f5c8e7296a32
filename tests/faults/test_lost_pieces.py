"""What an interrupted run has left is deleted or cut in part: it is done again, or a sentence says what to do.

``FAULT_POINTS`` (default 2) is how many losses are drawn for each command, half of them by cutting.
"""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from faults.children import COMMANDS, run_child
from faults.undisturbed import DONE, POINTS, content, disturbed, whole, words_of

CURES = {"(leave out --resume)": (), "(--overwrite)": ("--resume", "--overwrite")}
"""What a sentence asks for, and the options that are meant."""


@pytest.mark.parametrize("name", COMMANDS)
def test_lost_pieces(name: str, place: Path, tmp_path: Path, point) -> None:
    expected = whole(name, place).content
    rng = np.random.default_rng([15, *name.encode()])
    left = tmp_path / "left"
    for share in (0.7, 0.6, 0.5, 0.4, 0.3):
        disturbed("SIGKILL", name, place, left, share, "event")
        if (left / f"{name}.partial" / "log.jsonl").exists():
            break
        shutil.rmtree(left)
    for k in range(POINTS):
        with point("pieces lost"):
            folder = tmp_path / str(k)
            shutil.copytree(left, folder)
            lost = lose(folder / f"{name}.partial", rng, cut=k % 2 == 1)
            again = run_child(words_of(name, place, folder, "--resume"), place / "log.txt")
            assert again.plain, again.err
            if again.code not in DONE:
                assert again.code == 1, again.err
                cure = [options for words, options in CURES.items() if words in again.err]
                assert cure, (lost, again.err)
                again = run_child(words_of(name, place, folder, *cure[0]), place / "log.txt")
                assert again.code in DONE, (lost, again.err)
            assert content(folder / name) == expected, lost


def lose(journal: Path, rng: np.random.Generator, *, cut: bool) -> list[str]:
    """Delete or cut each file with a chance of one half, at least one of them."""
    files = sorted(path for path in journal.rglob("*") if path.is_file())
    chosen = [path for path in files if rng.uniform() < 0.5] or [files[int(rng.integers(len(files)))]]
    for path in chosen:
        if cut:
            os.truncate(path, int(path.stat().st_size * rng.uniform()))
        else:
            path.unlink()
    return [path.relative_to(journal).as_posix() for path in chosen]
