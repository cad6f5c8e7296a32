"""Command lines on common inputs, what they make undisturbed, one that meets a fault, and the check after it."""

import os
import shutil
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from faults.children import COMMANDS, EVENTS, Ended, Fault, run_child, start_child
from faults.injected import deny

__all__ = ["DONE", "MOMENTS", "POINTS", "SOME", "Whole", "check", "content", "disturbed", "whole", "words_of"]

THOROUGH = "FAULT_POINTS" in os.environ
POINTS = int(os.environ.get("FAULT_POINTS", "2"))
"""How many moments are drawn for each command and kind of fault."""
SOME = tuple(COMMANDS) if THOROUGH else ("crop.npy", "center.csv", "mask.npy")
"""Commands of the tests that are too slow for all of them in every run of the tests."""
MOMENTS = ("event", "time") if THOROUGH else ("event",)
"""How moments are drawn: by the number of an event, which is the same in each run, and by the clock."""
DONE = (0, 3)


@dataclass(frozen=True)
class Whole:
    """What a command makes undisturbed, how long it takes, and the number of events in the folder of its output."""

    content: dict[str, bytes]
    seconds: float
    events: int


_whole: dict[str, Whole] = {}


def whole(name: str, place: Path, extension: str = ".npy") -> Whole:
    """A whole run; made once for each kind of input."""
    key = name + extension
    if key not in _whole:
        for k in range(2):  # the first one may compile
            folder = place / f"whole{extension}{k}"
            began = time.monotonic()
            counting = Fault(event=10**9)
            ended = run_child(words_of(name, place, folder, extension=extension), place / "log.txt", counting)
            assert ended.code in DONE, ended.err
            seconds = time.monotonic() - began
        _whole[key] = Whole(content(folder / name), seconds, int(ended.err.rpartition(EVENTS)[2]))
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


def disturbed(
    act: str, name: str, place: Path, folder: Path, share: float, moment: str, victims: tuple[Path, ...] = ()
) -> Ended:
    """Run a command that meets a fault after a share of its events, or of its time; see `Fault` for the acts."""
    words, log = words_of(name, place, folder), place / "log.txt"
    known, permissions = whole(name, place), act == "denied"
    try:
        if moment == "event":
            number = int(share * known.events)
            return run_child(words, log, Fault(event=number, act=act, victims=victims, permissions=permissions))
        process = start_child(words, log, Fault(permissions=permissions))
        time.sleep(known.seconds * share)
        if act == "gone":
            shutil.rmtree(folder, ignore_errors=True)
        elif act == "denied":
            deny(folder)
        elif act == "cut":
            for path in victims:
                os.truncate(path, 4000)
        else:
            with suppress(ProcessLookupError):  # it was quicker this time
                os.kill(process.pid, signal.Signals[act])
        process.join(60)
        assert process.exitcode is not None
        return Ended(process.exitcode, log.read_text())
    finally:
        for path in (folder, *folder.glob("*.partial")) if permissions else ():
            path.chmod(0o700)


def check(ended: Ended, name: str, place: Path, folder: Path) -> None:
    """The output is right or absent; then the same command with --resume makes it right, and leaves nothing else."""
    expected = whole(name, place).content
    output = folder / name
    assert ended.plain, ended.err
    if ended.code in DONE or output.exists():
        assert content(output) == expected
    again = run_child(words_of(name, place, folder, "--resume"), place / "log.txt")
    assert again.code in DONE, again.err
    assert content(output) == expected
    left = [p.name for p in folder.iterdir() if p.name.endswith(".partial") or p.name.startswith(".")]
    assert not left
