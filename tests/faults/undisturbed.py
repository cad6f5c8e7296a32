"""Command lines on common inputs, what they make undisturbed, and the check after a fault."""

import os
import time
from pathlib import Path

from faults.children import COMMANDS, Ended, run_child

__all__ = ["DONE", "POINTS", "SOME", "check", "content", "whole", "words_of"]

POINTS = int(os.environ.get("FAULT_POINTS", "2"))
"""How many moments are drawn for each command and kind of fault."""
SOME = tuple(COMMANDS) if "FAULT_POINTS" in os.environ else ("crop.npy", "center.csv", "mask.npy")
"""Commands of the tests that are too slow for all of them in every run of the tests."""
DONE = (0, 3)

_whole: dict[str, tuple[dict[str, bytes], float]] = {}


def whole(name: str, place: Path, extension: str = ".npy") -> tuple[dict[str, bytes], float]:
    """Content of an output, and how long it took; made once for each kind of input."""
    key = name + extension
    if key not in _whole:
        folder = place / f"whole{extension}"
        for _ in range(2):  # the first one may compile
            began = time.monotonic()
            ended = run_child(words_of(name, place, folder, "--overwrite", extension=extension), place / "log.txt")
            assert ended.code in DONE, ended.err
            seconds = time.monotonic() - began
        _whole[key] = content(folder / name), seconds
    return _whole[key]


def words_of(name: str, place: Path, folder: Path, *more: str, extension: str = ".npy") -> tuple[str, ...]:
    """A command line that writes into a folder."""
    folder.mkdir(exist_ok=True)
    words = (word.replace("{d}", str(place)).replace("{x}", extension) for word in COMMANDS[name])
    return (*words, "-o", str(folder / name), *more)


def content(path: Path) -> dict[str, bytes]:
    """Bytes of a file, or of all files of a store."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in sorted(path.rglob("*")) if p.is_file()}


def check(ended: Ended, name: str, place: Path, folder: Path) -> None:
    """The output is right or absent; then the same command with --resume makes it right, and leaves nothing else."""
    expected, _ = whole(name, place)
    output = folder / name
    assert ended.plain, ended.err
    if ended.code in DONE or output.exists():
        assert content(output) == expected
    again = run_child(words_of(name, place, folder, "--resume"), place / "log.txt")
    assert again.code in DONE, again.err
    assert content(output) == expected
    left = [p.name for p in folder.iterdir() if p.name.endswith(".partial") or p.name.startswith(".")]
    assert not left
