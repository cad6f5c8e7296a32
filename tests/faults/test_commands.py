"""Whatever happens to a long command, its output is complete and right, or absent, and the same command resumes.

``FAULT_POINTS`` (default 2) is the number of seeded moments for each command and kind of fault; `make faults` sets it,
and draws moments by the clock, too.
"""

import time
from pathlib import Path

import numpy as np
import pytest

from faults.children import COMMANDS, Fault, run_child, start_child
from faults.undisturbed import DONE, MOMENTS, POINTS, check, content, disturbed, whole, words_of


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM", "SIGINT"])
@pytest.mark.slow
def test_signals(number: str, name: str, moment: str, place: Path, tmp_path: Path, point) -> None:
    rng = np.random.default_rng([1, *number.encode(), *name.encode()])
    for k in range(POINTS if number == "SIGKILL" else max(1, POINTS // 2)):
        with point(number):
            folder = tmp_path / str(k)
            ended = disturbed(number, name, place, folder, rng.uniform(0, 1), moment)
            check(ended, name, place, folder)


@pytest.mark.parametrize("name", COMMANDS)
def test_files_that_cannot_grow(name: str, place: Path, tmp_path: Path, point) -> None:
    expected = whole(name, place).content
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


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_output_folder_removed(name: str, moment: str, place: Path, tmp_path: Path, point) -> None:
    rng = np.random.default_rng([8, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        with point("folder removed"):
            folder = tmp_path / str(k)
            ended = disturbed("gone", name, place, folder, rng.uniform(0, 1), moment)
            assert ended.plain, ended.err
            folder.mkdir(exist_ok=True)
            if not (ended.code in DONE and (folder / name).exists()):  # it was done before the folder went
                run_child(words_of(name, place, folder, "--resume", "--overwrite"), place / "log.txt")
            assert content(folder / name) == whole(name, place).content


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("name", COMMANDS)
def test_input_cut_while_it_is_read(name: str, moment: str, place: Path, tmp_path: Path, point) -> None:
    expected = whole(name, place).content
    good = {path: path.read_bytes() for path in (place / "in.npy", place / "short.npy")}
    rng = np.random.default_rng([9, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        folder = tmp_path / str(k)
        with point("input cut"):
            try:
                ended = disturbed("cut", name, place, folder, rng.uniform(0, 1), moment, tuple(good))
            finally:
                for path, data in good.items():
                    path.write_bytes(data)
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
    """The first one stands still at some event while the second one is started, and goes on when that has ended."""
    known = whole(name, place)
    rng = np.random.default_rng([10, *name.encode()])
    for k in range(max(1, POINTS // 2)):
        with point("two runs"):
            folder, reached, go = tmp_path / str(k), tmp_path / f"reached{k}", tmp_path / f"go{k}"
            words = words_of(name, place, folder, "--resume")
            fault = Fault(event=int(rng.uniform(0, 1) * known.events), act="paused", victims=(reached, go))
            first = start_child(words, tmp_path / "first.txt", fault)
            while not reached.exists() and first.is_alive():
                time.sleep(0.001)
            second = run_child(words, tmp_path / "second.txt")
            go.touch()
            first.join(60)
            said = (tmp_path / "first.txt").read_text()
            assert first.exitcode in DONE, said
            assert "Traceback" not in said
            assert second.plain, second.err
            if second.code not in DONE:
                assert second.code == 1, second.err
                assert "being written by another run" in second.err
            assert content(folder / name) == known.content
