"""Whatever happens to a long command, its output is complete and right, or absent, and the same command resumes.

``FAULT_POINTS`` (default 2) is the number of seeded moments for each command and kind of fault; `make faults` sets it.
"""

import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from crop.oracle import disks
from faults.children import COMMANDS, Ended, run_child, start_child

POINTS = int(os.environ.get("FAULT_POINTS", "2"))
DONE = (0, 3)


@pytest.fixture(scope="session")  # tables name the inputs: all tests of a process have the same
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, and what each command makes of them undisturbed."""
    folder = tmp_path_factory.mktemp("faults")
    stack = disks(60)
    np.save(folder / "in.npy", stack)
    np.save(folder / "short.npy", stack[:10])
    return folder


_whole: dict[str, tuple[dict[str, bytes], float]] = {}


def whole(name: str, place: Path) -> tuple[dict[str, bytes], float]:
    """Content of an output, and how long it took; made once."""
    if name not in _whole:
        for _ in range(2):  # the first one may compile
            began = time.monotonic()
            ended = run_child(words_of(name, place, place / "whole", "--overwrite"), place / "log.txt")
            assert ended.code in DONE, ended.err
            seconds = time.monotonic() - began
        _whole[name] = content(place / "whole" / name), seconds
    return _whole[name]


def words_of(name: str, place: Path, folder: Path, *more: str) -> tuple[str, ...]:
    """A command line that writes into a folder."""
    folder.mkdir(exist_ok=True)
    words = (word.replace("{d}", str(place)) for word in COMMANDS[name])
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


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.slow
def test_signals(number: int, name: str, place: Path, tmp_path: Path) -> None:
    _, seconds = whole(name, place)
    rng = np.random.default_rng([int(number), *name.encode()])
    for point in range(POINTS if number == signal.SIGKILL else max(1, POINTS // 2)):
        folder = tmp_path / str(point)
        process = start_child(words_of(name, place, folder), place / "log.txt")
        time.sleep(seconds * rng.uniform(0.05, 1.0))  # a moment of the run, whatever it is doing then
        with suppress(ProcessLookupError):  # it was quicker this time
            os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode is not None
        check(Ended(process.exitcode, (place / "log.txt").read_text()), name, place, folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_cannot_grow(name: str, place: Path, tmp_path: Path) -> None:
    expected, _ = whole(name, place)
    rng = np.random.default_rng([7, *name.encode()])
    largest = max(map(len, expected.values()))
    for point in range(POINTS):
        folder = tmp_path / str(point)
        limit = max(600, int(largest * rng.uniform(0.02, 0.95)))  # the messages are written to a file as well
        ended = run_child(words_of(name, place, folder), place / "log.txt", limit=limit)
        assert ended.code == 1, ended.err
        assert "cannot be written" in ended.err
        check(ended, name, place, folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_output_folder_removed(name: str, place: Path, tmp_path: Path) -> None:
    _, seconds = whole(name, place)
    rng = np.random.default_rng([8, *name.encode()])
    for point in range(max(1, POINTS // 2)):
        folder = tmp_path / str(point)
        process = start_child(words_of(name, place, folder), place / "log.txt")
        time.sleep(seconds * rng.uniform(0.1, 0.9))
        shutil.rmtree(folder, ignore_errors=True)
        process.join(60)
        ended = Ended(process.exitcode, (place / "log.txt").read_text())
        assert ended.plain, ended.err
        if not folder.exists():
            folder.mkdir()
        if ended.code in DONE and (folder / name).exists():
            continue  # it was done before the folder went
        run_child(words_of(name, place, folder, "--resume", "--overwrite"), place / "log.txt")
        assert content(folder / name) == whole(name, place)[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_input_cut_while_it_is_read(name: str, place: Path, tmp_path: Path) -> None:
    _, seconds = whole(name, place)
    rng = np.random.default_rng([9, *name.encode()])
    for point in range(max(1, POINTS // 2)):
        inputs, folder = tmp_path / f"in{point}", tmp_path / str(point)
        inputs.mkdir()
        for file in ("in.npy", "short.npy"):
            shutil.copy(place / file, inputs / file)
        process = start_child(words_of(name, inputs, folder), place / "log.txt")
        time.sleep(seconds * rng.uniform(0.2, 0.8))
        for file in ("in.npy", "short.npy"):
            with (inputs / file).open("r+b") as stream:
                stream.truncate(4000)
        process.join(60)
        ended = Ended(process.exitcode, (place / "log.txt").read_text())
        assert ended.plain, ended.err
        if ended.code in DONE:  # it had read everything
            assert content(folder / name) == whole(name, place)[0]
        else:
            assert ended.code == 1, ended.err
            assert not (folder / name).exists()


@pytest.mark.parametrize("name", COMMANDS)
def test_two_runs_of_one_output(name: str, place: Path, tmp_path: Path) -> None:
    expected, seconds = whole(name, place)
    rng = np.random.default_rng([10, *name.encode()])
    for point in range(max(1, POINTS // 2)):
        folder = tmp_path / str(point)
        first = start_child(words_of(name, place, folder, "--resume"), tmp_path / "first.txt")
        time.sleep(seconds * rng.uniform(0, 0.6))
        second = start_child(words_of(name, place, folder, "--resume"), tmp_path / "second.txt")
        for process in (first, second):
            process.join(60)
        codes = sorted((first.exitcode, second.exitcode))
        texts = (tmp_path / "first.txt").read_text() + (tmp_path / "second.txt").read_text()
        assert "Traceback" not in texts, texts
        assert codes[0] in DONE or codes[1] in DONE, texts
        if 1 in codes:
            assert "being written by another run" in texts
        assert content(folder / name) == expected
