"""Temporary files and half-done replacements of processes that were killed."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from stackalign.errors import DataError, OutputExistsError
from stackalign.io import _owner, _swap
from stackalign.io.atomic import (
    atomic_path,
    one_folder_sync,
    recover_path,
    replace_path,
    write_text_atomic,
)
from stackalign.io.images import write_images

# A process that ends itself at a chosen moment, as SIGKILL would.
KILLED_WRITER = """
import os, signal, sys
from pathlib import Path
from stackalign.io.atomic import atomic_path
with atomic_path(sys.argv[1]) as partial:
    if sys.argv[2] == "folder":
        partial.mkdir()
        (partial / "x").write_text("half")
    else:
        partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
# Replaces the folder "old" by "run/new" and is killed before the n-th step; one child process for each.
KILLED_SWAPS = """
import os, signal, sys
from pathlib import Path
from stackalign.io import _swap
def killed():
    os.kill(os.getpid(), signal.SIGKILL)
def after(function, count):
    def counted(*arguments, **options):
        after.left -= 1
        if after.left < 0:
            killed()
        return function(*arguments, **options)
    after.left = count
    return counted
folder = Path(sys.argv[1])
for exchange in (True, False):
    for step in range(6):
        case = folder / f"{exchange}-{step}"
        (case / "run" / "new").mkdir(parents=True)
        (case / "run" / "new" / "x").write_text("new")
        (case / "out").mkdir()
        (case / "out" / "x").write_text("old")
        pid = os.fork()
        if pid == 0:
            if not exchange:
                _swap._exchange = lambda first, second: False
            else:
                _swap._exchange = after(_swap._exchange, step)
            _swap._write_note = after(_swap._write_note, step)
            _swap._delete = after(_swap._delete, step)
            Path.rename = after(Path.rename, step)
            Path.unlink = after(Path.unlink, step)
            _swap.swap_paths(case / "run" / "new", case / "out")
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        print(case.name, os.WIFSIGNALED(status))
"""


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_a_killed_process_left_is_swept(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "p.csv"
    done = subprocess.run([sys.executable, "-c", KILLED_WRITER, str(target), kind], check=False)
    assert done.returncode == -9
    assert names(tmp_path)
    other = tmp_path / ".p.0badf00d-1-1-0.part.csv"  # of another host
    living = tmp_path / f".p.{_owner.owner_token()}.part.csv"
    foreign = tmp_path / ".notes.part.csv"
    other.write_text("theirs")
    living.write_text("ours")
    foreign.write_text("no temporary file")
    write_text_atomic(target, "whole")
    assert names(tmp_path) == sorted([other.name, living.name, foreign.name, "p.csv"])
    assert target.read_text() == "whole"


def test_long_names(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 120 + ".csv")
    write_text_atomic(target, "x")
    assert names(tmp_path) == [target.name]


def test_a_folder_of_many_files_is_not_read_for_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    real = os.listdir

    def listed(folder: Path) -> list[str]:
        read.append(folder)
        return real(folder)

    clock = [100.0]

    def tick() -> float:
        clock[0] += 0.5  # looking through the folder takes half a second
        return clock[0]

    monkeypatch.setattr(os, "listdir", listed)
    monkeypatch.setattr("stackalign.io.atomic._now", tick)
    for _ in range(10):
        write_text_atomic(tmp_path / "a.txt", "x")
    assert len(read) == 1
    clock[0] += 25
    write_text_atomic(tmp_path / "a.txt", "x")
    assert len(read) == 2


def test_the_same_output_is_written_twice_at_once(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic_path(target) as first:
        first.write_text("first")
        with atomic_path(target) as second:
            assert second != first
            second.write_text("second")
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert names(tmp_path) == ["a.txt"]


def test_a_number_that_was_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    token = _owner.owner_token()
    assert not _owner.is_left_behind(token)
    host, pid, start, count = token.split("-")
    assert _owner.is_left_behind(f"{host}-{pid}-{int(start) + 1}-{count}.csv")
    assert not _owner.is_left_behind(f"0badf00d-{pid}-{int(start) + 1}-{count}")
    assert not _owner.is_left_behind("notes.csv")
    # Without /proc only the number can be asked for.
    monkeypatch.setattr(_owner, "_start_time", lambda pid: None)
    assert not _owner.is_left_behind(f"{host}-{pid}-0-{count}")


def test_a_replacement_that_was_killed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLED_SWAPS, str(tmp_path)], check=True, capture_output=True, text=True
    )
    lines = dict(line.split() for line in done.stdout.splitlines())
    assert list(lines.values()).count("True") >= 6
    finished = 0
    for name in lines:
        case = tmp_path / name
        recover_path(case / "out")
        recover_path(case / "out")
        text = (case / "out" / "x").read_text()
        if text == "old":  # undone: the new one is where it was
            assert names(case) == ["out", "out/x", "run", "run/new", "run/new/x"]
            assert (case / "run" / "new" / "x").read_text() == "new"
            with pytest.raises(OutputExistsError):
                replace_path(case / "run" / "new", case / "out")
            replace_path(case / "run" / "new", case / "out", overwrite=True)
        else:
            finished += 1
        assert (case / "out" / "x").read_text() == "new"
        assert names(case) == ["out", "out/x", "run"]
    assert 2 <= finished < len(lines)


def test_a_new_run_in_the_place_of_the_old_output(tmp_path: Path) -> None:
    """A note that is still there must not cost what another run wrote under the same name since."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "x").write_text("of a new run")
    (tmp_path / "out").mkdir()
    token = _owner.owner_token().split("-")
    record = {
        "owner": f"{token[0]}-{token[1]}-1-0",
        "source": "run",
        "new": (tmp_path / "out").stat().st_ino,
        "old": (tmp_path / "run").stat().st_ino,  # the number was given again
        "old_time": 1,
    }
    _swap._write_note(tmp_path / ".out.swap", record)
    replace_path(tmp_path / "run", tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "x").read_text() == "of a new run"


def test_torn_note_and_living_owner(tmp_path: Path) -> None:
    note = tmp_path / ".out.swap"
    for text in ("", '{"owner": "0badf', "null", "3"):
        note.write_text(text)
        recover_path(tmp_path / "out")
        assert not note.exists()
    _swap._write_note(note, {"owner": _owner.owner_token()})
    with pytest.raises(DataError, match=r"is being replaced by another process .*; wait for it"):
        recover_path(tmp_path / "out")


@pytest.mark.parametrize("exchange", [True, False])
def test_a_failed_rename_puts_the_old_one_back(exchange: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("new", "old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text(name)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    def fail(first: Path, second: Path) -> bool:
        if exchange:
            raise OSError(errno.EACCES, "Permission denied")
        return False

    monkeypatch.setattr(_swap, "_exchange", fail)
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        replace_path(tmp_path / "new", tmp_path / "old", overwrite=True)
    assert names(tmp_path) == ["new", "new/x", "old", "old/x"]
    assert (tmp_path / "old" / "x").read_text() == "old"


def test_folders_are_made_durable_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def count(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))
        real(fd)

    monkeypatch.setattr(os, "fsync", count)
    with one_folder_sync(), one_folder_sync():
        for k in range(3):
            write_text_atomic(tmp_path / f"{k}.txt", "x")
        write_text_atomic(tmp_path / "picture.txt", "x", durable=False)
        assert str(tmp_path) not in synced
    assert synced.count(str(tmp_path)) == 1
    assert len(synced) == 4
    write_text_atomic(tmp_path / "0.txt", "y")
    assert synced.count(str(tmp_path)) == 2


def test_images_replace_a_store_in_one_step(tmp_path: Path) -> None:
    import zarr

    target = tmp_path / "mask.zarr"
    write_images(target, np.zeros((2, 5, 6), "u1"))
    with pytest.raises(OutputExistsError):
        write_images(target, np.ones((5, 6)))
    write_images(target, np.ones((5, 6)), overwrite=True)
    np.testing.assert_array_equal(zarr.open_array(target, mode="r")[...], np.ones((5, 6)))
    assert [p.name for p in tmp_path.iterdir()] == ["mask.zarr"]
