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

from faults.children import COMMANDS, Ended, Fault, run_child, start_child
from faults.undisturbed import DONE, POINTS, check, content, whole, words_of


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.slow
def test_signals(number: int, name: str, place: Path, tmp_path: Path, point) -> None:
    _, seconds = whole(name, place)
    rng = np.random.default_rng([int(number), *name.encode()])
    for k in range(POINTS if number == signal.SIGKILL else max(1, POINTS // 2)):
        with point(signal.Signals(number).name):
            folder = tmp_path / str(k)
            process = start_child(words_of(name, place, folder), place / "log.txt")
            time.sleep(seconds * rng.uniform(0.05, 1.0))  # a moment of the run, whatever it is doing then
            with suppress(ProcessLookupError):  # it was quicker this time
                os.kill(process.pid, number)
            process.join(60)
            assert process.exitcode is not None
            check(Ended(process.exitcode, (place / "log.txt").read_text()), name, place, folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_cannot_grow(name: str, place: Path, tmp_path: Path, point) -> None:
    expected, _ = whole(name, place)
    rng = np.random.default_rng([7, *name.encode()])
    largest = max(map(len, expected.values()))
    for k in range(POINTS):
        with point("RLIMIT_FSIZE"):
            folder = tmp_path / str(k)
            limit = max(600, int(largest * rng.uniform(0.02, 0.95)))  # the messages are written to a file as well
            ended = run_child(words_of(name, place, folder), place / "log.txt", Fault(limit=limit))
            assert ended.code == 1, ended.err
            assert "cannot be written" in ended.err
            check(ended, name, place, folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_output_folder_removed(name: str, place: Path, tmp_path: Path, point) -> None:
    _, seconds = whole(name, place)
    rng = np.random.default_rng([8, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        with point("folder removed"):
            folder = tmp_path / str(k)
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
            again = run_child(words_of(name, place, folder, "--resume", "--overwrite"), place / "log.txt")
            if again.code not in DONE:
                # What a removal in the middle of a write leaves may be refused, in a sentence.
                assert again.plain, again.err
                shutil.rmtree(folder)
                folder.mkdir()
                run_child(words_of(name, place, folder), place / "log.txt")
            assert content(folder / name) == whole(name, place)[0]


@pytest.mark.parametrize("name", COMMANDS)
def test_input_cut_while_it_is_read(name: str, place: Path, tmp_path: Path, point) -> None:
    expected, seconds = whole(name, place)
    good = {path: path.read_bytes() for path in (place / "in.npy", place / "short.npy")}
    rng = np.random.default_rng([9, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        folder = tmp_path / str(k)
        with point("input cut"):
            process = start_child(words_of(name, place, folder), place / "log.txt")
            time.sleep(seconds * rng.uniform(0.2, 0.8))
            try:
                for path in good:
                    os.truncate(path, 4000)
                process.join(60)
            finally:
                for path, data in good.items():
                    path.write_bytes(data)
            ended = Ended(process.exitcode, (place / "log.txt").read_text())
            assert ended.plain, ended.err
            if ended.code in DONE:  # it had read everything
                assert content(folder / name) == expected
            else:
                assert ended.code == 1, ended.err
                assert not (folder / name).exists()
            run_child(words_of(name, place, folder, "--resume", "--overwrite"), place / "log.txt")
            assert content(folder / name) == expected


@pytest.mark.parametrize("name", COMMANDS)
def test_two_runs_of_one_output(name: str, place: Path, tmp_path: Path, point) -> None:
    expected, seconds = whole(name, place)
    rng = np.random.default_rng([10, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        with point("two runs"):
            folder = tmp_path / str(k)
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
